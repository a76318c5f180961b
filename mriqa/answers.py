"""What a model is asked and what its answer looks like: prompt modes, the answer grammar, text to score and back.

The only place that knows an answer's form; rewards, training and scoring all come here. A format is a small YAML file
(`mriqa/prompts/*.yaml`, or the user's own), so models trained elsewhere are scored with their prompt and grammar:
MR-IQA (Li et al., 2026), VisualQuality-R1 (Wu et al., arXiv 2505.14460), Q-Insight (Li et al., arXiv 2503.22679).

Our own modes:
    non_thinking  <answer>3.52</answer>
    thinking      <thinking>…</thinking><answer>{"rating": 3.52}</answer>
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import yaml

from mriqa.errors import UserError

LOWEST, HIGHEST = 1.0, 5.0
"""The common scale: every parsed score is on it."""

LONGEST_ANSWER = 200_000
"""Characters. A longer text is no answer; the limit bounds the work that a user's own pattern can cause."""

NUMBER = re.compile(r"(?:0|[1-9][0-9]{0,5})(?:\.[0-9]{1,15})?")
"""What a score may look like whatever the pattern lets through: plain ASCII decimals, no sign, no exponent, no NaN."""

MOST_SCORES = 20_000
"""As many scores may an answer choose from for its answers to be listed; three decimals on 1..5 are 4,001."""

PROMPTS_FOLDER = Path(__file__).parent / "prompts"


class AnswerFormatError(UserError, ValueError):
    """An answer format that is not there or cannot work, as one sentence naming the field or file and the cure."""


@dataclass(frozen=True)
class Answer:
    """What one text says: read once, and handed to whoever needs to know.

    Attributes:
        score: in 1..5, NaN where the text states none.
        well_formed: whether the whole text is one answer, its number in range or not.
        span: where in the text the score's characters begin and end; None where there is no score.
    """

    score: float
    well_formed: bool
    span: tuple[int, int] | None


NO_ANSWER = Answer(math.nan, False, None)
OUT_OF_RANGE = Answer(math.nan, True, None)


def completion_text(completion: object) -> str:
    """The text of one completion: a string, or chat messages whose content is a string or a list of text parts."""
    if completion is None or isinstance(completion, str):
        return completion or ""
    if isinstance(completion, dict):
        content = completion.get("content")
        if isinstance(content, list):
            return "".join(part.get("text") or "" for part in content if part.get("type", "text") == "text")
        return completion_text(content)
    if isinstance(completion, (list, tuple)):
        return "".join(completion_text(message) for message in completion)
    raise TypeError(
        f"A completion must be a string or a list of chat messages with 'content', not {type(completion).__name__}."
    )


