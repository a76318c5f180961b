"""The error of publishing."""


class HubError(ValueError):
    """A run that cannot be described or published, or a hub that refused, as one sentence with the cure."""
