"""A function of scores as a reward: parsing, columns, TRL's contract and the exact estimator's table come from here.

    def my_reward(scores_NG, mos_N, std_N): return (N, G) array

Its first parameter is `scores_NG`, the scores read off the answers, with NaN where an answer states none. It asks for
whatever else it needs by the parameter's name:

    mos_N        each image's human score
    std_N        standard deviation of its ratings, NaN where unknown
    means_N      mean of the image's predicted scores: of its G samples, or of the policy's distribution when exact
    variances_N  their variance, likewise

Any other parameter is an option of the reward. What the function returns where `scores_NG` is NaN doesn't count: an
answer without a score earns 0. The exact estimator has no samples and asks for the reward of each score that an answer
can state (G is their number then). So the reward of a score may depend on the other predicted scores by `means_N` and
`variances_N` only; a function that looks at its neighbours in `scores_NG` is refused there.

Legend: N images, G completions per image, S scores an answer can state, T scores of one trial.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from mriqa.answers import AnswerFormat

from .comparison import ComparisonSet, FloatArray, RewardError
from .pairwise import group_means, group_variances, warn_if_alone
from .score_table import every_score, moments

SCORES = "scores_NG"
INPUTS = ("mos_N", "std_N", "means_N", "variances_N")
TRIAL = 8


@dataclass(frozen=True)
class ScoreReward:
    """A function of scores with TRL's contract: a callable from completions and columns to one float each.

    Arguments:
        function: as above.
        answer_format: how the answers look.
        options: the function's own options, by name.
        name: what TRL logs it under.

    Raises:
        RewardError: the function has a parameter that is neither an input nor an option with a value.

    Example:
        >>> reward = ScoreReward(margin_reward, load_format("non_thinking"), {"scale": "unit"}, "margin_unit")
        >>> reward(
        ...     completions=["<answer>4.00</answer>", "<answer>2.00</answer>"], mos=[4.5, 2.5], image_id=["a", "b"]
        ... )
        [1.0, 1.0]

    Both answers are half a point too low, but their margin is exact. In a TRL script:
    `GRPOTrainer(reward_funcs=[reward], …)`.
    """

    function: Callable[..., npt.ArrayLike]
    answer_format: AnswerFormat
    options: Mapping[str, Any] = field(default_factory=dict)
    name: str = "reward"

    def __post_init__(self) -> None:
        for option, default in option_defaults(self.function).items():
            if default is inspect.Parameter.empty and option not in self.options:
                raise RewardError(
                    f"Reward {self.name!r} needs a value for {option!r}, which is none of {SCORES}, "
                    f"{', '.join(INPUTS)}: set it in --reward_options, or give it a default."
                )

    @property
    def __name__(self) -> str:
        """The name TRL logs it under."""
        return self.name

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """Those of `INPUTS` that the function asks for."""
        parameters = inspect.signature(self.function).parameters
        return tuple(name for name in INPUTS if name in parameters)

    @property
    def compares_images(self) -> bool:
        """Whether the reward of an image depends on what is predicted for others."""
        return "means_N" in self.inputs or "variances_N" in self.inputs

    def __call__(
        self,
        completions: Sequence[Any],
        mos: Any = None,
        image_id: Any = None,
        std: Any = None,
        answers: Any = None,
        **_: Any,
    ) -> list[float]:
        """Rewards in the order of `completions`; see `ComparisonSet.from_completions` for the columns.

        Without a column `image_id`, each completion counts as an image of its own where images aren't compared.
        """
        if image_id is None and not self.compares_images:
            image_id = range(len(completions))
        std = std if "std_N" in self.inputs else None
        group = ComparisonSet.from_completions(completions, mos, image_id, std, self.answer_format, answers)
        scores_NG, mos_N = group.scores_NG, group.mos_N
        std_N = np.full(len(mos_N), np.nan) if group.std_N is None else group.std_N
        returned_NG = self._evaluate(scores_NG, mos_N, std_N, group_means(scores_NG), group_variances(scores_NG))
        rewards_NG = self._zero_without_score(returned_NG, scores_NG, mos_N, group.image_ids)
        if self.compares_images and not rewards_NG.any():
            warn_if_alone(self.name, group)
        return group.per_completion(rewards_NG)

    def table(self, values_S: FloatArray, probs_NS: FloatArray, mos_N: FloatArray, std_N: FloatArray) -> FloatArray:
        """Reward (N, S) of every score beside images with the means and variances of `probs_NS`; see `score_table.py`.

        Raises:
            RewardError: as calling it does, or the reward of a score depends on the scores beside it.
        """
        scores_NS = every_score(values_S, mos_N)
        columns = (mos_N, std_N, *moments(values_S, probs_NS))
        returned_NS = self._evaluate(scores_NS, *columns)
        self._check_alone(returned_NS, scores_NS, *columns)
        return self._zero_without_score(returned_NS, scores_NS, mos_N, range(len(mos_N)))

    def _evaluate(self, scores_NG: FloatArray, *columns: FloatArray) -> FloatArray:
        """What the function returns, (N, G), for copies that are its own to overwrite; `columns` in order of INPUTS."""
        given = {name: values_N.copy() for name, values_N in zip(INPUTS, columns) if name in self.inputs}
        returned = self.function(scores_NG.copy(), **given, **self.options)
        try:
            rewards_NG = np.asarray(returned, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise RewardError(f"Reward {self.name!r} must return an array of numbers, but {error}.") from error
        if rewards_NG.shape != scores_NG.shape:
            raise RewardError(
                f"Reward {self.name!r} returned the shape {rewards_NG.shape} for scores of the shape "
                f"{scores_NG.shape}; return one number for each score."
            )
        return rewards_NG

    def _zero_without_score(
        self, returned_NG: FloatArray, scores_NG: FloatArray, mos_N: FloatArray, image_ids: Sequence[Any]
    ) -> FloatArray:
        stated_NG = ~np.isnan(scores_NG)
        broken = np.argwhere(stated_NG & ~np.isfinite(returned_NG))
        if len(broken):
            n, g = broken[0]
            raise RewardError(
                f"Reward {self.name!r} is {returned_NG[n, g]} for the score {scores_NG[n, g]:g} of image "
                f"{image_ids[n]!r}, whose human score is {mos_N[n]:g}; return a finite number for every score."
            )
        return np.where(stated_NG, returned_NG, 0.0)

    def _check_alone(self, returned_NS: FloatArray, scores_NS: FloatArray, *columns: FloatArray) -> None:
        """RewardError unless scores drawn as if they were sampled, one answer of each image without a score, get the
        rewards that they have among all scores."""
        n_images, n_scores = scores_NS.shape
        places_NT = np.random.default_rng(0).integers(n_scores, size=(n_images, TRIAL))
        drawn_NT = np.take_along_axis(scores_NS, places_NT, axis=1)
        drawn_NT[np.arange(n_images), np.arange(n_images) % TRIAL] = np.nan
        returned_NT = self._evaluate(drawn_NT, *columns)
        expected_NT = np.take_along_axis(returned_NS, places_NT, axis=1)
        differs_NT = ~np.isclose(returned_NT, expected_NT, rtol=1e-6, atol=1e-9, equal_nan=True)
        differing = np.argwhere(differs_NT & ~np.isnan(drawn_NT))
        if len(differing):
            n, t = differing[0]
            raise RewardError(
                f"Reward {self.name!r} gives the score {drawn_NT[n, t]:g} of one image {expected_NT[n, t]:g} or "
                f"{returned_NT[n, t]:g}, depending on the scores beside it, and the exact estimator has no samples: "
                "let it ask for means_N or variances_N instead, or use --estimator sampled."
            )


def option_defaults(function: Callable[..., Any]) -> dict[str, Any]:
    """The function's options with their defaults: `inspect.Parameter.empty` where there is none."""
    parameters = list(inspect.signature(function).parameters.values())[1:]
    named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return {p.name: p.default for p in named if p.name not in INPUTS}
