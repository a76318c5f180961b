"""The readouts "greedy" and "sample": let the model write its answer and parse it.

Legend: B prompts, K answers to each, T tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mriqa.answers import AnswerFormat
from mriqa.scoring.reading import Reading

if TYPE_CHECKING:
    from transformers import BatchFeature, PreTrainedModel, ProcessorMixin


@dataclass(frozen=True)
class GenerationReadout:
    """Generate `samples` answers at `temperature` (0: the one greedy answer) of at most `max_new_tokens` tokens.

    Sampling is from the model's plain distribution: its saved top-k, top-p and repetition penalty are not applied.
    """

    answer_format: AnswerFormat
    samples: int
    temperature: float
    max_new_tokens: int

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
            ids = generate(**inputs_BT, generation_config=self._config(model, processor))
        prompt_length = inputs_BT["input_ids"].shape[1]
        texts = processor.tokenizer.batch_decode(ids[:, prompt_length:], skip_special_tokens=True)
        return [self._reading(texts[i : i + self.samples]) for i in range(0, len(texts), self.samples)]

    def _reading(self, texts_K: list[str]) -> Reading:
        parsed = np.array([s for s in map(self.answer_format.parse, texts_K) if not math.isnan(s)], dtype=np.float64)
        return Reading(parsed, np.ones_like(parsed), exact=False, texts=tuple(texts_K))

    def _config(self, model: PreTrainedModel, processor: ProcessorMixin):
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
