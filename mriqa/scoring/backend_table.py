"""Every backend by name. A new one is a module with `open_backend(source, wanted) -> Backend`, and a line here."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from mriqa.models import PROBE_FILE, ModelError

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
    """

    module: str
    batch_size: int = 64
    options: tuple[str, ...] = ()
    holds_model: bool = True
    takes_head: bool = False


BACKENDS: dict[str, BackendEntry] = {
    "transformers": BackendEntry("mriqa.scoring.transformers_backend", batch_size=8, takes_head=True),
    "vllm": BackendEntry("mriqa.scoring.vllm_backend", options=("tensor_parallel",)),
    "server": BackendEntry(
        "mriqa.scoring.server_backend", options=("url", "concurrency", "timeout", "retries"), holds_model=False
    ),
    "probe": BackendEntry("mriqa.features.probe_backend", batch_size=8),
}
DEFAULT_BACKEND = "transformers"


def backend_entry(name: str) -> BackendEntry:
    """The backend of that name. Raises ValueError where there is none."""
    if name not in BACKENDS:
        raise ValueError(f"There is no backend {name!r}; choose one of {', '.join(BACKENDS)}.")
    return BACKENDS[name]


def backend_for(folder: Path, name: str) -> str:
    """The backend of that name, or the probe's where the folder is that of an encoder with a probe beside it.

    Raises ValueError where there is no such backend, ModelError where another is asked for than can read the folder.
    """
    backend_entry(name)
    if (folder / PROBE_FILE).is_file() == (name == "probe"):
        return name
    if name == DEFAULT_BACKEND:
        return "probe"
    if name == "probe":
        raise ModelError(f"{folder} holds no {PROBE_FILE}, which the probe backend reads: name another backend.")
    raise ModelError(f"{folder} is an encoder with a probe, which {name} does not run: leave the backend out.")


def open_backend(name: str, source: ModelSource, wanted: Wanted) -> Backend:
    """The backend of that name, ready to read.

    Raises ReadoutError where it cannot give the readout, BackendError where it does not start, ModelError.
    """
    return import_module(backend_entry(name).module).open_backend(source, wanted)
