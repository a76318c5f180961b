"""`mriqa serve`: scores over HTTP."""

from __future__ import annotations

from typing import Annotated

import typer

from mriqa.cli.access import Host, TokenFile, listen, token_for
from mriqa.cli.exits import plain_errors, say
from mriqa.cli.options import ScorerOptions, takes_scorer

SECONDS_TO_FINISH = 30


@takes_scorer
def serve(
    *,
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8008,
    token_file: TokenFile = None,
    scorer: ScorerOptions,
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
        import uvicorn  # noqa: F401

        from mriqa.serving.app import make_app
    except ImportError as error:
        say(f"Error: {error.name} is not installed, which the service needs: pip install 'mriqa[serve]'.")
        raise typer.Exit(2) from None

    from mriqa.serving.limits import MIB, Limits

    with plain_errors():
        token = token_for(host, token_file)
        limits = Limits(
            images=max_images,
            file_bytes=max_file_mib * MIB,
            request_bytes=max_request_mib * MIB,
            pixels=max_pixels,
            requests=max_requests,
            held_bytes=max_held_mib * MIB,
        )
    with plain_errors():
        loaded = scorer.load()
    listen(make_app(loaded, limits, token), host, port, SECONDS_TO_FINISH)
