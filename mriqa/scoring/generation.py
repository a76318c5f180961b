"""The readouts "greedy" and "sample": let the model write its answer and parse it.

Legend: B prompts, K answers to each, T tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch

from mriqa.answer_grammar import AnswerGrammar
from mriqa.answers import AnswerFormat
from mriqa.scoring.backend import Wanted, default_max_tokens
from mriqa.scoring.reading import Reading, read_answers

if TYPE_CHECKING:
    from transformers import (
        BatchFeature,
        GenerationConfig,
        PreTrainedModel,
        PreTrainedTokenizerBase,
        ProcessorMixin,
    )


@dataclass(frozen=True)
class GenerationReadout:
    """Generate `samples` answers at `temperature` (0: the one greedy answer) of at most `max_new_tokens` tokens.

    Sampling is from the model's plain distribution: its saved top-k, top-p and repetition penalty are not applied.
    `structured` holds answers to the grammar (`mriqa.answer_grammar`), where they can be listed, as structured outputs
    do in vLLM: a score may have fewer digits, and tokens may split an answer in any way. Answers that think first, or
    with many decimals, are not held to anything.
    """

    answer_format: AnswerFormat
    samples: int
    temperature: float
    max_new_tokens: int
    structured: bool = False

    @property
    def name(self) -> str:
        """Which of the two it is."""
        return "sample" if self.temperature > 0 else "greedy"

    def read(
        self, model: PreTrainedModel, processor: ProcessorMixin, inputs_BT: BatchFeature, seed: int
    ) -> list[Reading]:
        """One reading per prompt; answers that are not well-formed scores take no part in it but stay in its texts."""
        devices = [model.device] if model.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            generate: Any = model.generate  # mypy takes it for a tensor
            config = self._config(model, processor)
            ids = generate(**inputs_BT, generation_config=config, **self._constraint(processor, inputs_BT, config))
        prompt_length = inputs_BT["input_ids"].shape[1]
        texts = processor.tokenizer.batch_decode(ids[:, prompt_length:], skip_special_tokens=True)
        groups = (texts[start : start + self.samples] for start in range(0, len(texts), self.samples))
        return [read_answers(self.answer_format, group) for group in groups]

    def _constraint(
        self, processor: ProcessorMixin, inputs_BT: BatchFeature, config: GenerationConfig
    ) -> dict[str, Any]:
        if not self.structured or self.answer_format.why_not_listed:
            return {}
        ends = config.eos_token_id
        grammar = _grammar(processor.tokenizer, self.answer_format, (ends,) if isinstance(ends, int) else tuple(ends))
        return {"logits_processor": [grammar.processor(inputs_BT["input_ids"].shape[1])]}

    def _config(self, model: PreTrainedModel, processor: ProcessorMixin) -> GenerationConfig:
        from transformers import GenerationConfig

        own = model.generation_config
        eos = own.eos_token_id if own is not None else None
        config = GenerationConfig(
            max_new_tokens=self.max_new_tokens,
            num_return_sequences=self.samples,
            do_sample=self.temperature > 0,
            repetition_penalty=1.0,
            eos_token_id=eos if eos is not None else processor.tokenizer.eos_token_id,
            pad_token_id=processor.tokenizer.pad_token_id,
        )
        if self.temperature > 0:
            config.temperature, config.top_k, config.top_p = self.temperature, 0, 1.0
        return config


def greedy(_: ProcessorMixin, wanted: Wanted) -> GenerationReadout:
    """The readout of the model's most likely answer."""
    return _generated(wanted, 1, 0.0)


def sample(_: ProcessorMixin, wanted: Wanted) -> GenerationReadout:
    """The readout of the mean over sampled answers."""
    return _generated(wanted, wanted.samples, wanted.temperature)


def _generated(wanted: Wanted, samples: int, temperature: float) -> GenerationReadout:
    longest = wanted.max_new_tokens or default_max_tokens(wanted.answer_format)
    return GenerationReadout(wanted.answer_format, samples, temperature, longest, bool(wanted.structured))


@lru_cache(maxsize=2)  # it reads the whole vocabulary
def _grammar(
    tokenizer: PreTrainedTokenizerBase, answer_format: AnswerFormat, end_ids: tuple[int, ...]
) -> AnswerGrammar:
    return AnswerGrammar.build(tokenizer, answer_format, end_ids, any_length=True, any_split=True)
