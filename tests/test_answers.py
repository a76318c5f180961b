"""The answer grammar: every score survives the round trip, and nothing else passes."""

import json
import math
import re
import string

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mriqa.answers import AnswerFormat, format_answer, format_names, load_format, parse

SCORES = st.floats(1.0, 5.0, allow_nan=False)
MODES = st.sampled_from(["non_thinking", "thinking"])
THOUGHTS = st.text().filter(lambda text: not re.search(r"</?(?:thinking|answer)>", text))
PIECES = [
    "<answer>",
    "</answer>",
    "<thinking>",
    "</thinking>",
    '{"rating": ',
    "}",
    "3.5",
    "5.01",
    "nan",
    "１",
    " ",
    "\n",
    "\0",
    "<",
]


@given(SCORES, st.sampled_from(format_names()))
def test_round_trip_in_every_bundled_format(score, name):
    answer_format = load_format(name)
    text = answer_format.format(score)
    assert answer_format.parse(text) == round(score, 2)
    assert answer_format.parse(f"\n {text}\t") == round(score, 2)
    assert answer_format.is_well_formed(text)


@given(SCORES, THOUGHTS)
def test_thinking_round_trip(score, thinking):
    assert parse(format_answer(score, "thinking", thinking), "thinking") == round(score, 2)


@given(st.text() | st.lists(st.sampled_from(PIECES)).map("".join), MODES)
def test_no_text_raises_and_only_the_grammar_passes(text, mode):
    """Against a second, hand-written reading of the two grammars."""
    head, tail = ("<answer>", "</answer>") if mode == "non_thinking" else ("<thinking>", "}</answer>")
    score = parse(text, mode)
    bare = text.strip()
    if not math.isnan(score):
        assert 1.0 <= score <= 5.0 and bare.startswith(head) and bare.endswith(tail)
        assert bare.count("<answer>") == bare.count("</answer>") == 1
        inner = bare.split("<answer>")[1].removesuffix("</answer>")
        stated = inner if mode == "non_thinking" else json.loads(inner)["rating"]
        assert float(stated) == score


@given(SCORES, st.text(min_size=1).filter(str.strip), MODES)
def test_anything_around_an_answer_spoils_it(score, extra, mode):
    answer = format_answer(score, mode)
    assert math.isnan(parse(answer + extra, mode)) and math.isnan(parse(extra + answer, mode))


@given(st.none() | st.integers() | st.floats() | st.binary() | st.lists(st.integers()))
def test_what_is_not_text_is_no_answer(value):
    assert math.isnan(parse(value)) and not load_format("thinking").is_well_formed(value)


@pytest.mark.parametrize(
    "number",
    ["nan", "inf", "-inf", "NaN", "Infinity", "5.01", "0.99", "5.000000001", "9" * 400, "3." + "5" * 50]
    + ["", "-3", "+3", "3.", ".5", "3,5", "1e0", "03.5", "3_5", "0x3", "3 5", "3.5 3.5", "3.5/5"]
    + ["\u0663.\u0665", "\uff13.\uff15", "3.\uff15", "\u4e94", "\u00bd"],
)
def test_other_numbers_are_no_score(number):
    assert math.isnan(parse(f"<answer>{number}</answer>"))
    assert math.isnan(parse(f'<thinking></thinking><answer>{{"rating": {number}}}</answer>', "thinking"))


@pytest.mark.parametrize("number, score", [("1", 1.0), ("5", 5.0), ("5.00", 5.0), ("3.521", 3.521), (" 3.5\n", 3.5)])
def test_scores_need_not_have_two_decimals(number, score):
    assert parse(f"<answer>{number}</answer>") == score
    assert parse(f'<thinking>a < b\n</thinking>\n<answer>{{"rating": {number}}}</answer>', "thinking") == score


@pytest.mark.parametrize(
    "text",
    [
        "3.5",
        "<answer>3.5",
        "<Answer>3.5</Answer>",
        "<answer><answer>3.5</answer></answer>",
        "<answer>3.5</answer><answer>3.5</answer>",
        '<thinking>x</thinking><answer>{"rating": 3.5}</answer>',
        "<thinking>x</thinking><answer>3.5</answer>",
    ],
)
def test_not_one_non_thinking_answer(text):
    assert math.isnan(parse(text))


@pytest.mark.parametrize(
    "text",
    [
        "<answer>3.5</answer>",
        '<answer>{"rating": 3.5}</answer>',
        "<thinking>x</thinking><answer>3.5</answer>",
        '<thinking>x<answer>{"rating": 3.5}</answer>',
        '<thinking>x</thinking> so <answer>{"rating": 3.5}</answer>',
        "<thinking>x</thinking><answer>{'rating': 3.5}</answer>",
        '<thinking>x</thinking><answer>{"rating": "3.5"}</answer>',
        '<thinking>x</thinking><answer>{"rating": 3.5, "rating": 4}</answer>',
        '<thinking><answer>{"rating": 2}</answer></thinking><answer>{"rating": 3.5}</answer>',
        '<thinking>x</thinking><thinking>y</thinking><answer>{"rating": 3.5}</answer>',
    ],
)
def test_not_one_thinking_answer(text):
    assert math.isnan(parse(text, "thinking"))


