"""`mriqa serve`: scores over HTTP."""

from __future__ import annotations

from typing import Annotated

import typer

from mriqa.cli.access import Host, TokenFile, token_for
from mriqa.cli.exits import plain_errors, say
from mriqa.cli.options import (
    BatchSize,
    Crop,
    Device,
    Format,
    Model,
    Readout,
    Resize,
    Samples,
    ScorerOptions,
    Seed,
    Temperature,
    TrustRemoteCode,
)
from mriqa.embedded.packaged import DEFAULT_MODEL

SECONDS_TO_FINISH = 30
# Longer than a Retry-After: a client that comes back on the second must not find its connection being closed.
SECONDS_KEPT_OPEN = 75


def serve(
    model: Model = DEFAULT_MODEL,
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8008,
    token_file: TokenFile = None,
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
    options = ScorerOptions.among(locals())
    try:
        import uvicorn

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
        scorer = options.load()
    app = make_app(scorer, limits, token)
    uvicorn.run(
        app,
        host=host,
        port=port,
        access_log=False,
        timeout_keep_alive=SECONDS_KEPT_OPEN,
        timeout_graceful_shutdown=SECONDS_TO_FINISH,
        server_header=False,
    )
