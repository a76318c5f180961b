"""The vLLM backend: one engine in this process, `LLM.chat` with pictures, answers held to the grammar.

Prefix caching reads the prompt's beginning once for all pictures, and continuous batching keeps the engine busy within
a call, so batches should be large. Tensor parallel is the engine's own. Data parallel is several workers on one output
(`mriqa score`, one per accelerator): vLLM's offline engine has none in a single process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mriqa.answers import AnswerFormat
from mriqa.scoring.backend import Generation, ModelSource, Wanted
from mriqa.scoring.reading import BackendError, Reading, first_line

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class VLLMBackend:
    """What a vLLM engine is asked, and the engine once it is started; see `describe` and `start`.

    Attributes:
        model: its folder.
        generation: what it is asked for.
        options: of `vllm.LLM`.
    """

    model: str
    generation: Generation
    options: Mapping[str, Any]
    engine: Any = None

    @classmethod
    def describe(
        cls,
        model: str,
        generation: Generation,
        *,
        dtype: str | Any = "auto",
        trust_remote_code: bool = False,
        tensor_parallel: int = 1,
        max_model_len: int | None = None,
        **engine_options: Any,
    ) -> VLLMBackend:
        """A backend whose engine is not started; `engine_options` go to `vllm.LLM` as they are."""
        options = {
            "dtype": dtype,
            "trust_remote_code": trust_remote_code,
            "tensor_parallel_size": tensor_parallel,
            "enable_prefix_caching": True,
            "limit_mm_per_prompt": {"image": 1},
            **engine_options,
        }
        if max_model_len is not None:
            options["max_model_len"] = max_model_len
        return cls(model, generation, options)

    def start(self) -> VLLMBackend:
        """The same with its engine started. Raises BackendError where vLLM is not installed or does not start."""
        try:
            from vllm import LLM
        except ImportError as error:
            raise BackendError(
                "The vLLM backend needs vLLM, which is not installed: pip install 'mriqa[vllm]'."
            ) from error
        try:
            return replace(self, engine=LLM(self.model, **self.options))
        except (RuntimeError, ValueError, OSError) as error:
            raise BackendError(f"vLLM does not start with {self.model}: {first_line(error)}") from error

    @property
    def readout_name(self) -> str:
        return self.generation.readout_name

    def read(self, pictures: Sequence[Image.Image], seed: int) -> list[Reading | str]:
        """One reading per picture, all of them in one call; see `mriqa.scoring.backend.Backend`."""
        from vllm.exceptions import VLLMValidationError
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        asked = [chat(self.generation.answer_format, picture) for picture in pictures]
        params = [self._params(seed + number) for number in range(len(pictures))]
        try:
            outputs = self.engine.chat(asked, params, use_tqdm=False)
        except (EngineDeadError, EngineGenerateError) as error:
            raise BackendError(f"The vLLM engine has died: {first_line(error)}") from error
        except (ValueError, VLLMValidationError) as error:
            if len(pictures) == 1:
                return [f"vLLM refuses this image: {first_line(error)}"]
            # One picture spoils the call: find it by asking about them one at a time.
            return [self.read([picture], seed + number)[0] for number, picture in enumerate(pictures)]
        return [self.generation.reading([answer.text for answer in output.outputs]) for output in outputs]

    def _params(self, seed: int) -> Any:
        from vllm import SamplingParams
        from vllm.platforms import current_platform
        from vllm.sampling_params import StructuredOutputsParams

        grammar = self.generation.grammar
        # On a CPU vLLM 0.31 dies of a seeded request whose prompt it reads in pieces; the engine's seed serves there.
        seeded = self.generation.temperature > 0 and not current_platform.is_cpu()
        return SamplingParams(
            n=self.generation.samples,
            temperature=self.generation.temperature,
            max_tokens=self.generation.max_new_tokens,
            seed=seed if seeded else None,
            structured_outputs=None if grammar is None else StructuredOutputsParams(regex=grammar),
        )


def open_backend(source: ModelSource, wanted: Wanted) -> VLLMBackend:
    """The engine started, unless the option `start` is False; the other options are those of `VLLMBackend.describe`.

    Raises ReadoutError for "expected", BackendError where vLLM does not start.
    """
    options = dict(source.options)
    start = options.pop("start", True)
    loading = {"dtype": source.dtype, "trust_remote_code": source.trust_remote_code, **options}
    described = VLLMBackend.describe(source.model, Generation.of(wanted, "vllm"), **loading)
    return described.start() if start else described


def chat(answer_format: AnswerFormat, picture: Image.Image) -> list[dict[str, Any]]:
    """The messages of `mriqa.scoring.prompts.conversation` as vLLM takes them, the image first."""
    messages: list[dict[str, Any]] = list(answer_format.messages())
    first_user = next(message for message in messages if message["role"] == "user")
    first_user["content"] = [
        {"type": "image_pil", "image_pil": picture},
        {"type": "text", "text": first_user["content"]},
    ]
    return messages
