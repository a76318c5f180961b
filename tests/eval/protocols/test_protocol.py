"""Protocols: those in the package load, and a mistake in one is a sentence."""

import pytest

from mriqa.eval.protocols import ProtocolError, load_protocol, protocol_names

NAMES = {"mr-iqa", "koniq-official", "ten-splits", "cross", "shamisa", "presta", "conord", "embedded"}


def test_the_package_has_the_published_protocols():
    assert set(protocol_names()) == NAMES
    for name in NAMES:
        protocol = load_protocol(name)
        assert protocol.name == name and protocol.title and protocol.about and protocol.sets
        assert len({load_protocol(other).identity for other in NAMES}) == len(NAMES)


def test_what_the_papers_state():
    mr_iqa = load_protocol("mr-iqa")
    assert [each.name for each in mr_iqa.sets] == ["koniq10k", "spaq", "livec", "agiqa3k", "kadid10k", "csiq"]
    assert mr_iqa.sets[0].split == "test" and dict(mr_iqa.pixels) == {"most": 196608}
    conord = load_protocol("conord")
    assert (conord.splits.count, conord.splits.test, conord.splits.whole) == (10, 0.2, ("flive",))
    shamisa = load_protocol("shamisa")
    assert shamisa.measures == ("srcc", "plcc_mapped") and len(shamisa.sets) == 6
    assert [shamisa.pixels_of(each) for each in shamisa.sets] == [None] * 5 + [{"shorter_side": 512}]
    assert mr_iqa.pixels_of(mr_iqa.sets[3]) == {"most": 196608}


def test_identity_changes_with_what_numbers_depend_on_and_not_with_words(tmp_path):
    def identity(text):
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        return load_protocol(path).identity

    base = identity("title: A\nabout: b\nsets: [{name: x}]\n")
    assert identity("title: Other\nabout: words\nsets: [{name: x}]\n") == base
    assert identity("title: A\nabout: b\nsets: [{name: x, split: test}]\n") != base
    assert identity("title: A\nabout: b\nsets: [{name: x}]\npixels: {size: 224}\n") != base


@pytest.mark.parametrize(
    "text,words",
    [
        ("title: A\nabout: b\nsets: [{name: x}]\nmeasure: [srcc]\n", "did you mean 'measures'"),
        ("title: A\nabout: b\nsets: [{name: x}]\nmeasures: [srocc]\n", "Unknown measure 'srocc'; did you mean 'srcc'"),
        ("title: A\nabout: b\nsets: [{nam: x}]\n", "did you mean 'name'"),
        ("title: A\nabout: b\nsets: [{split: test}]\n", "a data set needs the key 'name'"),
        ("title: A\nabout: b\nsets: [{name: x, split: 3}]\n", "'split' must be text, not 3"),
        ("title: A\nabout: b\nsets: [{name: x}, {name: x}]\n", "two data sets are called 'x'"),
        ("title: A\nabout: b\nsets: []\n", "list of at least one data set"),
        ("title: A\nsets: [{name: x}]\n", "needs the key 'about'"),
        ("title: A\nabout: b\nsets: [{name: x}]\nsummary: median\n", "Unknown summary 'median'"),
        ("title: A\nabout: b\nsets: [{name: x}]\npixels: {width: 3}\n", "Unknown key of `pixels`: 'width'"),
        ("title: A\nabout: b\nsets: [{name: x, pixels: {size: 0}}]\n", "one of size, shorter_side, most"),
        ("title: A\nabout: b\nsets: [{name: x}]\npixels: 224\n", "one of size, shorter_side, most"),
        ("title: A\nabout: b\nsets: [{name: x}]\nsplits: {count: 0, test: 0.2}\n", "count of at least 1"),
        ("title: A\nabout: b\nsets: [{name: x}]\nsplits: {count: many, test: 0.2}\n", "count of at least 1"),
        ("title: A\nabout: b\nsets: [{name: x}]\nsplits: {count: 3, test: high}\n", "count of at least 1"),
        ("title: A\nabout: b\nsets: [{name: x}]\nmeasures: srcc\n", "`measures` must be a list"),
        ("- a\n", "must be keys with values"),
        ("title: [\n", "can't be read"),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path, text, words):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ProtocolError) as error:
        load_protocol(path)
    assert words in str(error.value) and str(path) in str(error.value) and "\n" not in str(error.value)


def test_unknown_names_and_missing_files_are_said(tmp_path):
    with pytest.raises(ProtocolError, match="Unknown protocol 'mr_iqa'; did you mean 'mr-iqa'"):
        load_protocol("mr_iqa")
    with pytest.raises(ProtocolError, match="can't be read: No such file"):
        load_protocol(tmp_path / "none.yaml")
