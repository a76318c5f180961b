"""The default that needs no download: photographs, labels, and two tiny models.

`mriqa.training.embedded_preparation.prepare` builds all of it in a folder. `register` makes the embedded model's
architecture known to transformers; loading a model through `mriqa.models` does it by itself.
"""

from __future__ import annotations

from mriqa.lazy import lazily

_EXPORTS = {
    "DatasetSettings": "dataset",
    "build_dataset": "dataset",
    "build_tiny_fastvlm": "tiny_fastvlm",
    "build_tiny_qwen3_vl": "tiny_qwen3_vl",
    "register": "lite_tower",
}
__all__ = sorted(_EXPORTS)
__getattr__ = lazily(__name__, _EXPORTS)
