"""The grammar of answers over tokens: what it lets through, and what it leaves of the policy's odds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from mriqa.answer_grammar import AnswerGrammar, GrammarError
from mriqa.answers import AnswerFormat, load_format
from mriqa.embedded.tokenizer import train_tokenizer

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
        tokens = grammar.allowed(way)
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
    with pytest.raises(GrammarError, match="thinking answers think first"):
        AnswerGrammar.build(tokenizer, load_format("thinking"), EOS)
    with pytest.raises(GrammarError, match="fine has 4000000000000000 scores, more than 20000"):
        AnswerGrammar.build(tokenizer, replace(FORMAT, name="fine", decimals=15), EOS)
    tokenizer.add_tokens(["<answer>"], special_tokens=True)
    with pytest.raises(GrammarError, match=r"'<answer>1.00</answer>' back as '1.00</answer>'"):
        AnswerGrammar.build(tokenizer, FORMAT, EOS)


def ways_through(grammar: AnswerGrammar) -> set[tuple[int, ...]]:
    """Every sequence of tokens that may be followed by an end."""
    ways: set[tuple[int, ...]] = set()
    open_ways: list[tuple[int, ...]] = [()]
    while open_ways:
        way = open_ways.pop()
        for token in grammar.allowed(way):
            if token in EOS:
                ways.add(way)
            else:
                open_ways.append((*way, token))
    return ways


def splits(text: str, tokens: dict[str, int]) -> list[tuple[int, ...]]:
    """Every way to write `text` with these tokens."""
    if not text:
        return [()]
    beginnings = [text[:end] for end in range(1, len(text) + 1) if text[:end] in tokens]
    return [(tokens[piece], *rest) for piece in beginnings for rest in splits(text[len(piece) :], tokens)]


@pytest.mark.parametrize("any_length", [False, True])
def test_any_split_lets_through_every_way_to_write_each_answer(any_length: bool) -> None:
    tokenizer = merging_tokenizer()
    few = AnswerFormat("few", "", "How good?", "(?P<score>[0-9.]+)", "{score}", 1, 3, decimals=2)
    grammar = AnswerGrammar.build(tokenizer, few, EOS, any_length=any_length, any_split=True)
    texts = [f"{hundredths / 100:.2f}" for hundredths in range(100, 301)]
    if any_length:
        texts += [f"{tenths / 10:.1f}" for tenths in range(10, 31)] + ["1", "2", "3"]
    tokens = {tokenizer.decode([token]): token for token in range(len(tokenizer)) if token not in EOS}
    expected = {way for text in texts for way in splits(text, tokens)}
    assert ways_through(grammar) == expected and len(expected) > len(texts)
    assert grammar.longest == 1 + max(map(len, expected))
    canonical = AnswerGrammar.build(tokenizer, few, EOS, any_length=any_length)
    assert ways_through(canonical) == set(map(tuple, tokenizer(texts)["input_ids"]))