@dataclass(frozen=True)
class AnswerFormat:
    """A prompt and the grammar of its answer.

    Arguments:
        name: what it is called in settings and messages.
        system: system prompt; empty for none.
        user: user prompt, put after the image.
        pattern: one regular expression for the whole answer, with a named group `score`. Matched with `re.ASCII`
            (so that `\\d` and `\\s` are ASCII) against the stripped text, and has to cover all of it.
        template: how to write an answer: `{score}` and, where the answer carries reasoning, `{thinking}`.
        low, high: the answer's own range, mapped linearly to 1..5 by `parse`.
        decimals: digits after the point that `format` writes.

    Raises:
        AnswerFormatError: a field has the wrong type or value, or `pattern` does not match what `template` writes.

    Example:
        >>> answer_format = load_format("thinking")
        >>> answer_format.format(3.517, thinking="A little soft.")
        '<thinking>A little soft.</thinking><answer>{"rating": 3.52}</answer>'
        >>> answer_format.parse('<thinking>A little soft.</thinking><answer>{"rating": 3.52}</answer>')
        3.52
        >>> answer_format.parse("about 3.52")
        nan
    """

    name: str
    system: str
    user: str
    pattern: str
    template: str
    low: float = LOWEST
    high: float = HIGHEST
    decimals: int = 2

    def __post_init__(self) -> None:
        for field in ("name", "system", "user", "pattern", "template"):
            if not isinstance(getattr(self, field), str):
                raise AnswerFormatError(f"Answer format {self.name!r}: '{field}' must be text.")
        for field in ("low", "high"):
            value = getattr(self, field)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise AnswerFormatError(
                    f"Answer format {self.name!r}: '{field}' must be a finite number, not {value!r}."
                )
        if not 0 <= self.low < self.high:
            raise AnswerFormatError(
                f"Answer format {self.name!r}: need 0 <= low < high, not {self.low} and {self.high}."
            )
        if type(self.decimals) is not int or not 0 <= self.decimals <= 15:
            raise AnswerFormatError(f"Answer format {self.name!r}: 'decimals' must be a whole number from 0 to 15.")
        if not self.user.strip():
            raise AnswerFormatError(f"Answer format {self.name!r}: 'user' is empty; it has to ask for a score.")
        if self.template.count("{score}") != 1:
            raise AnswerFormatError(f"Answer format {self.name!r}: 'template' must hold {{score}} exactly once.")
        try:
            groups = self._regex.groupindex
        except re.error as error:
            raise AnswerFormatError(
                f"Answer format {self.name!r}: 'pattern' is not a regular expression: {error}."
            ) from error
        if "score" not in groups:
            raise AnswerFormatError(f"Answer format {self.name!r}: 'pattern' needs a named group: (?P<score>…).")
        if math.isnan(self.parse(self.format(LOWEST))) or math.isnan(self.parse(self.format(HIGHEST))):
            raise AnswerFormatError(f"Answer format {self.name!r}: 'pattern' does not match what 'template' writes.")

    @cached_property
    def _regex(self) -> re.Pattern[str]:
        return re.compile(self.pattern, re.ASCII)

    def read(self, text: object) -> Answer:
        """What `text` says as an answer of this format. Never raises, whatever `text` is."""
        match = None
        if isinstance(text, str) and len(text) <= LONGEST_ANSWER:
            match = self._regex.fullmatch(text.strip())
        if match is None or not NUMBER.fullmatch(match["score"] or ""):
            return NO_ANSWER
        number = float(match["score"])
        if not self.low <= number <= self.high:
            return OUT_OF_RANGE
        if not self._is_common_scale:
            number = LOWEST + (HIGHEST - LOWEST) * (number - self.low) / (self.high - self.low)
        before = len(str(text)) - len(str(text).lstrip())
        return Answer(number, True, (before + match.start("score"), before + match.end("score")))

    def parse(self, text: object) -> float:
        """The score in 1..5, or NaN unless the whole stripped `text` is one well-formed answer within [low, high].

        Never raises, whatever `text` is.
        """
        return self.read(text).score

    def is_well_formed(self, text: object) -> bool:
        """Whether the whole stripped `text` is one answer of this format, its number in range or not."""
        return self.read(text).well_formed

    def format(self, score: float, thinking: str = "") -> str:
        """The answer that states `score` (1..5), rounded to `decimals`.

        Raises:
            ValueError: `score` is not within 1..5, or `thinking` has no place in the answer or would break its form.
        """
        if not LOWEST <= score <= HIGHEST:
            raise ValueError(f"A score must be within {LOWEST:g}..{HIGHEST:g} to be written as an answer, not {score}.")
        if thinking and not self.thinks:
            raise ValueError(f"Answer format {self.name!r} has no place for thinking.")
        value = float(score)
        if not self._is_common_scale:
            value = self.low + (value - LOWEST) / (HIGHEST - LOWEST) * (self.high - self.low)
        # The score goes in first: reasoning that itself says "{score}" must come out as it is.
        text = self.template.replace("{score}", f"{value:.{self.decimals}f}").replace("{thinking}", thinking)
        if thinking and not self.is_well_formed(text):
            raise ValueError(f"This thinking breaks the form of answer format {self.name!r}; take out its tags.")
        return text

    def grammar(self, longest_thinking: int = 2000) -> str:
        """A regular expression for constrained decoding: every text that it matches whole is an answer that parses.

        It holds the template, reasoning of 1 to `longest_thinking` ASCII characters (each at most one token) without
        "<" or line breaks, and the numbers within [low, high] of at most `decimals` digits after the point. Nothing but
        literals, classes, groups, "|", "?" and {n,m}: what the engines that take one have in common.
        """
        head, tail = self.template.split("{score}")
        numbers = f"({_number_pattern(self.low, self.high, self.decimals)})"
        thinking = f"[ -;=-~]{{1,{longest_thinking}}}"
        before, after = (_escaped(part).replace(_escaped("{thinking}"), thinking) for part in (head, tail))
        return before + numbers + after

    @property
    def thinks(self) -> bool:
        """Whether an answer carries reasoning."""
        return "{thinking}" in self.template

    @property
    def why_not_listed(self) -> str | None:
        """Why nothing can go through all answers of the format, as half a sentence; None where it can."""
        if self.thinks:
            return f"{self.name} answers think first"
        count = (self.high - self.low) * 10**self.decimals
        return f"{self.name} has {count:.0f} scores, more than {MOST_SCORES}" if count > MOST_SCORES else None

    def score_texts(self, any_length: bool = False) -> list[str]:
        """Every score of the format as it is written, lowest first: "1.00" … "5.00".

        With `any_length` also with fewer digits ("1", "1.0", "1.1", …), the shorter ones first.
        """
        lengths = range(self.decimals + 1) if any_length else [self.decimals]
        return [text for digits in lengths for text in _numbers(self.low, self.high, digits)]

    def all_answers(self, any_length: bool = False) -> list[str]:
        """The answer without reasoning that states each of `score_texts`, in the same order.

        With `any_length`, and where the format has no reasoning, these are all the texts that `grammar` matches.
        """
        return [self.template.replace("{score}", text) for text in self.score_texts(any_length)]

    def messages(self) -> list[dict[str, str]]:
        """The prompt as chat messages with plain text content; the image goes before the user's text."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, {"role": "user", "content": self.user}]

    def to_dict(self) -> dict[str, Any]:
        """All fields, fit for JSON; `from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> AnswerFormat:
        """The format with these fields; `system` may be left out. AnswerFormatError on missing or unknown ones."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(str(key) for key in settings if key not in known):
            raise AnswerFormatError(f"An answer format has no field {unknown[0]!r}; it has {', '.join(sorted(known))}.")
        if missing := sorted({"name", "user", "pattern", "template"} - set(settings)):
            raise AnswerFormatError(f"An answer format needs the field {missing[0]!r}.")
        return cls(**{"system": "", **settings})

    @property
    def _is_common_scale(self) -> bool:
        return (self.low, self.high) == (LOWEST, HIGHEST)


@cache
def format_names() -> tuple[str, ...]:
    """Names that `load_format` knows without a file."""
    return tuple(sorted(path.stem for path in PROMPTS_FOLDER.glob("*.yaml")))


def load_format(name_or_path: str | Path) -> AnswerFormat:
    """The bundled format of that name ("non_thinking", "thinking", "visualquality_r1", …), or the one in a YAML file.

    The YAML file holds the fields of `AnswerFormat`; `name` defaults to the file's own name.
    Raises AnswerFormatError where there is no such format, or where the file does not hold one.
    """
    if name_or_path in format_names():
        return _load_bundled(str(name_or_path))
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        raise AnswerFormatError(
            f"There is no answer format {str(name_or_path)!r}: use one of {', '.join(format_names())}, or a .yaml file."
        )
    return _load_yaml(path)


def parse(text: object, mode: str = "non_thinking") -> float:
    """The score in 1..5 that `text` states in the given mode, NaN where it is not one well-formed answer."""
    return load_format(mode).parse(text)


def format_answer(score: float, mode: str = "non_thinking", thinking: str = "") -> str:
    """The answer that states `score` (1..5) in the given mode; ValueError outside that range."""
    return load_format(mode).format(score, thinking)


def _numbers(low: float, high: float, digits: int) -> list[str]:
    """Every number in [low, high] with exactly `digits` digits after the point, lowest first."""
    unit = 10**digits
    steps = range(math.ceil(Fraction(str(low)) * unit), math.floor(Fraction(str(high)) * unit) + 1)
    return [f"{step / unit:.{digits}f}" for step in steps]


def _number_pattern(low: float, high: float, decimals: int) -> str:
    """A regular expression for the numbers with 0 to `decimals` digits after the point, however many they are."""
    unit = 10**decimals
    lowest, highest = math.ceil(Fraction(str(low)) * unit), math.floor(Fraction(str(high)) * unit)
    wholes: dict[str, list[str]] = {}  # by what may follow them
    for whole in range(lowest // unit, highest // unit + 1):
        behind = _optional_digits(lowest - whole * unit, highest - whole * unit, decimals, r"\.")
        wholes.setdefault(behind, []).append(str(whole))
    return "|".join(f"({'|'.join(each)}){behind}" for behind, each in wholes.items())


def _optional_digits(lowest: int, highest: int, places: int, before: str = "") -> str:
    """A pattern for at most `places` digits, behind `before`, which zeros fill up to a number in [lowest, highest].

    No digits and no `before` count as well where zeros alone are such a number.
    """
    unit = 10**places
    lowest, highest = max(lowest, 0), min(highest, unit - 1)
    if places == 0:
        return ""
    if highest == 0:
        digits = f"0{{1,{places}}}"
    elif (lowest, highest) == (0, unit - 1):
        digits = f"[0-9]{{1,{places}}}"
    else:
        step = unit // 10
        firsts = range(lowest // step, highest // step + 1)
        each = (f"{d}{_optional_digits(lowest - d * step, highest - d * step, places - 1)}" for d in firsts)
        digits = f"({'|'.join(each)})"
    return f"({before}{digits}){'?' if lowest == 0 else ''}"


def _escaped(text: str) -> str:
    """`text` as a regular expression, escaping only what has a meaning there."""
    return re.sub(r"([\\.^$*+?{}\[\]|()])", r"\\\1", text)


@cache
def _load_bundled(name: str) -> AnswerFormat:
    return _load_yaml(PROMPTS_FOLDER / f"{name}.yaml")


def _load_yaml(path: Path) -> AnswerFormat:
    if not path.is_file():
        raise AnswerFormatError(f"The answer format file {path} does not exist.")
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise AnswerFormatError(f"The answer format file {path} is not readable YAML: {reason}.") from error
    if not isinstance(settings, dict):
        raise AnswerFormatError(
            f"The answer format file {path} must hold fields such as 'user', 'pattern' and 'template'."
        )
    try:
        return AnswerFormat.from_dict({"name": path.stem, **settings})
    except AnswerFormatError as error:
        raise AnswerFormatError(f"In the answer format file {path}: {error}") from error
