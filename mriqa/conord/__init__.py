"""ConOrd as a scorer: a vision or video encoder with an ordinal head, trained by `recipes/conord.py`."""

from mriqa.conord.model import ConOrdModel

__all__ = ["ConOrdModel"]
