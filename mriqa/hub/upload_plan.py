"""Which files of a run are uploaded: those on the list below and no others, and each looked into first.

Checkpoints, optimiser states, logs, settings files, pickles and whatever else lies in the folder stay where they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from mriqa.hub.run import CARD_FILE, HubError, Run, origin_of
from mriqa.models import ADAPTER_FILE, SETTINGS_FILE, ModelError, load_vlm, save_scoring_settings
from mriqa.scoring.certainty import CALIBRATION_FILE, Calibration

CARD, WEIGHTS, CONFIG, TOKENIZER, SCORING, PLOT = "card", "weights", "config", "tokenizer", "how to score", "plot"
INDEX_FILE = "model.safetensors.index.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
KINDS = {
    INDEX_FILE: WEIGHTS,
    "config.json": CONFIG,
    "generation_config.json": CONFIG,
    ADAPTER_FILE: CONFIG,
    SETTINGS_FILE: SCORING,
    CALIBRATION_FILE: SCORING,
    "processor_config.json": CONFIG,
    "preprocessor_config.json": CONFIG,
    "video_preprocessor_config.json": CONFIG,
    "chat_template.jinja": TOKENIZER,
    "chat_template.json": TOKENIZER,
    "tokenizer.json": TOKENIZER,
    "tokenizer_config.json": TOKENIZER,
    "tokenizer.model": TOKENIZER,
    "special_tokens_map.json": TOKENIZER,
    "added_tokens.json": TOKENIZER,
    "vocab.json": TOKENIZER,
    "vocab.txt": TOKENIZER,
    "merges.txt": TOKENIZER,
}
"""Files of a model's folder that are uploaded beside *.safetensors, and what each is."""
PLOTS = {
    "scatter.png": "Predicted against human scores",
    "training_curve.png": "Training curve",
}
"""Files of a run's folder that are uploaded, and what they show."""


@dataclass(frozen=True)
class Upload:
    """One file to upload: its name in the repository, what it is, and its content as a file here or as bytes."""

    name: str
    kind: str
    content: Path | bytes

    @property
    def size(self) -> int:
        """In bytes."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size


@dataclass(frozen=True)
class Plan:
    """What is uploaded, and the names of what lies beside it and is not."""

    uploads: list[Upload]
    left_out: list[str]


def plan_upload(run: Run, card: str, model: Path | None = None) -> Plan:
    """Every file that a push of the run uploads; `model` replaces its model's folder (see `merged_model`).

    Raises HubError where weights are missing, broken or not safetensors, or where an adapter's base model is a folder
    of this machine.
    """
    folder = model or run.model
    uploads = [Upload("README.md", CARD, card.encode())]
    left_out = []
    for path in sorted(folder.iterdir()):
        kind = WEIGHTS if path.suffix == ".safetensors" else KINDS.get(path.name)
        if kind is None or path.is_symlink() or not path.is_file():
            left_out.append(f"{run.model.name}/{path.name}{'/' if path.is_dir() else ''}")
        else:
            uploads.append(Upload(path.name, kind, path))
    for path in sorted(run.folder.iterdir()):
        if path.name in PLOTS and path.is_file() and not path.is_symlink():
            uploads.append(Upload(path.name, PLOT, path))
        elif path.name != CARD_FILE and path != run.model and not path.name.startswith(".merging-"):
            left_out.append(f"{path.name}{'/' if path.is_dir() else ''}")
    _check_weights(folder, uploads)
    return Plan([_with_public_base(upload, run) for upload in uploads], left_out)


@contextmanager
def merged_model(run: Run) -> Iterator[Path]:
    """A folder with the adapter merged into its base model, in the run's own folder, gone at the end of the block.

    The base model is fetched where it is a hub name and not here yet. Raises HubError where there is nothing to merge,
    or where the base model cannot be loaded.
    """
    if not run.is_adapter:
        raise HubError(f"{run.folder} holds whole weights and no adapter; leave out --merge.")
    with TemporaryDirectory(prefix=".merging-", dir=run.folder) as folder:
        try:
            model, processor = load_vlm(run.model, dtype=run.settings.get("dtype", "auto"), device="cpu")
        except ModelError as error:
            raise HubError(f"The adapter cannot be merged: {error}") from error
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
        save_scoring_settings(folder, run.answer_format, run.views)
        if (calibration := Calibration.load(run.model)) is not None:
            calibration.save(folder)
        yield Path(folder)


def _check_weights(folder: Path, uploads: list[Upload]) -> None:
    """Open each weight file: a header that doesn't fit is a pickle with another name, or half a file."""
    from safetensors import SafetensorError, safe_open

    names = {upload.name for upload in uploads}
    weights = [name for name in sorted(names) if name.endswith(".safetensors")]
    expected = {ADAPTER_WEIGHTS} if ADAPTER_FILE in names else set()
    if INDEX_FILE in names:
        expected = set(json.loads((folder / INDEX_FILE).read_text(encoding="utf-8"))["weight_map"].values())
    if not weights or not expected <= names:
        missing = min(expected - names, default="model.safetensors")
        raise HubError(f"{folder} lacks {missing}: only safetensors weights are uploaded; save the model again.")
    for name in weights:
        try:
            with safe_open(folder / name, framework="np") as opened:
                opened.keys()
        except (SafetensorError, OSError) as error:
            raise HubError(f"{folder / name} is no whole safetensors file; save the model again.") from error


def _with_public_base(upload: Upload, run: Run) -> Upload:
    """An adapter's config names the folder its base model was loaded from; the hub needs the model's public name."""
    if upload.name != ADAPTER_FILE:
        return upload
    origin = origin_of(run)
    if origin.hub_name is None or len(origin.stages) > 1:
        raise HubError(
            f"The adapter in {run.folder} belongs to a base model in a folder of this machine, which others do not "
            "have: push merged weights with --merge."
        )
    config = {**run.adapter_config, "base_model_name_or_path": origin.hub_name}
    return Upload(upload.name, upload.kind, (json.dumps(config, indent=2) + "\n").encode())
