"""Who is let in, before a byte of the body is kept: the token, the size, and room for one more.

An ASGI middleware of its own, because a framework reads the whole body before any of its handlers is asked.
"""

from __future__ import annotations

import asyncio
import hmac
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from fastapi import HTTPException
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mriqa.serving.limits import Limits

OPEN_TO_ALL = "/health"  # no token needed, so that a load balancer can ask
UPLOAD = "/score"
SECONDS_TO_DRAIN = 5.0


@dataclass
class Occupancy:
    """What is under way: requests that upload or wait, and the bytes of their bodies, at most."""

    requests: int = 0
    held_bytes: int = 0


class Gate:
    """ASGI middleware. Refuses with 401, 408, 413 or 429, each time one sentence as `detail`.

    Args:
        app: what is behind the gate.
        limits, occupancy: what may be under way, and what is.
        token: to be sent as `Authorization: Bearer TOKEN`; None lets everybody in.
        seconds_per_request: lately, to say when to come again.
        finished: is told of every upload that ended: its status, its seconds.
        upload: the path that takes uploads; None where any may.
    """

    def __init__(
        self,
        app: ASGIApp,
        limits: Limits,
        occupancy: Occupancy,
        token: str | None,
        seconds_per_request: Callable[[], float],
        finished: Callable[[int, float], None],
        upload: str | None = UPLOAD,
    ) -> None:
        self.app, self.limits, self.occupancy = app, limits, occupancy
        self.token = None if token is None else token.encode()
        self.seconds_per_request, self.finished, self.upload = seconds_per_request, finished, upload

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif self.upload in (None, scope["path"]) and scope["method"] == "POST":
            await self._timed_upload(scope, receive, send)
        elif self._knows(scope) or scope["path"] == OPEN_TO_ALL:
            await self.app(scope, receive, send)
        else:
            await _refuse_unknown(scope, receive, send)

    async def _timed_upload(self, scope: Scope, receive: Receive, send: Send) -> None:
        started, status = time.perf_counter(), 500

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._upload(scope, receive, note_status)
        finally:
            self.finished(status, time.perf_counter() - started)

    async def _upload(self, scope: Scope, receive: Receive, send: Send) -> None:
        most = self.limits.request_bytes
        size = _announced_size(scope, most)
        if not self._knows(scope):
            await _drain(receive, most)
            await _refuse_unknown(scope, receive, send)
        elif size > most:
            await _drain(receive, most)
            detail = f"The request is too large: {size:,} bytes, and at most {most:,} are taken; send fewer images."
            await JSONResponse({"detail": detail}, 413)(scope, receive, send)
        elif self._is_full(size):
            await _drain(receive, most)
            wait = min(60, max(1, math.ceil(self.occupancy.requests * self.seconds_per_request())))
            detail = f"The queue is full; try again in {wait} s."
            await JSONResponse({"detail": detail}, 429, {"Retry-After": str(wait)})(scope, receive, send)
        else:
            self.occupancy.requests += 1
            self.occupancy.held_bytes += size
            try:
                await self.app(scope, _measured(receive, most, self.limits.seconds), send)
            finally:
                self.occupancy.requests -= 1
                self.occupancy.held_bytes -= size

    def _knows(self, scope: Scope) -> bool:
        if self.token is None:
            return True
        scheme, _, given = Headers(scope=scope).get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode("latin-1"), self.token)

    def _is_full(self, size: int) -> bool:
        held = self.occupancy.held_bytes + size
        return self.occupancy.requests >= self.limits.requests or held > self.limits.held_bytes


def _announced_size(scope: Scope, unknown: int) -> int:
    """The body's size in bytes by its Content-Length; `unknown` where it comes in chunks."""
    value = Headers(scope=scope).get("content-length", "")
    return int(value) if value.isascii() and value.isdigit() else unknown


def _measured(receive: Receive, most: int, seconds: float) -> Receive:
    """`receive` that raises once the body is longer than `most` bytes, or takes longer than that to come."""
    deadline, so_far, complete = time.monotonic() + seconds, 0, False

    async def limited() -> Message:
        nonlocal so_far, complete
        if complete:  # from here on it waits for the client to hang up
            return await receive()
        try:
            message = await asyncio.wait_for(receive(), max(0.0, deadline - time.monotonic()))
        except asyncio.TimeoutError:
            raise HTTPException(408, f"The body took longer than {seconds:g} s to arrive.") from None
        so_far += len(message.get("body", b""))
        complete = not message.get("more_body", False)
        if so_far > most:
            raise HTTPException(413, f"The request is too large: at most {most:,} bytes are taken; send fewer images.")
        return message

    return limited


async def _drain(receive: Receive, most: int) -> None:
    """Throw a body away, so that the client has sent it all and reads the refusal instead of a broken pipe."""

    async def read() -> None:
        left = most
        while left > 0:
            message = await receive()
            left -= len(message.get("body", b""))
            if not message.get("more_body", False):
                return

    try:
        await asyncio.wait_for(read(), SECONDS_TO_DRAIN)
    except asyncio.TimeoutError:
        return  # it is refused all the same


async def _refuse_unknown(scope: Scope, receive: Receive, send: Send) -> None:
    detail = "A token is needed: send the header `Authorization: Bearer TOKEN`."
    await JSONResponse({"detail": detail}, 401, {"WWW-Authenticate": "Bearer"})(scope, receive, send)
