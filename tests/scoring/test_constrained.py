"""Generated answers held to the grammar: they parse whatever the model would say; right answers stay as they are."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest

from mriqa.answers import AnswerFormat, format_names, load_format
from mriqa.scoring.scorer import Scorer


def test_a_model_that_says_anything_states_scores(tmp_path, pictures):
    from mriqa.embedded import build_tiny_qwen3_vl
    from mriqa.models import load_vlm

    model = load_vlm(build_tiny_qwen3_vl(tmp_path), device="cpu")
    free = Scorer(*model, readout="greedy").score(pictures)
    assert all(math.isnan(score.score) for score in free)
    for readout, samples in (("greedy", 1), ("sample", 6)):
        held = Scorer(*model, readout=readout, samples=samples, structured=True).score(pictures)
        assert all(1 <= score.score <= 5 and score.n_parsed == samples for score in held)
        one_by_one = Scorer(*model, readout="greedy", structured=True, batch_size=1).score(pictures)
    assert [s.score for s in one_by_one] == [
        s.score for s in Scorer(*model, readout="greedy", structured=True).score(pictures)
    ]


def test_right_answers_stay_as_they_are(taught_model, pictures):
    free = Scorer(*taught_model, readout="greedy").score(pictures)
    assert Scorer(*taught_model, readout="greedy", structured=True).score(pictures) == free


@pytest.mark.parametrize("name", format_names())
def test_the_grammar_holds_what_parses_and_nothing_else(name):
    answer_format = load_format(name)
    for text, right in {"1": 1, "5.0": 1, "3.52": 1, "5.01": 0, "0.99": 0, "3.521": 0, "03": 0, "-3": 0}.items():
        answer = answer_format.template.replace("{score}", text).replace("{thinking}", "A bit soft.")
        assert bool(re.fullmatch(answer_format.grammar(), answer)) is bool(right), text
        assert not right or answer_format.parse(answer) == float(text)


def test_answers_too_many_to_list_are_free(taught_model, pictures, monkeypatch):
    fine = replace(load_format("non_thinking"), decimals=15)
    monkeypatch.setattr(AnswerFormat, "short_answers", lambda _: pytest.fail("listed"))
    (score,) = Scorer(*taught_model, fine, readout="sample", samples=2, structured=True).score(pictures[:1])
    assert len(score.texts) == 2


@pytest.mark.parametrize(
    ("low", "high", "decimals"),
    [(0, 100, 0), (0, 10, 1), (0.5, 1.25, 2), (1, 5, 2), (1.1, 2.3, 1), (0.996, 3.2, 2), (2.04, 2.66, 2), (0, 0.3, 2)],
)
def test_the_grammar_and_the_list_of_answers_agree(low, high, decimals):
    answer_format = AnswerFormat("t", "", "How good?", "(?P<score>[0-9.]+)", "{score}", low, high, decimals)
    listed = set(answer_format.short_answers())
    last = int(high) + 2
    texts = {f"{step / 10**digits:.{digits}f}" for digits in range(decimals + 2) for step in range(last * 10**digits)}
    right = {text for text in texts if len(text.partition(".")[2]) <= decimals and low <= float(text) <= high}
    assert {text for text in texts if re.fullmatch(answer_format.grammar(), text)} == listed == right


def test_the_grammar_of_many_scores_is_short():
    answer_format = AnswerFormat("t", "", "How good?", "(?P<score>[0-9.]+)", "{score}", 0.1, 2.75, 15)
    grammar = answer_format.grammar()
    assert len(grammar) < 2000
    right = ("0.1", "0.100000000000000", "0.999999999999999", "1", "2.75", "2.749999999999999", "2.750000000000000")
    assert all(re.fullmatch(grammar, text) for text in right)
    wrong = ("0", "0.099999999999999", "2.750000000000001", "2.8", "3", "1.", "1.0000000000000000")
    assert not any(re.fullmatch(grammar, text) for text in wrong)
