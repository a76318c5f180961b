"""Gradio with uploads as the only way in.

Of itself it fetches a URL that a client names where a file should be; and mounted in another application, it reads and
hands out every file of this machine that a client names (6.31: the check is off unless Gradio was launched by itself).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder
from gradio_client.utils import is_file_obj_with_meta, is_http_url_like, traverse

from mriqa.page.judge import Upload, short_name


class UploadsOnly(gr.Blocks):
    """Blocks whose events take no file but one that was uploaded here before, and is still there."""

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], *arguments: Any, **options: Any) -> Any:
        """What a client sent as what the handlers get. Raises gradio.Error."""
        traverse(inputs, _check_upload, is_file_obj_with_meta)
        return await super().preprocess_data(block_fn, inputs, *arguments, **options)


def _check_upload(file: dict[str, Any]) -> dict[str, Any]:
    path = Path(file["path"]).resolve()
    if is_http_url_like(file["path"]) or not path.is_relative_to(Path(get_upload_folder()).resolve()):
        raise gr.Error("Only files that were dropped here are taken.", print_exception=False)
    if not path.is_file():
        raise gr.Error("A picture is no longer here: drop it again.", print_exception=False)
    return file


def upload_field(**options: Any) -> gr.File:
    """A field of several files, which its handlers get as a list of `Upload`.

    Gradio's own leaves an empty file behind at every event. This one field is changed and not its class, because for a
    class of its own Gradio would write a stub file beside this module.
    """
    field: Any = gr.File(file_count="multiple", **options)

    def to_uploads(payload: Any) -> list[Upload]:
        files = [] if payload is None else payload.root
        return [Upload(short_name(file.orig_name, number), Path(file.path)) for number, file in enumerate(files)]

    field.preprocess = to_uploads
    return field
