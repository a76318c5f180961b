"""Every backend by name. A new one is a module with `open_backend(source, wanted) -> Backend`, and a line here."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from mriqa.models import CONORD_FILE, PROBE_FILE, ModelError

if TYPE_CHECKING:
    from mriqa.scoring.backend import Backend, ModelSource, Wanted


@dataclass(frozen=True)
class BackendEntry:
    """What has to be known of a backend before it is opened.

    Attributes:
        module: where its `open_backend(source, wanted)` is; imported only when it is used.
        batch_size: views at a time, where `mriqa score` is told no number.
        options: those of `mriqa score` that are the backend's own (`ModelSource.options`).
        holds_model: whether it loads a model folder; one that does not is given the model's name as it is.
        takes_head: whether a head can read the model's hidden states.
        marker: the file by which a folder is known as this backend's alone; "" for language models.
        reads: what such a folder is, in words.
    """

    module: str
    batch_size: int = 64
    options: tuple[str, ...] = ()
    holds_model: bool = True
    takes_head: bool = False
    marker: str = ""
    reads: str = ""


BACKENDS: dict[str, BackendEntry] = {
    "transformers": BackendEntry("mriqa.scoring.transformers_backend", batch_size=8, takes_head=True),
    "vllm": BackendEntry("mriqa.scoring.vllm_backend", options=("tensor_parallel",)),
    "server": BackendEntry(
        "mriqa.scoring.server_backend", options=("url", "concurrency", "timeout", "retries"), holds_model=False
    ),
    "probe": BackendEntry(
        "mriqa.features.probe_backend", batch_size=8, marker=PROBE_FILE, reads="an encoder with a probe"
    ),
    "conord": BackendEntry("mriqa.features.conord_backend", batch_size=8, marker=CONORD_FILE, reads="a ConOrd model"),
}
DEFAULT_BACKEND = "transformers"


def backend_entry(name: str) -> BackendEntry:
    """The backend of that name. Raises ValueError where there is none."""
    if name not in BACKENDS:
        raise ValueError(f"There is no backend {name!r}; choose one of {', '.join(BACKENDS)}.")
    return BACKENDS[name]


def own_backend(folder: Path) -> str | None:
    """The backend whose alone a folder is, by its marker; None for that of a language model, or no folder."""
    return next((name for name, entry in BACKENDS.items() if entry.marker and (folder / entry.marker).is_file()), None)


def backend_for(folder: Path, name: str) -> str:
    """The backend of that name, or the one whose alone the folder is.

    Raises ValueError where there is no such backend, ModelError where another is asked for than can read the folder.
    """
    wanted, own = backend_entry(name), own_backend(folder)
    if own == name or (own is None and not wanted.marker):
        return name
    if own is None:
        raise ModelError(f"{folder} holds no {wanted.marker}, which the {name} backend reads: name another backend.")
    if name == DEFAULT_BACKEND:
        return own
    raise ModelError(f"{folder} is {BACKENDS[own].reads}, which {name} does not run: leave the backend out.")


def open_backend(name: str, source: ModelSource, wanted: Wanted) -> Backend:
    """The backend of that name, ready to read.

    Raises ReadoutError where it cannot give the readout, BackendError where it does not start, ModelError.
    """
    return import_module(backend_entry(name).module).open_backend(source, wanted)
