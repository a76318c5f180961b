"""The grammar of answers over tokens: what it lets through, and what it leaves of the policy's odds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from mriqa.answers import load_format
from mriqa.embedded.tokenizer import train_tokenizer
from mriqa.policy.checks import SettingsError
from mriqa.policy.constraint import AnswerGrammar

FORMAT = load_format("non_thinking")
ANSWERS = {f"<answer>{hundredths / 100:.2f}</answer>" for hundredths in range(100, 501)}
EOS = [3, 4]


def merging_tokenizer() -> Any:
    """Byte-level BPE that was shown numbers and nothing else, so that digits merge with each other and the point."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    bpe.train_from_iterator(sorted(ANSWERS), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, pad_token="!", eos_token="#")


@pytest.mark.parametrize("make", [train_tokenizer, merging_tokenizer])
def test_the_ways_through_the_grammar_are_the_401_answers(make: Any) -> None:
    tokenizer = make()
    grammar = AnswerGrammar.build(tokenizer, FORMAT, EOS)
    endings = []
    open_ways: list[tuple[int, ...]] = [()]
    while open_ways:
        way = open_ways.pop()
        tokens = grammar.allowed[way]
        assert tokens
        endings += [way for token in tokens if token in EOS]
        open_ways += [(*way, token) for token in tokens if token not in EOS]
    assert len(endings) == len(EOS) * 401
    assert set(tokenizer.batch_decode(endings)) == ANSWERS
    assert grammar.longest == max(map(len, endings)) + 1
    lengths = set(map(len, endings))
    assert len(lengths) > 1 if make is merging_tokenizer else len(lengths) == 1


def test_allowed_tokens_keep_their_odds_and_ended_rows_are_left_alone() -> None:
    tokenizer = train_tokenizer()
    texts = ["<answer>", "<answer>5", "<answer>5.00</answer>"]
    head, five, whole = tokenizer(texts, add_special_tokens=False)["input_ids"]
    prompt = [7, 8, 9]
    logits_RV = torch.randn(2, len(tokenizer), generator=torch.Generator().manual_seed(0))

    def masked(written: list[int], ended: list[int]) -> torch.Tensor:
        ids_RT = torch.tensor([prompt + written, prompt + ended])
        return AnswerGrammar.build(tokenizer, FORMAT, EOS).processor(len(prompt))(ids_RT, logits_RV.clone())

    digits = tokenizer.convert_tokens_to_ids(list("12345"))
    ended = [*head[:-1], EOS[0]]  # as long as the other row, and no beginning of an answer
    scores_RV = masked(head, ended)
    expected = torch.zeros(len(tokenizer))
    expected[digits] = logits_RV[0, digits].softmax(-1)
    torch.testing.assert_close(scores_RV[0].softmax(-1), expected)
    assert torch.equal(scores_RV[1], logits_RV[1])

    point, zero = (tokenizer.vocab[character] for character in ".0")
    for written, allowed in ((five, [point]), ([*five, point], [zero]), (whole, EOS)):
        scores_V = masked(written, written)[0]
        assert scores_V.isfinite().nonzero().flatten().tolist() == allowed


def test_what_cannot_be_listed_is_refused() -> None:
    tokenizer = train_tokenizer()
    with pytest.raises(SettingsError, match="thinking answers think first"):
        AnswerGrammar.build(tokenizer, load_format("thinking"), EOS)
    with pytest.raises(SettingsError, match="fine has 4000000000000000 scores, more than 20000"):
        AnswerGrammar.build(tokenizer, replace(FORMAT, name="fine", decimals=15), EOS)
    tokenizer.add_tokens(["<answer>"], special_tokens=True)
    with pytest.raises(SettingsError, match=r"'<answer>1.00</answer>' back as '1.00</answer>'"):
        AnswerGrammar.build(tokenizer, FORMAT, EOS)
