"""The page as an application: behind the service's gate, with a password where others can reach it."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

import gradio as gr
from fastapi import FastAPI

from mriqa.page.page import CSS, THEME, make_page
from mriqa.serving.gate import Gate, Occupancy

if TYPE_CHECKING:
    from mriqa.scoring.scorer import Scorer
    from mriqa.serving.limits import Limits


def make_app(scorer: Scorer, limits: Limits, token: str | None = None) -> FastAPI:
    """The ASGI application that shows the page to those who know `token` (None: everybody), within `limits`.

    `limits.requests` bounds the events that wait for the model.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(
        Gate,
        limits=limits,
        occupancy=Occupancy(),
        token=None,  # the page has a form for it
        seconds_per_request=lambda: 1.0,
        finished=lambda status, seconds: None,
        upload=None,
    )

    def knows(name: str, password: str) -> bool:
        return token is not None and hmac.compare_digest(password.encode(), token.encode())

    return gr.mount_gradio_app(
        app,
        make_page(scorer, limits),
        path="/",
        auth=None if token is None else knows,
        auth_message="The password is the token with which this page was started; any user name will do.",
        theme=THEME,
        css=CSS,
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=limits.request_bytes,  # a file above its own limit gets its sentence, and the others their score
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
    )
