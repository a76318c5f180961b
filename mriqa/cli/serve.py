"""`mriqa serve`: scores over HTTP."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Annotated

import typer

from mriqa.cli.errors import plain_errors, say
from mriqa.cli.options import (
    BatchSize,
    Crop,
    Device,
    Format,
    Model,
    Readout,
    Resize,
    Samples,
    Seed,
    Temperature,
    TrustRemoteCode,
    load_scorer,
)

SHORTEST_TOKEN = 16  # characters
SECONDS_TO_FINISH = 30


class ServeError(ValueError):
    """Settings under which the service won't start, as one sentence naming the cure."""


def serve(
    model: Model,
    host: Annotated[str, typer.Option(help="Address to listen on. Any but this machine's own needs a token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8008,
    token_file: Annotated[
        Path | None,
        typer.Option(help="File with the token that clients must send. Default: the variable MRIQA_TOKEN, else none."),
    ] = None,
    readout: Readout = "auto",
    batch_size: BatchSize = 8,
    device: Device = None,
    samples: Samples = 16,
    temperature: Temperature = 1.0,
    seed: Seed = 0,
    answer_format: Format = None,
    resize: Resize = None,
    crop: Crop = None,
    trust_remote_code: TrustRemoteCode = False,
    max_images: Annotated[int, typer.Option(min=1, help="Images in a request.")] = 16,
    max_file_mib: Annotated[int, typer.Option(min=1, help="Size of a file.")] = 16,
    max_request_mib: Annotated[int, typer.Option(min=1, help="Size of a request.")] = 64,
    max_pixels: Annotated[int, typer.Option(min=1, help="Width × height of an image.")] = 25_000_000,
    max_requests: Annotated[int, typer.Option(min=1, help="Requests under way at a time; more get a 429.")] = 256,
    max_held_mib: Annotated[int, typer.Option(min=1, help="Size of all requests under way; more get a 429.")] = 256,
) -> None:
    """Score images that are uploaded over HTTP.

    POST /score takes image files (multipart field [b]images[/b]); /health, /metrics and /docs tell about the service.
    Ctrl-C or SIGTERM lets the requests under way finish first.

    [b]Examples[/b]

      mriqa serve -m outputs/demo/model

      curl -F images=@photo.jpg -F images=@other.jpg http://127.0.0.1:8008/score

      mriqa serve -m outputs/demo/model --host 0.0.0.0 --token-file token.txt
    """
    try:
        import uvicorn

        from mriqa.serving.app import make_app
    except ImportError as error:
        say(f"Error: {error.name} is not installed, which the service needs: pip install 'mriqa[serve]'.")
        raise typer.Exit(2) from None

    from mriqa.serving.limits import MIB, Limits

    with plain_errors(ValueError):
        token = _token(token_file)
        if token is None and not _is_this_machine(host):
            raise ServeError(
                f"On {host} others can reach the service, so it needs a token: --token-file or MRIQA_TOKEN."
            )
        limits = Limits(
            images=max_images,
            file_bytes=max_file_mib * MIB,
            request_bytes=max_request_mib * MIB,
            pixels=max_pixels,
            requests=max_requests,
            held_bytes=max_held_mib * MIB,
        )
    with plain_errors():
        scorer = load_scorer(
            model,
            readout,
            batch_size,
            device,
            samples,
            temperature,
            seed,
            answer_format,
            resize,
            crop,
            trust_remote_code,
        )
    app = make_app(scorer, limits, token)
    uvicorn.run(
        app, host=host, port=port, access_log=False, timeout_graceful_shutdown=SECONDS_TO_FINISH, server_header=False
    )


def _token(file: Path | None) -> str | None:
    """The token in a file, in MRIQA_TOKEN, or None. Raises ServeError."""
    if file is None:
        token, where = os.environ.get("MRIQA_TOKEN"), "the variable MRIQA_TOKEN"
    else:
        try:
            token, where = file.read_text(encoding="utf-8").strip(), str(file)
        except (OSError, UnicodeDecodeError) as error:
            raise ServeError(f"The token file {file} cannot be read ({error}).") from error
    if token is None:
        return None
    if len(token) < SHORTEST_TOKEN or not token.isascii() or any(character.isspace() for character in token):
        raise ServeError(
            f"The token in {where} must have at least {SHORTEST_TOKEN} characters, ASCII and no spaces; "
            "`openssl rand -hex 32` makes a good one."
        )
    return token


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
