"""The scorer as a measurement of Hugging Face's `evaluate` (0.4.6, Apache-2.0).

    import evaluate
    from mriqa.adapters import evaluate_measurement

    quality = evaluate.load(evaluate_measurement.__file__, module_type="measurement")
    quality.compute(data=["a.jpg", "b.jpg"])  # {"scores": [3.52, 2.1], "mean_score": 2.81}
    quality.compute(data=["a.jpg"], model="outputs/demo/model")

`data` is paths, encoded bytes or Pillow images. `evaluate` copies this file to its cache and runs it from there, so all
imports are absolute.
"""

from __future__ import annotations

import math
from typing import Any

import datasets
import evaluate

from mriqa.embedded.packaged import DEFAULT_MODEL
from mriqa.scoring.scorer import Scorer

DESCRIPTION = "How good pictures look, from 1 (bad) to 5 (excellent), as a model of mriqa scores them; no references."
ARGUMENTS = """
Args:
    data: pictures: paths, encoded bytes or Pillow images.
    model: folder of a saved model or its name on the Hub. Default: the small model that comes with mriqa.
    options: of mriqa.Scorer.from_pretrained, such as device and readout.
Returns:
    scores: a score for each picture, NaN where there is none.
    mean_score: the mean of those that there are, NaN where there are none.
"""


class ImageQuality(evaluate.Measurement):
    """Scores of pictures and their mean."""

    def _info(self) -> evaluate.MeasurementInfo:
        return evaluate.MeasurementInfo(
            description=DESCRIPTION,
            citation="",
            inputs_description=ARGUMENTS,
            features=datasets.Features({"data": datasets.Image(decode=False)}),
            license="Apache-2.0",
        )

    def _compute(self, data: list[dict[str, Any]], model: str = DEFAULT_MODEL, **options: Any) -> dict[str, Any]:
        scorer = self._scorer(model, options)
        scores = [one.score for one in scorer.score([row["bytes"] or row["path"] for row in data])]
        found = [score for score in scores if not math.isnan(score)]
        return {"scores": scores, "mean_score": math.fsum(found) / len(found) if found else math.nan}

    def _scorer(self, model: str, options: dict[str, Any]) -> Scorer:
        """The scorer of the last call, where it is still the one that is wanted."""
        wanted = (str(model), options)
        if getattr(self, "_wanted", None) != wanted:
            self._loaded, self._wanted = Scorer.from_pretrained(model, **options), wanted
        return self._loaded
