"""Rewards for policies whose completions become pictures: the conventions of TRL and of ms-swift.

A language model makes a picture by writing it (SVG, a drawing program), by editing one (parameters of an enhancement)
or by calling a tool. `render` is the way from what it wrote to the picture, and the only thing to supply.

TRL 1.16, `GRPOTrainer._calculate_rewards`: `f(prompts=…, completions=…, completion_ids=…, **columns) -> list[float]`,
completions being conversations `[{"role": "assistant", "content": …}]` or strings; tested in a training run.
ms-swift 4.6.0, `swift/rewards/orm.py`: a class made as `orms[name](args=args)` and called as `(completions, **columns)
-> list[float]`, completions being strings; not run with the library, only the contract is tested.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mriqa.adapters.quality import QualityReward

if TYPE_CHECKING:
    from mriqa.scoring.scorer import Scorer

Render = Callable[[str, Mapping[str, Any]], Any]
"""`render(text, row) -> picture`: what a completion shows, `row` holding its prompt and its data set columns. Any form
of picture that `mriqa.adapters.quality.Pictures` names, or None where the text describes none (reward 0). What it
raises stops the training, so it has to expect nonsense from a policy that is only learning."""


def for_trl(scorer: Scorer, render: Render | None = None) -> Callable[..., list[float]]:
    """A function for `GRPOTrainer(reward_funcs=[…])`.

    Without `render`, the picture is the last one in the completion itself (`{"type": "image", "image": picture}` in a
    message's content), as it is where a tool returned one; a completion without a picture earns 0.

        def render(text, row):  # the policy chooses how strongly to sharpen
            return sharpen(row["image"], read_amount(text))

        GRPOTrainer(model, reward_funcs=[for_trl(scorer, render)], …)
    """
    reward = QualityReward(scorer)

    def image_quality(completions: Sequence[Any], **columns: Any) -> list[float]:
        if render is None:
            return reward([_last_picture(completion) for completion in completions]).tolist()
        rows = _rows(columns, len(completions))
        return reward([render(_text(one), row) for one, row in zip(completions, rows)]).tolist()

    return image_quality


def for_swift(scorer: Scorer, render: Render) -> type:
    """An ORM class for ms-swift's GRPO, to be registered in the file that `--external_plugins` names.

        from swift.rewards import orms
        orms["image_quality"] = for_swift(Scorer.from_pretrained("outputs/demo/model"), render)

    and `swift rlhf --rlhf_type grpo --reward_funcs image_quality …`.
    """
    function = for_trl(scorer, render)

    class ImageQuality:
        """(score − 1) / 4 of what a completion shows."""

        def __init__(self, args: Any = None, **_: Any) -> None:
            self.args = args

        def __call__(self, completions: Sequence[Any], **columns: Any) -> list[float]:
            return function(completions, **columns)

    return ImageQuality


def _rows(columns: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    """Columns to rows. What is no column (TRL hands over its state and its loggers, too) is left out."""
    lists = {
        name: values for name, values in columns.items() if isinstance(values, (list, tuple)) and len(values) == count
    }
    return [{name: values[number] for name, values in lists.items()} for number in range(count)]


def _text(completion: Any) -> str:
    """What the policy wrote: a string, or the contents of a conversation's messages together."""
    if isinstance(completion, str):
        return completion
    parts = [part for message in completion for part in _parts(message)]
    return "".join(part.get("text") or "" for part in parts if part.get("type") == "text")


def _last_picture(completion: Any) -> Any:
    if isinstance(completion, str):
        return None
    pictures = [part.get("image") for message in completion for part in _parts(message) if part.get("type") == "image"]
    return pictures[-1] if pictures else None


def _parts(message: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    content = message.get("content") or []
    return [{"type": "text", "text": content}] if isinstance(content, str) else content
