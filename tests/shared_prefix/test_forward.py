"""Shared-prefix log-probabilities against transformers' ordinary forward, one unpadded sequence at a time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_families import FAMILIES, IMAGE, build, completions, prompts

from mriqa.shared_prefix import Suffix, family_of, forward, suffix_log_probs, why_not_shared

TEMPERATURE = 0.7


def alone(model: Any, inputs: dict[str, Any], row: int, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities and entropies of the tokens `ids` behind prompt `row`, by the model's own forward."""
    real = inputs["attention_mask"][row].bool()
    sequence = torch.cat([inputs["input_ids"][row][real], ids])[None]
    one = {"pixel_values": inputs["pixel_values"][row : row + 1]}
    if "pixel_attention_mask" in inputs:
        one["pixel_attention_mask"] = inputs["pixel_attention_mask"][row : row + 1]
    if "image_grid_thw" in inputs:
        one["image_grid_thw"] = inputs["image_grid_thw"][row : row + 1]
        one["pixel_values"] = inputs["pixel_values"].split(inputs["image_grid_thw"].prod(-1).tolist())[row]
        one["mm_token_type_ids"] = (sequence == IMAGE).long()
    logits = model(input_ids=sequence, attention_mask=torch.ones_like(sequence), **one).logits[0]
    logp_CV = (logits[-len(ids) - 1 : -1] / TEMPERATURE).log_softmax(-1)
    return logp_CV.gather(1, ids[:, None])[:, 0], -(logp_CV.exp() * logp_CV).sum(-1)


@pytest.mark.parametrize(
    ("family", "attention"), [*((family, "sdpa") for family in FAMILIES), ("qwen3_vl", "eager"), ("smolvlm", "eager")]
)
@torch.no_grad()
def test_every_completion_is_as_probable_as_alone(family: str, attention: str) -> None:
    model, inputs = build(family, attention, torch.float64), prompts(family, torch.float64)
    ids_NGC, mask_NGC = completions()
    suffix = Suffix.chains(ids_NGC, mask_NGC)
    logps_NK, entropies_NK = suffix_log_probs(model, inputs, suffix, TEMPERATURE, with_entropy=True)
    assert entropies_NK is not None
    assert (logps_NK[~suffix.real_NK] == 0).all() and (entropies_NK[~suffix.real_NK] == 0).all()
    # transformers' eager attention takes its softmax in float32, whatever the weights are.
    tolerance = {"rtol": 0, "atol": 1e-10 if attention == "sdpa" else 1e-4}
    for row, group in mask_NGC.any(-1).nonzero().tolist():
        real = mask_NGC[row, group].bool()
        expected = alone(model, inputs, row, ids_NGC[row, group][real])
        got = (values.view(ids_NGC.shape)[row, group][real] for values in (logps_NK, entropies_NK))
        for values, reference in zip(got, expected):
            torch.testing.assert_close(values, reference, **tolerance)


@torch.no_grad()
def test_a_trie_gives_each_sequence_its_own_probability() -> None:
    model, inputs = build("qwen3_vl", dtype=torch.float64), prompts("qwen3_vl", torch.float64)
    sequences = [[9, 10, 11], [9, 10, 12], [9, 13], [14, 10, 11], [14]]
    suffix, paths_SL = Suffix.trie(sequences)
    logps_NK, _ = suffix_log_probs(model, inputs, suffix.expand(3), TEMPERATURE)
    logps_NS = (logps_NK[:, paths_SL] * (paths_SL >= 0)).sum(-1)
    for row in range(3):
        expected = torch.stack([alone(model, inputs, row, torch.tensor(ids))[0].sum() for ids in sequences])
        torch.testing.assert_close(logps_NS[row], expected, rtol=0, atol=1e-10)