@pytest.mark.parametrize("name", format_names())
@pytest.mark.parametrize(
    "piece", ["<", "<thinking>", "<think>", "<answer>", "</think>", " ", "1", "{", "\n<answer>\n1"]
)
def test_long_hostile_texts_do_not_backtrack(name, piece):
    """A quadratic or exponential pattern would not come back from these in the time of a test run."""
    answer_format = load_format(name)
    opening = answer_format.template.split("{")[0]
    for text in (
        piece * 150_000,
        opening + piece * (180_000 // len(piece)),
        "x" + piece * 10_000 + answer_format.format(3),
    ):
        assert math.isnan(answer_format.parse(text))


def test_range_is_the_parsers_business_not_the_forms():
    answer_format = load_format("non_thinking")
    assert answer_format.is_well_formed("<answer>7.00</answer>") and math.isnan(
        answer_format.parse("<answer>7.00</answer>")
    )


@pytest.mark.parametrize("score", [0.99, 5.01, math.nan, math.inf])
def test_only_scores_in_range_are_written(score):
    with pytest.raises(ValueError, match="1..5"):
        format_answer(score)


def test_thinking_must_fit_the_format():
    with pytest.raises(ValueError, match="no place for thinking"):
        format_answer(3.0, thinking="hm")
    with pytest.raises(ValueError, match="breaks the form"):
        format_answer(3.0, "thinking", "</thinking>")
    assert parse(format_answer(3.0, "thinking", "{score} {thinking}"), "thinking") == 3.0


@pytest.mark.parametrize(
    "name, text",
    [
        ("visualquality_r1", "<think>\nSome noise.\n</think>\n<answer>\n3.52\n</answer>"),
        ("visualquality_r1_fast", "<answer>3.52</answer>"),
        ("q_insight", '<think>Some noise.</think>\n<answer>{"rating": 3.52}</answer>'),
        ("q_insight", '<think>Some noise.</think>\n<answer>\n```json\n{\n"rating": 3.52\n}\n```\n</answer>'),
        ("mr_iqa", "<think>\n\n</think>\n\n<answer>3.52</answer>"),
        ("mr_iqa", "<answer> 3.52 </answer>"),
        ("mr_iqa_thinking", '<thinking>Some noise.</thinking>\n<answer>{"rating": 3.52}</answer>'),
    ],
)
def test_answers_of_other_models(name, text):
    assert load_format(name).parse(text) == 3.52


def test_default_prompt_is_short():
    words = " ".join(message["content"] for message in load_format("non_thinking").messages()).split()
    assert len(words) <= 45


def test_messages():
    assert [m["role"] for m in load_format("thinking").messages()] == ["system", "user"]
    assert [m["role"] for m in load_format("visualquality_r1").messages()] == ["user"]


@given(SCORES)
def test_own_yaml_file_with_another_range(tmp_path_factory, score):
    path = tmp_path_factory.getbasetemp() / "percent.yaml"
    fields = {"user": "How good, 0 to 100?", "template": "Score: {score}", "pattern": r"Score: (?P<score>\d+\.\d+)"}
    path.write_text(yaml.safe_dump({**fields, "low": 0, "high": 100, "decimals": 1}))
    answer_format = load_format(path)
    assert answer_format.name == "percent"
    assert answer_format.parse("Score: 25.0") == 2.0
    assert math.isnan(answer_format.parse("Score: 100.1")) and math.isnan(answer_format.parse("Score: ٢٥.٠"))
    assert answer_format.parse(answer_format.format(score)) == pytest.approx(score, abs=0.002001)
    assert AnswerFormat.from_dict(json.loads(json.dumps(answer_format.to_dict()))) == answer_format


@pytest.mark.parametrize(
    "change, message",
    [
        ({"pattern": "("}, "not a regular expression"),
        ({"pattern": "[0-9]"}, "named group"),
        ({"pattern": "(?P<score>x)"}, "does not match"),
        ({"template": "no score"}, "exactly once"),
        ({"low": 5}, "low < high"),
        ({"high": "5"}, "finite number"),
        ({"user": 3}, "must be text"),
        ({"prompt": "x"}, "no field 'prompt'"),
        ({"decimals": 2.5}, "whole number"),
    ],
)
def test_impossible_formats_say_what_is_wrong(tmp_path, change, message):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**load_format("non_thinking").to_dict(), **change}))
    with pytest.raises(ValueError, match=message):
        load_format(path)


@pytest.mark.parametrize("content", ["[1, 2]", "a: [", "", "user: hi"])
def test_files_that_are_no_format(tmp_path, content):
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(ValueError, match="mine.yaml"):
        load_format(path)


@pytest.mark.parametrize("name", ["", "nonsense", "../answers", "missing.yaml", string.printable])
def test_unknown_names(name):
    with pytest.raises(ValueError):
        load_format(name)


@pytest.mark.parametrize("name", format_names())
def test_the_grammar_holds_what_parses_and_nothing_else(name):
    answer_format = load_format(name)
    for text, right in {"1": 1, "5.0": 1, "3.52": 1, "5.01": 0, "0.99": 0, "3.521": 0, "03": 0, "-3": 0}.items():
        answer = answer_format.template.replace("{score}", text).replace("{thinking}", "A bit soft.")
        assert bool(re.fullmatch(answer_format.grammar(), answer)) is bool(right), text
        assert not right or answer_format.parse(answer) == float(text)


@pytest.mark.parametrize(
    ("low", "high", "decimals"),
    [(0, 100, 0), (0, 10, 1), (0.5, 1.25, 2), (1, 5, 2), (1.1, 2.3, 1), (0.996, 3.2, 2), (2.04, 2.66, 2), (0, 0.3, 2)],
)
def test_the_grammar_and_the_list_of_answers_agree(low, high, decimals):
    answer_format = AnswerFormat("t", "", "How good?", "(?P<score>[0-9.]+)", "{score}", low, high, decimals)
    listed = set(answer_format.all_answers(any_length=True))
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
