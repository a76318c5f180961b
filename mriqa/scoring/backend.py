"""Where a model's answers come from: transformers in this process, vLLM's engine, or an OpenAI-compatible server.

All of them get the same prompt (`mriqa.answers`, through the model's own chat template, the image first) and their
answers go through the same parser. A picture that a backend refuses is a sentence in the place of its reading and stops
nothing; a backend that is gone stops everything with a BackendError, since the pictures are not to blame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from mriqa.answers import AnswerFormat
from mriqa.scoring.generation import default_max_tokens
from mriqa.scoring.prompts import prompt_batch
from mriqa.scoring.reading import Reading, ReadoutError, first_line, read_answers
from mriqa.scoring.second_opinion import Head
from mriqa.shared_prefix import prompt_features

if TYPE_CHECKING:
    from PIL import Image
    from transformers import BatchFeature, PreTrainedModel, ProcessorMixin

BACKENDS = ("transformers", "vllm", "server")


class Backend(Protocol):
    """Asks a model about pictures."""

    @property
    def readout_name(self) -> str:
        """ "expected", "greedy" or "sample"."""
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
class TransformersBackend:
    """A model in this process, which reads the pictures as one batch; a head judges them by the same passes."""

    model: PreTrainedModel
    processor: ProcessorMixin
    answer_format: AnswerFormat
    readout: Readout
    head: Head | None = None

    @property
    def readout_name(self) -> str:
        return self.readout.name

    def read(self, pictures: Sequence[Image.Image], seed: int) -> list[Reading | str]:
        try:
            inputs = prompt_batch(self.processor, self.answer_format, pictures)
        except ValueError as error:
            if len(pictures) == 1:
                return [f"The model's processor refuses this image: {first_line(error)}"]
            # One picture spoils the batch (too thin a strip, say): find it by taking them one at a time.
            return [self.read([picture], seed + number)[0] for number, picture in enumerate(pictures)]
        inputs = inputs.to(self.model.device, dtype=self.model.dtype)
        if self.head is None:
            return list(self.readout.read(self.model, self.processor, inputs, seed))
        with prompt_features(self.model, self.head.pooling, inputs["input_ids"].shape[1]) as seen:
            readings = self.readout.read(self.model, self.processor, inputs, seed)
        # Where a prompt is sampled from several times, its rows stand side by side.
        features = seen.rows_RD[:: len(seen.rows_RD) // len(pictures)]
        opinions = self.head.scores(features.detach()).tolist()
        return [replace(reading, head_score=score) for reading, score in zip(readings, opinions, strict=True)]


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


def open_backend(
    name: str,
    model: str,
    answer_format: AnswerFormat,
    readout: str = "auto",
    *,
    samples: int = 16,
    temperature: float = 1.0,
    max_new_tokens: int | None = None,
    structured: bool = True,
    start: bool = True,
    **options: Any,
) -> Backend:
    """The backend "vllm" or "server", ready to read, unless vLLM is not to `start` here.

    "auto" is "greedy" with these, as neither hands out the probabilities of all scores. `options` are those of
    `VLLMBackend.describe` and `ServerBackend`. Raises ReadoutError for "expected", BackendError where it doesn't start.
    """
    if readout == "expected":
        raise ReadoutError(
            f"The {name} backend gives no probabilities of all scores, which the expected readout needs; "
            "use --readout greedy or sample, or --backend transformers."
        )
    if readout != "sample":
        samples, temperature = 1, 0.0
    longest = max_new_tokens or default_max_tokens(answer_format) * (2 if structured else 1)  # a token a character
    generation = Generation(answer_format, samples, temperature, longest, structured)
    if name == "vllm":
        from mriqa.scoring.vllm_backend import VLLMBackend

        described = VLLMBackend.describe(model, generation, **options)
        return described.start() if start else described
    from mriqa.scoring.server_backend import ServerBackend

    for meant_for_a_process in ("dtype", "trust_remote_code"):
        options.pop(meant_for_a_process, None)
    return ServerBackend(model, generation, **options)
