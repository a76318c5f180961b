"""The expected readout against a full forward pass per score, without cache, padding or branches."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from mriqa.answers import load_format
from mriqa.scoring.digit_tree import DigitTree
from mriqa.scoring.prompts import prompt_batch
from mriqa.scoring.reading import ReadoutError
from mriqa.scoring.scorer import Scorer

NON_THINKING = load_format("non_thinking")


def brute_force(model, processor, picture, texts: list[str]) -> torch.Tensor:
    """Log-probability of each score text after the head, from the whole sequence at once, one image at a time."""
    one = prompt_batch(processor, NON_THINKING, [picture])
    encode = processor.tokenizer.encode
    head = encode("<answer>", add_special_tokens=False)
    logps = []
    for text in texts:
        score = encode(text, add_special_tokens=False)
        ids = torch.tensor([head + score])
        inputs = dict(one)
        inputs["input_ids"] = torch.cat([one["input_ids"], ids], dim=1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        if "mm_token_type_ids" in one:
            inputs["mm_token_type_ids"] = torch.cat([one["mm_token_type_ids"], torch.zeros_like(ids)], dim=1)
        with torch.no_grad():
            logp_TV = model(**inputs, use_cache=False).logits[0].double().log_softmax(-1)
        logps.append(sum(logp_TV[i - len(score) - 1, token] for i, token in enumerate(score)))
    return torch.stack(logps)


@pytest.fixture(params=["one pass", "two passes"])
def passes(request, monkeypatch):
    """Two passes are for architectures that can't share a prompt; every one can be read that way."""
    if request.param == "two passes":
        monkeypatch.setattr("mriqa.scoring.digit_tree.family_of", lambda model: None)


def test_equals_brute_force_over_all_scores_of_a_padded_batch(taught_model, pictures, passes):
    model, processor = taught_model
    tree = DigitTree.build(processor, NON_THINKING)
    inputs = prompt_batch(processor, NON_THINKING, pictures)
    assert len(set(inputs["attention_mask"].sum(1).tolist())) == 3, "the batch must be padded for this test to tell"
    ours_BS = tree.probabilities(model, inputs)
    texts = NON_THINKING.score_texts()
    assert (len(texts), texts[0], texts[253], texts[-1]) == (401, "1.00", "3.53", "5.00")
    values = np.array([float(text) for text in texts])
    assert np.array_equal(tree.scores.values_S, values)

    expected_S = brute_force(model, processor, pictures[2], texts).softmax(-1)
    assert (ours_BS[2] - expected_S).abs().max() < 1e-5
    some = [0, 1, 57, 240, 241, 333, 399, 400]
    for number in (0, 1):
        theirs = brute_force(model, processor, pictures[number], [texts[i] for i in some])
        ours = ours_BS[number, some].log()
        assert ((ours - ours[3]) - (theirs - theirs[3])).abs().max() < 1e-4

    mean = float((expected_S.numpy() * values).sum())
    std = float(np.sqrt((expected_S.numpy() * (values - mean) ** 2).sum()))
    score = Scorer(model, processor, batch_size=3).score(pictures)[2]
    assert (score.score, score.std) == (pytest.approx(mean, abs=1e-4), pytest.approx(std, abs=1e-4))


def test_equals_brute_force_on_fastvlm_whatever_the_padding(tmp_path, pictures, passes):
    from mriqa.embedded import build_tiny_fastvlm
    from mriqa.models import load_vlm

    model, processor = load_vlm(build_tiny_fastvlm(tmp_path / "model", image_size=128), device="cpu")
    with torch.no_grad():  # random weights hardly look at positions; larger ones do
        for name, weight in model.named_parameters():
            if "q_proj" in name or "k_proj" in name or "lm_head" in name:
                weight.mul_(8)
    tree = DigitTree.build(processor, NON_THINKING)
    inputs = prompt_batch(processor, NON_THINKING, pictures[:1])
    pad = processor.tokenizer.pad_token_id
    padded = type(inputs)(dict(inputs))
    padded["input_ids"] = torch.nn.functional.pad(inputs["input_ids"], (5, 0), value=pad)
    padded["attention_mask"] = torch.nn.functional.pad(inputs["attention_mask"], (5, 0), value=0)

    some = [0, 57, 240, 241, 399, 400]
    theirs = brute_force(model, processor, pictures[0], [NON_THINKING.score_texts()[i] for i in some])
    for batch in (inputs, padded):
        ours = tree.probabilities(model, batch)[0, some].log()
        assert ((ours - ours[0]) - (theirs - theirs[0])).abs().max() < 1e-4


def test_refuses_formats_that_think_and_tokenizers_that_join_digits(taught_model):
    _, processor = taught_model
    with pytest.raises(ReadoutError, match="think first; use --readout sample or --readout greedy"):
        DigitTree.build(processor, load_format("thinking"))
    scale_of_100 = dataclasses.replace(NON_THINKING, low=0.0, high=100.0)  # "9.99" and "10.00" differ in length
    with pytest.raises(ReadoutError, match="use --readout sample"):
        DigitTree.build(processor, scale_of_100)
    with pytest.raises(ReadoutError, match="non_thinking has 4000000000000000 scores, more than 20000"):
        DigitTree.build(processor, dataclasses.replace(NON_THINKING, decimals=15))

    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    texts = [NON_THINKING.format(step / 100) for step in range(100, 501)]
    bpe.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=400, show_progress=False))

    class JoinsDigits:
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe)
        apply_chat_template = processor.apply_chat_template

    with pytest.raises(ReadoutError, match="one for each character"):
        DigitTree.build(JoinsDigits(), NON_THINKING)


def test_auto_falls_back_to_greedy_only_where_it_must(taught_model):
    model, processor = taught_model
    assert Scorer(model, processor).readout_name == "expected"
    assert Scorer(model, processor, load_format("thinking")).readout_name == "greedy"
    with pytest.raises(ReadoutError):
        Scorer(model, processor, load_format("thinking"), readout="expected")
