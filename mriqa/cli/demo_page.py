"""`mriqa demo`: a page to drop pictures on."""

from __future__ import annotations

import os
import tempfile
from typing import Annotated

import typer

from mriqa.cli.access import Host, TokenFile, listen, token_for
from mriqa.cli.exits import plain_errors, say, terminated_in_order
from mriqa.cli.options import ScorerOptions, takes_scorer

EVENTS = 64  # that wait for the model
SECONDS_TO_FINISH = 3


@takes_scorer
def demo(
    *,
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 7860,
    token_file: TokenFile = None,
    scorer: ScorerOptions,
    max_images: Annotated[int, typer.Option(min=1, help="Pictures at a time.")] = 16,
    max_file_mib: Annotated[int, typer.Option(min=1, help="Size of a file.")] = 16,
    max_pixels: Annotated[int, typer.Option(min=1, help="Width × height of a picture.")] = 25_000_000,
) -> None:
    """Show a page in the browser: drop pictures, compare their scores, distort them.

    It needs no network and fetches nothing. On any address but this machine's own it asks for the token as a password.

    [b]Examples[/b]

      mriqa demo

      mriqa demo -m outputs/demo/model --host 0.0.0.0 --token-file token.txt
    """
    with terminated_in_order(), tempfile.TemporaryDirectory(prefix="mriqa-demo-") as uploads:
        # Gradio reads these when it is imported.
        os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": uploads}
        try:
            import uvicorn  # noqa: F401

            from mriqa.page.server import make_app
        except ImportError as error:
            say(f"Error: {error.name} is not installed, which the page needs: pip install 'mriqa[page]'.")
            raise typer.Exit(2) from None

        from mriqa.serving.limits import MIB, Limits

        with plain_errors():
            token = token_for(host, token_file)
            file_bytes = max_file_mib * MIB
            limits = Limits(
                images=max_images,
                file_bytes=file_bytes,
                request_bytes=max_images * file_bytes,
                pixels=max_pixels,
                requests=EVENTS,
                held_bytes=4 * max_images * file_bytes,
            )
        with plain_errors():
            loaded = scorer.load()
        loaded.distributions = True
        listen(make_app(loaded, limits, token), host, port, SECONDS_TO_FINISH)
