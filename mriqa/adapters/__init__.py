"""A trained scorer as the reward of other people's training, one function for each convention.

| function               | gives                                                   | for                     |
|------------------------|---------------------------------------------------------|-------------------------|
| `for_image_generation` | `f(images, prompts, metadata) -> (rewards, info)`       | ddpo-pytorch, flow_grpo |
| `for_trl`              | `f(prompts, completions, **columns) -> list[float]`     | TRL's GRPOTrainer       |
| `for_swift`            | an ORM class: `(completions, **columns) -> list[float]` | ms-swift's GRPO         |
| `for_verl`             | `compute_score(data_source, solution_str, …) -> dict`   | verl, verl-omni         |

A reward is (score − 1) / 4, so 0 (bad) to 1 (excellent). A picture that cannot be scored earns 0: never NaN, which
would spoil its whole group, and never something better than a bad picture. None of these libraries is imported.
"""

from typing import TYPE_CHECKING

from mriqa.lazy import lazily

if TYPE_CHECKING:
    from mriqa.adapters.completions import for_swift, for_trl
    from mriqa.adapters.image_generation import for_image_generation
    from mriqa.adapters.quality import QualityReward
    from mriqa.adapters.verl import for_verl

__all__ = ["QualityReward", "for_image_generation", "for_swift", "for_trl", "for_verl"]

_EXPORTS = {
    "QualityReward": "quality",
    "for_image_generation": "image_generation",
    "for_swift": "completions",
    "for_trl": "completions",
    "for_verl": "verl",
}
__getattr__ = lazily(__name__, _EXPORTS)
