"""Self-supervised pretraining of a quality encoder on relation graphs over composed distortions.

After SHAMISA (arXiv 2603.13669). `recipes/shamisa.py` trains; docs/shamisa.md says what the paper leaves open and what
was chosen. The pieces, each usable alone:

| piece                                        | where                         |
|----------------------------------------------|-------------------------------|
| compositions and their images (§III-D)       | compositions.py, trajectories.py, distortion_types.py |
| tiny-batches out of a pool of pictures       | tiny_batches.py               |
| relation graphs, targets, mixture and losses | graphs/                       |
| what is trained, and the run                 | pretraining_objective.py, pretraining_run.py |
| the encoder, and the folder that keeps it    | quality_encoder.py            |
| quality read from its features, and kept     | probe.py, saved_probe.py      |
| t-SNE and UMAP of its features               | feature_maps.py               |
"""

from __future__ import annotations

from mriqa.lazy import lazily

_EXPORTS = {
    "Edges": "graphs.edges",
    "GraphSettings": "graphs.relations",
    "Layout": "graphs.layout",
    "assignments": "graphs.prototypes",
    "relation_edges": "graphs.relations",
    "relation_graphs": "graphs.relations",
    "shamisa_losses": "graphs.graph_losses",
    "sinkhorn": "graphs.prototypes",
}
__all__ = sorted(_EXPORTS)
__getattr__ = lazily(__name__, _EXPORTS)
