"""The comparison set: what one reward call sees, gathered by image.

TRL hands a reward flat lists, one entry per completion, in any order. Rewards that compare images (see `margin.py`)
need them by image: the parsed scores of all completions of one image in one row, its human score beside it.

Legend: B completions, N images, G completions per image (the largest group; shorter ones are padded with NaN).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mriqa.answers import HIGHEST, LOWEST, Answer, AnswerFormat, completion_text, load_format
from mriqa.errors import UserError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]


class RewardError(UserError, ValueError):
    """A reward, its options or the columns it needs won't do."""


def resolve_format(mode: str = "non_thinking", answer_format: AnswerFormat | str | None = None) -> AnswerFormat:
    """The format to parse with: `answer_format` (object, name or YAML path) where given, else prompt `mode`."""
    if isinstance(answer_format, AnswerFormat):
        return answer_format
    try:
        return load_format(mode if answer_format is None else answer_format)
    except ValueError as error:
        raise RewardError(str(error)) from error


def read_answers(completions: Sequence[Any], answers: Any, answer_format: AnswerFormat) -> list[Answer]:
    """What each completion says (B): the column `answers` where the trainer has read them already, else read here.

    A data set's own column of that name holds something else than `Answer`s, and is not looked at.
    """
    if answers is not None and all(isinstance(answer, Answer) for answer in answers):
        return read_column("answers", answers, len(completions), "")
    return [answer_format.read(completion_text(completion)) for completion in completions]


def keep_valid(scores: npt.ArrayLike) -> FloatArray:
    """A float64 copy with NaN in place of every score outside 1..5."""
    scores = np.asarray(scores, dtype=np.float64)
    return np.where((scores >= LOWEST) & (scores <= HIGHEST), scores, np.nan)


