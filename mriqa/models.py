"""Load a vision-language model with its processor, and keep how to score with it (`mriqa.json`) beside its weights.

Scoring and training share this module, so a trained model is scored with the prompt it was trained on. Weights come
from safetensors files only, and code that ships with a model runs only where the caller asks for it by name.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mriqa.answers import AnswerFormat
from mriqa.embedded.packaged import DEFAULT_MODEL, default_model_folder
from mriqa.errors import UserError
from mriqa.files import write_json

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, ProcessorMixin

SETTINGS_FILE = "mriqa.json"
ADAPTER_FILE = "adapter_config.json"
ENCODER_FILE, PROBE_FILE = "shamisa.json", "probe.json"  # of a pretrained encoder, which scores by a probe beside it
CONORD_FILE = "conord.json"  # of a ConOrd model, which scores by itself
HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
FETCHED = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model", "*.py"]


class ModelError(UserError, ValueError):
    """A model that cannot be loaded, as one sentence naming the model and the cure."""


@dataclass(frozen=True)
class ScoringSettings:
    """How a saved model is scored: prompt and answer grammar, and the crops to average (`mriqa.views`)."""

    answer_format: AnswerFormat
    views: dict[str, Any] | None = None


def load_vlm(
    path: str | Path,
    dtype: str | torch.dtype = "auto",
    device: str | torch.device | None = None,
    trust_remote_code: bool = False,
    quantisation: Any = None,
) -> tuple[PreTrainedModel, ProcessorMixin]:
    """The model in eval mode on `device` and its processor, from a folder or a hub repository (image-text-to-text).

    A folder that holds a PEFT adapter loads its base model and merges the adapter into it. `device=None` takes the
    accelerator where there is one. `dtype="auto"` is float32 on CPU and the checkpoint's own type elsewhere.
    `quantisation` is a `transformers.BitsAndBytesConfig`, for models without an adapter on a CUDA device.
    Raises ModelError where there is no such model, or where its weights are missing, incomplete or not safetensors.
    """
    from mriqa.embedded import register

    register()
    device = usable_device(device)
    folder = model_folder(path)
    if (folder / ADAPTER_FILE).is_file():
        if quantisation is not None:
            raise ModelError(f"{path} is an adapter, which can't be merged into 4-bit weights: name its base model.")
        return _load_adapter(folder, dtype, device, trust_remote_code)

    resolved_dtype = "float32" if dtype == "auto" and device.type == "cpu" else dtype
    quantised = {} if quantisation is None else {"quantization_config": quantisation, "device_map": {"": device}}
    model = _load_model(folder, resolved_dtype, trust_remote_code, **quantised)
    processor = load_processor(folder, trust_remote_code)
    if quantisation is None:  # such a model is placed as it is loaded
        model.to(device)  # type: ignore[arg-type]  # its decorator hides that it takes a device
    return model.eval(), processor


def save_scoring_settings(
    directory: str | Path, answer_format: AnswerFormat, views: Mapping[str, Any] | None = None
) -> Path:
    """Write `mriqa.json` into a saved model's folder, so that `load_scoring_settings` and the Scorer find it there."""
    settings = {"answer_format": answer_format.to_dict(), "views": dict(views) if views else None}
    target = Path(directory) / SETTINGS_FILE
    write_json(settings, target, ensure_ascii=False)
    return target


def load_scoring_settings(folder: str | Path) -> ScoringSettings | None:
    """What `mriqa.json` in a model folder says; None where there is none. Raises ModelError where it is broken."""
    found = Path(folder) / SETTINGS_FILE
    if not found.is_file():
        return None
    try:
        settings = json.loads(found.read_text(encoding="utf-8"))
        return ScoringSettings(AnswerFormat.from_dict(settings["answer_format"]), settings.get("views"))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{found} is not a scoring settings file ({_one_line(error)}); write it again.") from error


def model_folder(path: str | Path, head: str | None = None) -> Path:
    """The folder of a saved model (adapter, probe, ConOrd model) or of the local copy of a hub repository, fetched if
    need be.

    "default" is the model that comes with the package, unless there is a folder of that name. Of a repository only
    settings and safetensors weights are fetched, its code where there is some (to be run only where asked for), and the
    folder of the `head` asked for. Raises ModelError where there is no such model.
    """
    folder = Path(path).expanduser()
    if path == DEFAULT_MODEL and not folder.is_dir():
        folder = default_model_folder()
        if not folder.is_dir():
            raise ModelError(
                "This installation lacks the model that comes with mriqa: install it again or name a model."
            )
    if not folder.exists() and isinstance(path, str) and HUB_NAME.fullmatch(path):
        folder = _fetch(path, head)
    if folder.is_file():
        raise ModelError(f"{path} is a file; give the folder of a saved model or a hub name.")
    if not folder.is_dir():
        raise ModelError(f"There is no model folder at {path}.")
    if (folder / ENCODER_FILE).is_file() and not (folder / PROBE_FILE).is_file():
        raise ModelError(
            f"{path} is a pretrained encoder without a probe: fit one with recipes/shamisa_probe.py --save true."
        )
    if not any((folder / name).is_file() for name in ("config.json", ADAPTER_FILE, PROBE_FILE, CONORD_FILE)):
        raise ModelError(f"{path} is not a saved model: it holds neither config.json nor {ADAPTER_FILE}.")
    return folder


