"""How much a client may ask for, and how much the service holds at a time."""

from __future__ import annotations

from dataclasses import dataclass, fields

from mriqa.errors import UserError

MIB = 2**20


class LimitsError(UserError, ValueError):
    """Limits under which nothing could be served, as one sentence naming the limit."""


@dataclass(frozen=True)
class Limits:
    """Whatever is over a limit is refused in one sentence. All are at least 1.

    Attributes:
        images: files in a request (413 above it).
        file_bytes: of one file (413).
        request_bytes: of a request's whole body (413).
        pixels: width × height of an image, known before it is decoded (422).
        requests: under way at a time, from their first byte to the answer (429).
        held_bytes: bodies of all requests under way together (429), so at least `request_bytes`.
        seconds: that a client may take to send its body (408).
    """

    images: int = 16
    file_bytes: int = 16 * MIB
    request_bytes: int = 64 * MIB
    pixels: int = 25_000_000
    requests: int = 256
    held_bytes: int = 256 * MIB
    seconds: float = 60.0

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 1:
                raise LimitsError(f"The limit {field.name} must be at least 1, not {getattr(self, field.name)}.")
        if self.held_bytes < self.request_bytes:
            raise LimitsError(
                f"held_bytes ({self.held_bytes:,}) must not be below request_bytes ({self.request_bytes:,}): "
                "the largest request would never be let in."
            )
