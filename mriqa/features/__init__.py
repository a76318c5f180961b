"""Features of pictures from frozen encoders: what selection, mixing and their reports work on.

    from mriqa.features import extract, load_encoder
    features_ND = extract([row.image for row in rows], load_encoder("lite0"), cache="outputs/features")

| encoder            | features                                                              | width | weights    |
|--------------------|-----------------------------------------------------------------------|-------|------------|
| `lite0`            | EfficientNet-Lite0, each stage from stride 4 on averaged, in a row    | 496   | installed  |
| `lite0_quality`    | mean and spread of the cell statistics of its middle stages           | 544   | installed  |
| `brisque`          | BRISQUE: fits to local contrasts and neighbours, at two sizes         | 36    | none       |
| `resnet50`         | ResNet-50, layers 1 to 4 averaged, in a row (as PreSTA does)          | 3,840 | downloaded |
| `swin_b`           | Swin-B, stages 1 to 4 averaged, in a row (PreSTA's default)           | 1,920 | downloaded |
| `resnet50_pooled`  | ResNet-50, the last layer averaged alone (content of Q-Diverse)       | 2,048 | downloaded |
| `swin_b_stage4`    | Swin-B, the last stage averaged alone (PreSTA's Table 6)              | 1,024 | downloaded |
| `lite0_stage4`     | EfficientNet-Lite0, the last stage averaged alone                     | 320   | installed  |
| `timm:NAME`        | any timm model that gives feature maps, in the same way               |       | downloaded |
| `vlm:FOLDER`       | what the language model of a VLM is shown of the picture, averaged    |       | its own    |
| `levels:FOLDER`    | logits of five quality levels, from the model's distribution of scores| 5     | its own    |
| `shamisa:FOLDER`   | what recipes/shamisa.py learned, of five crops at full and half size  |       | its own    |
| `FILE.py:FUNCTION` | a function of your own: a list of RGB pictures to an array (B, D)     |       |            |
"""

from __future__ import annotations

from mriqa.lazy import lazily

_EXPORTS = {
    "ENCODERS": "encoders",
    "Encoder": "encoder",
    "FeatureError": "encoder",
    "brisque_encoder": "brisque",
    "callable_encoder": "encoder",
    "extract": "extraction",
    "lite_encoder": "convolutional",
    "lite_quality_encoder": "convolutional",
    "load_encoder": "encoders",
    "timm_encoder": "convolutional",
    "vlm_encoder": "vlm",
}
__all__ = sorted(_EXPORTS)
__getattr__ = lazily(__name__, _EXPORTS)
