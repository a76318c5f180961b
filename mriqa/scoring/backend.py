"""What a backend and a readout are: the contracts, and what they are asked for.

Backends differ in where a model's answers come from: transformers in this process, vLLM's engine, or an
OpenAI-compatible server (`mriqa.scoring.backend_table`). All of them get the same prompt (`mriqa.answers`, through the
model's own chat template, the image first) and their answers go through the same parser. A picture that a backend
refuses is a sentence in the place of its reading and stops nothing; a backend that is gone stops everything with a
BackendError, since the pictures are not to blame.

Readouts differ in how a score is got out of a model in this process (`mriqa.scoring.readout_table`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from mriqa.answers import AnswerFormat
from mriqa.scoring.reading import Reading, ReadoutError, read_answers

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from transformers import BatchFeature, PreTrainedModel, ProcessorMixin

ANSWER_TOKENS, THINKING_TOKENS = 32, 1024


class Backend(Protocol):
    """Asks a model about pictures."""

    @property
    def readout_name(self) -> str:
        """ "expected", "greedy", "sample" or another name of `READOUTS`."""
        ...

    def read(self, pictures: Sequence[Image.Image], seed: int) -> list[Reading | str]:
        """For each picture its reading, or one sentence that says why the model refuses it.

        `seed` is that of the first picture's samples, the next picture's is one more. Raises BackendError.
        """
        ...


class Readout(Protocol):
    """How scores are got out of a model in this process: one reading per prompt."""

    @property
    def name(self) -> str: ...

    def read(
        self, model: PreTrainedModel, processor: ProcessorMixin, inputs_BT: BatchFeature, seed: int
    ) -> list[Reading]: ...


@dataclass(frozen=True)
class Wanted:
    """How a model's answers are wanted, whoever gives them.

    Attributes:
        answer_format: prompt and grammar.
        readout: a name of `READOUTS`, or "auto" for the best that there is.
        samples, temperature: answers per picture, for the readout "sample".
        max_new_tokens: of an answer; None for enough.
        structured: hold answers to the grammar; None for what the backend does by itself.

    Raises ValueError for a number out of range.
    """

    answer_format: AnswerFormat
    readout: str = "auto"
    samples: int = 16
    temperature: float = 1.0
    max_new_tokens: int | None = None
    structured: bool | None = None

    def __post_init__(self) -> None:
        for name, value in (("samples", self.samples), ("max_new_tokens", self.max_new_tokens or 1)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}.")
        if not self.temperature > 0:
            raise ValueError(
                f"temperature must be above 0, not {self.temperature}; for the most likely answer use greedy."
            )


@dataclass(frozen=True)
class ModelSource:
    """Where the model is, and how it is loaded; a backend on a server has no use for the latter.

    Attributes:
        model: its folder, or the name under which a server has it.
        device, dtype, trust_remote_code: see `mriqa.models.load_vlm`.
        head: a head beside the model for a second opinion; None for none.
        options: the backend's own.
    """

    model: str
    device: str | torch.device | None = None
    dtype: str | torch.dtype = "auto"
    trust_remote_code: bool = False
    head: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


def default_max_tokens(answer_format: AnswerFormat) -> int:
    """How many tokens an answer may take where nobody says: 32, or 1024 for formats that think."""
    return THINKING_TOKENS if answer_format.thinks else ANSWER_TOKENS


@dataclass(frozen=True)
class Generation:
    """What the backends that generate elsewhere are asked for.

    Attributes:
        answer_format: prompt and grammar.
        samples, temperature: answers per picture; temperature 0 is the one greedy answer.
        max_new_tokens: of an answer.
        structured: hold every answer to the grammar (`AnswerFormat.grammar`), so that all of them parse.
    """

    answer_format: AnswerFormat
    samples: int
    temperature: float
    max_new_tokens: int
    structured: bool = True

    @classmethod
    def of(cls, wanted: Wanted, backend: str) -> Generation:
        """What the `backend` of that name is asked for; "auto" is "greedy", and answers are held to the grammar.

        Raises ReadoutError for a readout that generated answers do not give.
        """
        if wanted.readout not in ("auto", "greedy", "sample"):
            raise ReadoutError(
                f"The {backend} backend gives no probabilities of all scores, which the {wanted.readout} readout "
                "needs; use --readout greedy or sample, or --backend transformers."
            )
        structured = wanted.structured is not False
        samples, temperature = (wanted.samples, wanted.temperature) if wanted.readout == "sample" else (1, 0.0)
        longest = default_max_tokens(wanted.answer_format) * (2 if structured else 1)  # a token a character
        return cls(wanted.answer_format, samples, temperature, wanted.max_new_tokens or longest, structured)

    @property
    def readout_name(self) -> str:
        return "sample" if self.temperature > 0 else "greedy"

    @property
    def grammar(self) -> str | None:
        """The regular expression that every answer has to match, or None where answers are free.

        Reasoning ends early enough for the rest to fit, a character of the template being at most a token.
        """
        room = self.max_new_tokens - len(self.answer_format.template) - 8
        return self.answer_format.grammar(max(1, room)) if self.structured else None

    def reading(self, texts: Sequence[str]) -> Reading:
        return read_answers(self.answer_format, texts)
