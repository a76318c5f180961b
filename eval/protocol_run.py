"""Run a protocol: every model predicts every picture once; predictions, measures and comparisons become results.json.

    run_protocol(load_protocol("embedded"), open_predictors(["default", "brisque"], load_scorer), "outputs/embedded")

The way: rows of each data set → audit against the training manifests → predictions of each model → `run_measures` →
results.json and report.html.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from PIL import Image

from mriqa.embedded.packaged import DEFAULT_MODEL, default_model_folder
from mriqa.errors import UserError
from mriqa.files import write_json, write_text
from mriqa.images import load_image
from mriqa.manifest import RatedImage

from .html_report.run_page import run_page
from .leak_check import check_training_manifests
from .predictors import Predictor
from .protocol_sets import LoadedSet, at_pixels, loaded_sets
from .protocols import Protocol
from .protocols.protocol import EMBEDDED
from .run_measures import Predicted, measure_run
from .stability import read_stability

RESULTS, REPORT = "results.json", "report.html"
FORMAT = 1
RECORDED = ("mriqa", "numpy", "scipy", "pillow", "torch", "transformers", "brisque", "pypiqe", "pyiqa")
"""Packages whose versions go into the results, where they are installed."""


class RunError(UserError, RuntimeError):
    """A protocol's run that cannot begin, as one sentence."""


def run_protocol(
    protocol: Protocol,
    predictors: Sequence[Predictor],
    out: str | Path,
    *,
    data: str | Path = "data",
    train: Sequence[Path] = (),
    leaks: str = "refuse",
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    overwrite: bool = False,
    image_root: str | Path | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Evaluate the models under the protocol, write results.json and report.html in `out`, return the results.

    Arguments:
        data: folder of the manifests that the protocol names by their data set, NAME.jsonl.
        train: manifests that the models were trained on, to be compared with the data sets.
        leaks: "refuse" where they share something, or "allow".
        resamples, confidence, seed: of the bootstrap.
        overwrite: replace the results of an earlier run.

    Raises:
        ProtocolError: a manifest is missing, or none of its rows belongs to the protocol.
        ManifestError: a manifest can't be read.
        LeakError: a training manifest shares pictures or contents with a data set.
        RunError: `out` holds results already, or can't be written.
        StabilityError: the stability.json beside a model is broken.
    """
    out = Path(out)
    if out.is_file():
        raise RunError(f"{out} is a file; --out names a folder for {RESULTS} and {REPORT}.")
    if not overwrite and (out / RESULTS).exists():
        raise RunError(f"{out / RESULTS} exists already; name another folder, or replace it with --overwrite.")
    stability = _stability(predictors)
    with loaded_sets(protocol, Path(data), image_root) as sets:
        audited = check_training_manifests(train, sets, leaks)
        predicted = [_predict(predictor, loaded, protocol, progress) for predictor in predictors for loaded in sets]
        results = {
            "format": FORMAT,
            "protocol": {"name": protocol.name, "identity": protocol.identity, **protocol.definition},
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "versions": recorded_versions(),
            "seed": seed,
            "resamples": resamples,
            "confidence": confidence,
            "audit": audited,
            "models": {predictor.name: predictor.about for predictor in predictors},
            "stability": stability,
            "runs": [_as_json(each, predictors, protocol, seed) for each in predicted],
            **measure_run(protocol, predicted, resamples=resamples, confidence=confidence, seed=seed),
        }
        pictures = {(loaded.rated_set.name, row.id): row.image for loaded in sets for row in loaded.rows}
        page = run_page(results, pictures)
    try:
        write_json(results, out / RESULTS)
        write_text(page, out / REPORT)
    except OSError as error:
        raise RunError(f"The results can't be written to {out}: {error.strerror or error}.") from error
    return results


def _predict(predictor: Predictor, loaded: LoadedSet, protocol: Protocol, progress: bool) -> Predicted:
    from mriqa.progress import with_progress

    sizes: dict[str, tuple[int, int]] = {}

    def open_picture(row: RatedImage) -> Image.Image:
        picture = at_pixels(load_image(row.image), protocol.pixels_of(loaded.rated_set))
        sizes[row.id] = picture.size
        return picture

    stream = predictor.predict(loaded.rows, open_picture)
    if progress:
        stream = with_progress(stream, total=len(loaded.rows))
    begun = time.perf_counter()
    predictions = list(stream)
    seconds = time.perf_counter() - begun
    return Predicted(predictor.name, loaded, predictions, [sizes.get(row.id) for row in loaded.rows], seconds)


def _stability(predictors: Sequence[Predictor]) -> dict[str, Any]:
    """What `mriqa stability` left beside the models, by their names in tables."""
    found = {}
    for predictor in predictors:
        model = predictor.about.get("model")
        folder = default_model_folder() if model == DEFAULT_MODEL else Path(str(model))
        stability = read_stability(folder) if model else None
        if stability is not None:
            found[predictor.name] = stability
    return found


def _as_json(each: Predicted, predictors: Sequence[Predictor], protocol: Protocol, seed: int) -> dict[str, Any]:
    about = next(predictor.about for predictor in predictors if predictor.name == each.model)
    rated_set = each.loaded.rated_set
    return {
        "model": each.model,
        "dataset": rated_set.name,
        "source": each.loaded.source,
        "split": rated_set.split,
        "label": rated_set.label,
        "pixels": dict(protocol.pixels_of(rated_set) or {}) or "as they are",
        "readout": about.get("readout"),
        "prompt_sha256": about.get("prompt_sha256"),
        "seed": about.get("seed", seed),
        "seconds_per_picture": each.seconds / len(each.predictions),
        "parse_failures": sum(math.isnan(prediction.score) for prediction in each.predictions),
        "predictions": [
            {
                "id": row.id,
                "image": str(row.image) if rated_set.name != EMBEDDED else row.image.name,
                "content": row.content,
                "distortion": distortion,
                "mos": row.mos,
                "mos_std": row.std,
                "score": prediction.score,
                "std": prediction.std,
                "size": size,
                "error": prediction.error,
                "text": prediction.text,
            }
            for row, distortion, prediction, size in zip(
                each.loaded.rows, each.loaded.distortions, each.predictions, each.sizes, strict=True
            )
        ],
    }


def recorded_versions() -> dict[str, str]:
    """The versions of the packages of `RECORDED` that are installed."""
    found = {}
    for package in RECORDED:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