def _fetch(name: str, head: str | None) -> Path:
    """The local copy of a hub repository; an earlier copy serves where the hub cannot be reached."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, allow_patterns=FETCHED, ignore_patterns=["*/*", "consolidated*"]))
        if head is not None:  # into the same folder, as that is named after the revision
            snapshot_download(name, revision=folder.name, allow_patterns=[f"{head}/*.json", f"{head}/*.safetensors"])
        return folder
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
        raise ModelError(
            f"There is no folder {name}, and no model of that name could be fetched from the hub "
            "(check the spelling, the network and your access rights)."
        ) from error


def usable_device(device: str | torch.device | None) -> torch.device:
    """The device asked for, or the accelerator where there is one. Raises ModelError where it is not there."""
    import torch

    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device is None:
        return torch.device(next((kind for kind, there in available.items() if there), "cpu"))
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ModelError(f"There is no device {device!r}; name cpu, cuda, cuda:1 or mps.") from error
    there = available.get(chosen.type, True)
    if not there or (chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count()):
        raise ModelError(f"The device {chosen} is not available here; use cpu.")
    return chosen


def load_processor(folder: Path, trust_remote_code: bool = False) -> ProcessorMixin:
    """The processor in a model's folder. Raises ModelError where there is none that takes images."""
    from transformers import AutoProcessor

    try:
        processor = AutoProcessor.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except Exception as error:  # transformers raises a dozen types here; each becomes the same one sentence
        raise ModelError(_why_not(folder, "processor", error)) from error
    if not (hasattr(processor, "tokenizer") and hasattr(processor, "image_processor")):
        raise ModelError(f"{folder} is not a vision-language model: its processor takes no images.")
    return processor


def _load_model(folder: Path, dtype: str | torch.dtype, trust_remote_code: bool, **options: Any) -> PreTrainedModel:
    from transformers import AutoModelForImageTextToText

    try:
        model_and_info: Any = AutoModelForImageTextToText.from_pretrained(
            folder,
            dtype=dtype,
            trust_remote_code=trust_remote_code,
            use_safetensors=True,
            output_loading_info=True,
            **options,
        )
    except Exception as error:  # as above
        raise ModelError(_why_not(folder, "model", error)) from error
    model, info = model_and_info
    if missing := sorted(info["missing_keys"]):
        raise ModelError(
            f"{folder} lacks {len(missing)} weights (the first is {missing[0]}); save or download it again."
        )
    return model


def _load_adapter(
    folder: Path, dtype: str | torch.dtype, device: torch.device, trust_remote_code: bool
) -> tuple[PreTrainedModel, ProcessorMixin]:
    """Load the base model an adapter folder names, merge the adapter into it, prefer the adapter's own processor."""
    from peft import PeftConfig, PeftModel

    if not (folder / "adapter_model.safetensors").is_file():
        raise ModelError(f"{folder} has no adapter_model.safetensors; pickled weights are not loaded.")
    base = PeftConfig.from_pretrained(str(folder)).base_model_name_or_path
    if not base:
        raise ModelError(f"{folder} does not name its base model: set base_model_name_or_path in {ADAPTER_FILE}.")
    model, processor = load_vlm(base, dtype, device, trust_remote_code)
    try:
        with warnings.catch_warnings():
            # PEFT only warns when weights are missing, and would score with random ones.
            warnings.filterwarnings("error", message="Found missing adapter keys")
            merged = PeftModel.from_pretrained(model, str(folder)).merge_and_unload()
    except (RuntimeError, ValueError, OSError, UserWarning) as error:
        raise ModelError(f"The adapter {folder} does not fit its base model {base}: {_one_line(error)}") from error
    saved = {path.name for path in folder.iterdir()}
    if "tokenizer_config.json" in saved and saved & {"processor_config.json", "preprocessor_config.json"}:
        processor = load_processor(folder, trust_remote_code)
    return merged.eval(), processor


def _why_not(folder: Path, part: str, error: Exception) -> str:
    """One sentence for the failures that users meet; anything else keeps the first line of the cause."""
    text = str(error)
    if "trust_remote_code" in text:
        return (
            f"{folder} needs code of its own to run; read that code, then ask for it with trust_remote_code "
            "(--trust-remote-code)."
        )
    if "safetensors" in text and isinstance(error, OSError):
        return f"{folder} has no safetensors weights; pickled weights are not loaded."
    if "Unrecognized configuration class" in text or "Unrecognized processing class" in text:
        return f"{folder} is not a vision-language model that transformers can load."
    return f"The {part} of {folder} could not be loaded: {_one_line(error)}"


def _one_line(error: Exception) -> str:
    """The first line of an error's text, as the tail of a sentence."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