def test_the_head_read_in_pieces_gives_the_same_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = build("qwen3_vl", dtype=torch.float64), prompts("qwen3_vl", torch.float64)
    suffix = Suffix.chains(*completions())

    def gradients() -> dict[str, torch.Tensor]:
        model.zero_grad()
        logps_NK, entropies_NK = suffix_log_probs(model, inputs, suffix, TEMPERATURE, with_entropy=True)
        assert entropies_NK is not None
        weights_NK = torch.linspace(-1, 1, logps_NK.numel()).view_as(logps_NK)
        (logps_NK * weights_NK + entropies_NK * weights_NK**2).sum().backward()
        return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}

    whole = gradients()
    monkeypatch.setattr(forward, "LOGITS_AT_ONCE", 3 * model.config.text_config.vocab_size)
    for name, gradient in gradients().items():
        torch.testing.assert_close(gradient, whole[name], rtol=1e-9, atol=1e-12, msg=name)
    assert "forward" not in vars(model.lm_head)


@torch.no_grad()
def test_image_and_prompt_go_through_once_and_padding_changes_nothing() -> None:
    model, inputs = build("qwen3_vl"), prompts("qwen3_vl")
    ids_NGC, mask_NGC = completions(group=6)
    seen: dict[str, torch.Size] = {}
    model.model.visual.register_forward_pre_hook(
        lambda _, args, kwargs: seen.update(image=args[0].shape), with_kwargs=True
    )
    model.model.language_model.layers[0].register_forward_pre_hook(lambda _, args: seen.update(text=args[0].shape))
    logps_NK, _ = suffix_log_probs(model, inputs, Suffix.chains(ids_NGC, mask_NGC))
    n_prompts, length = inputs["input_ids"].shape
    assert seen["image"][0] == inputs["pixel_values"].shape[0]
    goes_on = int(mask_NGC[:, :, 1:].any(0).sum())  # places where some completion has a next token
    assert seen["text"][:2] == (n_prompts, length + goes_on)

    other_ids_NGC = torch.where(mask_NGC.bool(), ids_NGC, 17)
    prompt_padding = inputs["attention_mask"] == 0
    assert prompt_padding.any()
    other = inputs | {"input_ids": inputs["input_ids"].masked_fill(prompt_padding, 17)}
    assert torch.equal(suffix_log_probs(model, other, Suffix.chains(other_ids_NGC, mask_NGC))[0], logps_NK)


def test_data_parallel_gets_every_gradient() -> None:
    """DDP reduces what its own forward leads to: with a hook that doubles each bucket, all gradients must double."""
    from torch import distributed

    model, inputs = build("qwen3_vl", dtype=torch.float64), prompts("qwen3_vl", torch.float64)
    suffix = Suffix.chains(*completions())
    suffix_log_probs(model, inputs, suffix)[0].sum().backward()
    expected = {name: 2 * weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    model.zero_grad()

    def double(_, bucket):  # DDP checks annotations, if there are any, by identity
        reduced: torch.futures.Future = torch.futures.Future()
        reduced.set_result(2 * bucket.buffer())
        return reduced

    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        parallel = torch.nn.parallel.DistributedDataParallel(model)
        parallel.register_comm_hook(None, double)
        suffix_log_probs(parallel, inputs, suffix)[0].sum().backward()
    finally:
        distributed.destroy_process_group()
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight.grad, expected[name], rtol=1e-9, atol=1e-12, msg=name)


def test_models_that_cannot_share_are_named() -> None:
    from transformers import AutoModelForCausalLM, LlamaConfig

    tiny = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    unknown = AutoModelForCausalLM.from_config(LlamaConfig(**tiny, vocab_size=8))
    assert family_of(unknown) is None
    with pytest.raises(ValueError, match="llama is not one of the known architectures"):
        suffix_log_probs(unknown, {}, Suffix.chains(*completions()))

    model = build("qwen2_5_vl")
    text_config = model.config.get_text_config()
    assert why_not_shared(model) is None
    text_config.layer_types = ["full_attention", "sliding_attention", "full_attention"]
    assert "sliding window" in str(why_not_shared(model))
    text_config.layer_types = None
    text_config._attn_implementation = "flash_attention_2"
    assert "flash_attention_2 attention takes no mask" in str(why_not_shared(model))
