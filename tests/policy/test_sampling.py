"""Sampling behind a prompt that is read once, against `generate` on repeated prompts and exact probabilities."""

from __future__ import annotations

from typing import Any

import pytest
import scipy.stats
import tiny_families
import torch
from transformers import GenerationConfig

from mriqa.policy.sampling import logits_processors, sample_completions, unusual_setting

ROWS = [0, 0, 0, 1, 2, 2, 2, 2, 1]  # prompts of different length, with different numbers of completions
EOS = [5, 11, 17, 23, 29]  # frequent enough that completions differ in length
LENGTH = 8


def config(**settings: Any) -> GenerationConfig:
    defaults = {"max_new_tokens": LENGTH, "do_sample": True, "top_k": 0, "eos_token_id": EOS}
    return GenerationConfig(pad_token_id=tiny_families.PAD, disable_compile=True, **{**defaults, **settings})


def repeated(prompts: dict[str, Any], rows: list[int]) -> dict[str, Any]:
    """Each row with its own copy of prompt and image."""
    copies = {name: tensor[rows] for name, tensor in prompts.items() if name != "pixel_values"}
    if "image_grid_thw" in prompts:
        patches = prompts["pixel_values"].split(prompts["image_grid_thw"].prod(-1).tolist())
        return {**copies, "pixel_values": torch.cat([patches[row] for row in rows])}
    return {**copies, "pixel_values": prompts["pixel_values"][rows]}


def both(family: str, settings: GenerationConfig, **build: Any) -> tuple[list[list[int]], list[list[int]]]:
    """Completions from one seed: `generate`'s, cut behind the first EOS token, and ours."""
    model, prompts = tiny_families.build(family, **build), tiny_families.prompts(family)
    torch.manual_seed(7)
    generated = model.generate(**repeated(prompts, ROWS), generation_config=settings)
    expected = []
    for row in generated[:, prompts["input_ids"].shape[1] :].tolist():
        ends = [place for place, token in enumerate(row) if token in EOS]
        expected.append(row[: ends[0] + 1] if ends else row)
    torch.manual_seed(7)
    processors = logits_processors(settings, torch.device("cpu"))
    own = sample_completions(
        model, prompts, ROWS, processors, max_new_tokens=LENGTH, eos_ids=EOS, pad_id=tiny_families.PAD
    )
    return expected, own


@pytest.mark.parametrize("family", tiny_families.FAMILIES)
@pytest.mark.parametrize("settings", [{"top_k": 1}, {"temperature": 0.7}], ids=["greedy", "sampled"])
def test_completions_are_those_of_generate(family: str, settings: dict[str, Any]) -> None:
    expected, own = both(family, config(**settings))
    assert own == expected
    assert len(set(map(tuple, own))) > 1
    assert settings == {"top_k": 1} or len({len(row) for row in own}) > 1


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 1.3, "top_k": 7, "top_p": 0.8, "min_p": 0.02},
        {"repetition_penalty": 1.7, "suppress_tokens": [tiny_families.IMAGE, 30]},
    ],
    ids=["truncated", "penalised"],
)
def test_sampling_settings_are_those_of_generate(settings: dict[str, Any]) -> None:
    expected, own = both("qwen3_vl", config(**settings), attention="eager")
    assert own == expected


@torch.no_grad()
def exact(logits_BV: torch.Tensor, temperature: float) -> torch.Tensor:
    """Probabilities of the tokens that may be drawn: all but the image's."""
    logits_BV[..., tiny_families.IMAGE] = -torch.inf
    return (logits_BV / temperature).softmax(-1)


@torch.no_grad()
def test_frequencies_follow_the_exact_probabilities() -> None:
    """The first two tokens of 3000 completions, against softmax over every pair from the stock forward in float64."""
    temperature, draws, vocabulary = 0.7, 3000, tiny_families.VOCABULARY
    model = tiny_families.build("qwen2_5_vl", dtype=torch.float64)
    prompts = tiny_families.prompts("qwen2_5_vl", dtype=torch.float64, n_prompts=1)
    first_V = exact(model(**prompts).logits[0, -1], temperature)
    rows = repeated(prompts, [0] * vocabulary)
    tokens = torch.arange(vocabulary)
    tokens[tiny_families.IMAGE] = tiny_families.PAD  # never drawn, and refused where no picture belongs to it
    for name, new in (("input_ids", tokens), ("attention_mask", torch.ones(vocabulary).long())):
        rows[name] = torch.cat([rows[name], new[:, None]], dim=1)
    rows["mm_token_type_ids"] = torch.nn.functional.pad(rows["mm_token_type_ids"], (0, 1))
    second_VV = exact(model(**rows).logits[:, -1], temperature)
    expected_VV = draws * first_V[:, None] * second_VV

    torch.manual_seed(0)
    settings = config(temperature=temperature, suppress_tokens=[tiny_families.IMAGE])
    processors = logits_processors(settings, torch.device("cpu"))
    pairs = sample_completions(
        model, prompts, [0] * draws, processors, max_new_tokens=2, eos_ids=[-1], pad_id=tiny_families.PAD
    )
    counts_VV = torch.zeros(vocabulary, vocabulary).index_put_(
        tuple(torch.tensor(pairs).T), torch.ones(draws), accumulate=True
    )
    common = expected_VV >= 5
    observed = [*counts_VV[common].tolist(), counts_VV[~common].sum().item()]
    expected = [*expected_VV[common].tolist(), expected_VV[~common].sum().item()]
    assert len(observed) > 20
    assert scipy.stats.chisquare(observed, expected).pvalue > 1e-3


def test_settings_it_does_not_know() -> None:
    plain = GenerationConfig()
    assert unusual_setting(config(temperature=0.7, top_p=0.9, repetition_penalty=1.1), plain) is None
    assert unusual_setting(config(no_repeat_ngram_size=3), plain) == "no_repeat_ngram_size"
    assert unusual_setting(config(), GenerationConfig(typical_p=0.9)) == "typical_p"
    assert unusual_setting(config(), GenerationConfig(do_sample=False)) is None


def test_unknown_architectures_are_refused() -> None:
    model = tiny_families.build("qwen3_vl")
    model.config.model_type = "unheard_of"
    processors = logits_processors(config(), torch.device("cpu"))
    with pytest.raises(ValueError, match="unheard_of is not one of the known"):
        sample_completions(model, {}, [0], processors, max_new_tokens=1, eos_ids=[1], pad_id=0)
