"""Ordinal heads: losses that lay embeddings out in the order of their ranks, and ranks by nearest neighbours.

    from mriqa.heads import RankIndex, ReferencePoints, conord_loss
    points = ReferencePoints(training_ranks, width=128)
    loss = conord_loss(embeddings, ranks) + points(embeddings, ranks)       # eq. 9
    ranks = RankIndex(training_embeddings, training_ranks).predict(embeddings, k=10)

| loss          | what it compares an anchor with                                     | source                    |
|---------------|---------------------------------------------------------------------|---------------------------|
| `conord_loss` | all others, attracting and repelling by rank gap; 13 weightings      | ConOrd, eq. 3, Table 14   |
| `center_loss` | a learnable reference point of its rank                             | ConOrd, eq. 8             |
| `mae_loss`    | all others, by expected rank error                                  | ConOrd, eq. 2             |
| `supcon_loss` | those of its rank against all others                                | Khosla et al., 2020       |
| `rnc_loss`    | each other against those farther in rank                            | Zha et al., 2023          |
| `ocl_loss`    | those of its rank against all others, pushed by label distance      | Baek et al., 2024         |

All take embeddings (B, D) and ranks (B,) or, for vector ranks such as gaze directions, (B, R); all compute in at least
float32 and hold nothing larger than (B, B). `LinearReading` reads ranks off embeddings by a linear layer, for
regression (L1, MSE) beside them.

`mriqa.conord.ConOrdModel` puts them to use on their own: a vision encoder trained with ConOrd by `recipes/conord.py`.
"""

from mriqa.gather import gather_batch
from mriqa.heads.center import ReferencePoints, center_loss, rank_bins
from mriqa.heads.inputs import HeadError
from mriqa.heads.linear_reading import LinearReading
from mriqa.heads.mae import mae_loss
from mriqa.heads.neighbours import RankIndex
from mriqa.heads.ocl import ocl_loss
from mriqa.heads.ordinal_contrast import conord_loss
from mriqa.heads.pairs import angular_gaps, l1_gaps, l2_gaps
from mriqa.heads.rnc import rnc_loss
from mriqa.heads.supcon import supcon_loss
from mriqa.heads.weightings import NAMES as WEIGHTING_NAMES
from mriqa.heads.weightings import LearnableWeighting, Weighting

__all__ = [
    "WEIGHTING_NAMES",
    "HeadError",
    "LearnableWeighting",
    "LinearReading",
    "RankIndex",
    "ReferencePoints",
    "Weighting",
    "angular_gaps",
    "center_loss",
    "conord_loss",
    "gather_batch",
    "l1_gaps",
    "l2_gaps",
    "mae_loss",
    "ocl_loss",
    "rank_bins",
    "rnc_loss",
    "supcon_loss",
]
