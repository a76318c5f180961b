"""How a command serves something, and who may reach it: nobody else, unless there is a token."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mriqa.errors import UserError

if TYPE_CHECKING:
    from fastapi import FastAPI

# Longer than a Retry-After: a client that comes back on the second must not find its connection being closed.
SECONDS_KEPT_OPEN = 75
SHORTEST_TOKEN = 16  # characters

Host = Annotated[str, typer.Option(help="Address to listen on. Any but this machine's own needs a token.")]
TokenFile = Annotated[
    Path | None,
    typer.Option(help="File with the token that clients must send. Default: the variable MRIQA_TOKEN, else none."),
]


class AccessError(UserError, ValueError):
    """Settings under which nothing is served, as one sentence naming the cure."""


def listen(app: FastAPI, host: str, port: int, seconds_to_finish: int) -> None:
    """Serve `app` until the command is stopped; what is under way then has `seconds_to_finish`."""
    import uvicorn

    uvicorn.run(
        app,
        host=host,
        port=port,
        access_log=False,
        timeout_keep_alive=SECONDS_KEPT_OPEN,
        timeout_graceful_shutdown=seconds_to_finish,
        server_header=False,
    )


def token_for(host: str, file: Path | None) -> str | None:
    """The token in a file, in MRIQA_TOKEN, or None. Raises AccessError, also where `host` needs one."""
    token = _token(file)
    if token is None and not _is_this_machine(host):
        raise AccessError(f"On {host} others can reach the service, so it needs a token: --token-file or MRIQA_TOKEN.")
    return token


def _token(file: Path | None) -> str | None:
    """The token in a file, in MRIQA_TOKEN, or None. Raises AccessError."""
    if file is None:
        token, where = os.environ.get("MRIQA_TOKEN"), "the variable MRIQA_TOKEN"
    else:
        try:
            token, where = file.read_text(encoding="utf-8").strip(), str(file)
        except (OSError, UnicodeDecodeError) as error:
            raise AccessError(f"The token file {file} cannot be read ({error}).") from error
    if token is None:
        return None
    if len(token) < SHORTEST_TOKEN or not token.isascii() or any(character.isspace() for character in token):
        raise AccessError(
            f"The token in {where} must have at least {SHORTEST_TOKEN} characters, ASCII and no spaces; "
            "`openssl rand -hex 32` makes a good one."
        )
    return token


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
