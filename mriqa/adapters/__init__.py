"""A scorer where people already are: as the reward of other people's training, and as a metric of other libraries.

| name                   | is                                                       | for                          |
|------------------------|----------------------------------------------------------|------------------------------|
| `for_image_generation` | `f(images, prompts, metadata) -> (rewards, info)`        | ddpo-pytorch, flow_grpo      |
| `for_trl`              | `f(prompts, completions, **columns) -> list[float]`      | TRL's GRPOTrainer            |
| `for_swift`            | an ORM class: `(completions, **columns) -> list[float]`  | ms-swift's GRPO              |
| `for_verl`             | `compute_score(data_source, solution_str, …) -> dict`    | verl, verl-omni              |
| `DifferentiableReward` | `f(images) -> rewards` with gradients to the pixels      | generators trained by them   |
| `register_with_pyiqa`  | makes `pyiqa.create_metric("mriqa")` work                | pyiqa                        |
| `MeanQuality`          | a `torchmetrics.Metric`                                  | torchmetrics                 |
| `evaluate_measurement` | a module whose file `evaluate.load` takes                | Hugging Face's evaluate      |
| `write_lmms_eval_task` | writes rated images as a task                            | lmms-eval                    |

A reward is (score − 1) / 4, so 0 (bad) to 1 (excellent). A picture that cannot be scored earns 0: never NaN, which
would spoil its whole group, and never something better than a bad picture. A metric gives scores, 1..5. No library is
imported before its adapter is used; docs/reach.md names versions and licences.
"""

from typing import TYPE_CHECKING

from mriqa.lazy import lazily

if TYPE_CHECKING:
    from mriqa.adapters.completions import for_swift, for_trl
    from mriqa.adapters.differentiable import DifferentiableReward
    from mriqa.adapters.image_generation import for_image_generation
    from mriqa.adapters.lmms_eval_task import write_lmms_eval_task
    from mriqa.adapters.pyiqa_metric import register_with_pyiqa
    from mriqa.adapters.quality import QualityReward
    from mriqa.adapters.torchmetrics_metric import MeanQuality
    from mriqa.adapters.verl import for_verl

__all__ = [
    "DifferentiableReward",
    "MeanQuality",
    "QualityReward",
    "for_image_generation",
    "for_swift",
    "for_trl",
    "for_verl",
    "register_with_pyiqa",
    "write_lmms_eval_task",
]

_EXPORTS = {
    "DifferentiableReward": "differentiable",
    "MeanQuality": "torchmetrics_metric",
    "QualityReward": "quality",
    "for_image_generation": "image_generation",
    "for_swift": "completions",
    "for_trl": "completions",
    "for_verl": "verl",
    "register_with_pyiqa": "pyiqa_metric",
    "write_lmms_eval_task": "lmms_eval_task",
}
__getattr__ = lazily(__name__, _EXPORTS)
