"""A probe beside the encoder whose features it reads, so that the folder scores pictures by itself.

`probe.json` says how pictures are looked at and what the probe learned from; `probe.safetensors` holds its weights.
`mriqa score --model FOLDER` reads both (`mriqa.features.probe_backend`).

Legend: F features of a crop at two sizes.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from mriqa.files import replacing, write_json
from mriqa.models import PROBE_FILE
from mriqa.pretrain.graphs.layout import PretrainError
from mriqa.pretrain.probe import RidgeProbe
from mriqa.pretrain.quality_encoder import encoder_folder

FORMAT = "mriqa-probe-1"
PROBE_WEIGHTS_FILE = "probe.safetensors"


@dataclass(frozen=True)
class SavedProbe:
    """A probe on the scale 1..5, and how to look at pictures for it.

    Attributes:
        probe: what reads the features of `mriqa.features.crop_features`, five crops at two sizes.
        encoder_key: that of the crop encoder whose features it learned from; another one's mean something else.
        crop: side of the crops in pixels.
        size, limit: resize pictures first, as `mriqa.views.ViewSettings`.
        learned_from: for people, such as data sets and numbers of pictures.
    """

    probe: RidgeProbe
    encoder_key: str
    crop: int
    size: int | None = None
    limit: int | None = None
    learned_from: dict[str, Any] = field(default_factory=dict)


def save_probe(saved: SavedProbe, folder: str | Path) -> Path:
    """Write the probe into its encoder's folder; the settings come last, so there is a probe only when it is whole.

    Raises:
        PretrainError: there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise PretrainError(f"There is no folder {folder} of an encoder to save a probe in.")
    with replacing(folder / PROBE_WEIGHTS_FILE) as temporary:
        arrays = {"weights": saved.probe.weights_F, "intercept": np.array([saved.probe.intercept])}
        save_file({name: np.ascontiguousarray(array, dtype=np.float64) for name, array in arrays.items()}, temporary)
    about = {name: value for name, value in asdict(saved).items() if name != "probe"}
    write_json({"format": FORMAT, "alpha": saved.probe.alpha, **about}, folder / PROBE_FILE, ensure_ascii=False)
    return folder / PROBE_FILE


def load_probe(source: str | Path) -> SavedProbe:
    """The probe in an encoder's folder or Hub repository. PretrainError where there is none, or a broken one."""
    folder = encoder_folder(source)
    try:
        about = json.loads((folder / PROBE_FILE).read_text(encoding="utf-8"))
        if about.get("format") != FORMAT:
            raise PretrainError(f"{folder / PROBE_FILE} is of format {about.get('format')!r}, not {FORMAT!r}.")
        arrays = load_file(folder / PROBE_WEIGHTS_FILE)
        weights_F, intercept = arrays["weights"], arrays["intercept"]
        if weights_F.ndim != 1 or intercept.shape != (1,) or not np.isfinite([*weights_F, *intercept]).all():
            raise ValueError("its weights are no line")
        probe = RidgeProbe(weights_F, float(intercept[0]), float(about["alpha"]))
        settings = {name: about[name] for name in ("encoder_key", "crop", "size", "limit", "learned_from")}
        return SavedProbe(probe, **settings)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        if isinstance(error, PretrainError):
            raise
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise PretrainError(
            f"{folder} holds no whole probe ({first}): fit one with recipes/shamisa_probe.py --save true."
        ) from error