def check_arrays(scores_NG: npt.ArrayLike, mos_N: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Scores and human scores as float64, with NaN for every score outside 1..5.

    Raises:
        RewardError: `scores_NG` is not two-dimensional, `mos_N` is not one value per row, or one of them is not finite.
    """
    scores_NG, mos_N = keep_valid(scores_NG), np.asarray(mos_N, dtype=np.float64)
    if scores_NG.ndim != 2 or mos_N.shape != scores_NG.shape[:1]:
        raise RewardError(
            f"'scores' must be (images, completions) and 'mos' (images,), not {scores_NG.shape} and {mos_N.shape}."
        )
    if not np.isfinite(mos_N).all():
        raise RewardError("'mos' holds NaN or infinity; every image needs a finite human score.")
    return scores_NG, mos_N


def read_column(name: str, values: Any, length: int, cure: str) -> list[Any]:
    """One dataset column as a list of `length` Python values; RewardError where it is absent or of another length.

    Arguments:
        name: the column's name, for the message.
        values: list, tuple, array or tensor; None where the dataset has no such column.
        length: how many completions there are.
        cure: the end of the message for an absent column.
    """
    if values is None:
        raise RewardError(f"The reward got no column '{name}': {cure}.")
    values = values.tolist() if hasattr(values, "tolist") else [getattr(v, "item", lambda v=v: v)() for v in values]
    if len(values) != length:
        raise RewardError(
            f"Column '{name}' has {len(values)} entries for {length} completions; give one per completion."
        )
    return values


def read_mos(mos: Any, length: int) -> FloatArray:
    """Human scores (B,); RewardError naming the first that is missing, NaN or infinite."""
    values = read_column("mos", mos, length, "add the human score of every image (1..5) to the dataset")
    mos_B = np.array([_as_float("mos", value) for value in values], dtype=np.float64)
    if not np.isfinite(mos_B).all():
        where = int(np.flatnonzero(~np.isfinite(mos_B))[0])
        raise RewardError(
            f"Column 'mos' holds {values[where]!r} for completion {where}; every image needs a finite human score."
        )
    return mos_B


def _as_float(name: str, value: Any) -> float:
    if value is None:
        return float("nan")
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise RewardError(f"Column '{name}' holds {value!r}, which is not a number.") from error


@dataclass(frozen=True)
class ComparisonSet:
    """The images one reward call compares, in order of first appearance.

    Attributes:
        image_ids: N image ids.
        completions: B completions as they came.
        scores_NG: parsed scores in 1..5; NaN where nothing parsed, and as padding of shorter groups.
        mos_N: human scores.
        std_N: rating standard deviations, NaN where unknown; None where the column is absent.
        image_of_B, place_of_B: row and column of every completion in `scores_NG`.
    """

    image_ids: list[Any]
    completions: list[Any]
    scores_NG: FloatArray
    mos_N: FloatArray
    std_N: FloatArray | None
    image_of_B: IntArray
    place_of_B: IntArray

    @classmethod
    def from_completions(
        cls,
        completions: Sequence[Any],
        mos: Any,
        image_id: Any,
        std: Any = None,
        answer_format: AnswerFormat | str = "non_thinking",
        answers: Any = None,
    ) -> ComparisonSet:
        """Group `completions` by image, with the scores they state.

        Arguments:
            completions: B chat-message lists or plain strings.
            mos, image_id, std: columns of length B; entries of one image must agree. `std` may be absent or hold None.
            answer_format: how an answer looks: an `AnswerFormat`, its name, or the path of its YAML file.
            answers: what each completion says (`mriqa.answers.Answer`), where that was read before.

        Raises:
            RewardError: a column is missing or of the wrong length, `mos` is not finite, or one image has two values.
        """
        length = len(completions)
        ids_B = read_column(
            "image_id", image_id, length, "add an id to every image, so that completions of one image are known"
        )
        if any(value is None for value in ids_B):
            raise RewardError(f"Column 'image_id' is empty for completion {ids_B.index(None)}; give every image an id.")
        row_of_id = {value: row for row, value in enumerate(dict.fromkeys(ids_B))}
        image_of_B = np.array([row_of_id[value] for value in ids_B], dtype=np.intp)
        image_ids = list(row_of_id)

        mos_N = _one_per_image("mos", read_mos(mos, length), image_of_B, image_ids)
        std_N = None
        if std is not None:
            std_B = np.array([_as_float("std", v) for v in read_column("std", std, length, "")], dtype=np.float64)
            std_N = _one_per_image("std", std_B, image_of_B, image_ids)

        sizes_N = np.zeros(len(image_ids), dtype=np.intp)
        place_of_B = np.empty(length, dtype=np.intp)
        for b, image in enumerate(image_of_B):
            place_of_B[b] = sizes_N[image]
            sizes_N[image] += 1

        scores_NG = np.full((len(image_ids), sizes_N.max(initial=0)), np.nan)
        answers_B = read_answers(completions, answers, resolve_format(answer_format=answer_format))
        scores_NG[image_of_B, place_of_B] = [answer.score for answer in answers_B]
        return cls(image_ids, list(completions), scores_NG, mos_N, std_N, image_of_B, place_of_B)

    def per_completion(self, values_NG: FloatArray) -> list[float]:
        """Values (N, G) as a list of B floats in the order the completions came."""
        return values_NG[self.image_of_B, self.place_of_B].tolist()


def _one_per_image(name: str, values_B: FloatArray, image_of_B: IntArray, image_ids: list[Any]) -> FloatArray:
    """The value of each image (N,), taken from its first completion; RewardError where another one disagrees."""
    _, first_of_N = np.unique(image_of_B, return_index=True)
    values_N = values_B[first_of_N]
    expected_B = values_N[image_of_B]
    differs_B = (values_B != expected_B) & ~(np.isnan(values_B) & np.isnan(expected_B))
    if differs_B.any():
        b = int(np.flatnonzero(differs_B)[0])
        raise RewardError(
            f"Image {image_ids[image_of_B[b]]!r} has two values of '{name}', {expected_B[b]:g} and {values_B[b]:g}; "
            "give each image one, or different images different ids."
        )
    return values_N
