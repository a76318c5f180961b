"""The base of every refusal that a person reads: one sentence that names the thing and the cure.

Commands and recipes catch `UserError`, print its sentence and exit with 2; whatever else is raised is a fault of ours
and comes with its traceback. Imports nothing of ours.
"""

from __future__ import annotations


class UserError(Exception):
    """Input, settings or surroundings that won't do, as one sentence with the cure."""


class SettingsError(UserError, ValueError):
    """Settings or data that cannot train, as one sentence that names the setting and the cure."""
