"""A protocol from its manifests to results.json, checked against scipy on the same rows."""

import json
import math

import numpy as np
import pytest
from PIL import Image
from scipy import stats
from small_protocol import PICTURES, no_scorer, write_data, write_protocol, write_scores

import mriqa
from mriqa.eval.leak_check import LeakError
from mriqa.eval.predictors import ScoredByModel, open_predictors
from mriqa.eval.protocol_run import RunError, run_protocol
from mriqa.eval.protocol_sets import at_pixels, loaded_sets
from mriqa.eval.protocols import ProtocolError, load_protocol
from mriqa.scoring.reading import Reading


@pytest.fixture
def data(tmp_path):
    write_data(tmp_path)
    return tmp_path


def rows_of(folder, name):
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]


def run(folder, specs, more="", **options):
    protocol = load_protocol(write_protocol(folder, more=more))
    options = {"resamples": 100, "data": folder, **options}
    return run_protocol(protocol, open_predictors(specs, no_scorer), folder / "out", **options)


def test_results_hold_every_prediction_and_measures_that_scipy_confirms(data):
    good, poor = write_scores(data, "good.csv", 0.2), write_scores(data, "poor.csv", 2.0)
    results = run(data, [good, poor])
    on_disk = json.loads((data / "out" / "results.json").read_text())
    assert on_disk["protocol"]["identity"] == results["protocol"]["identity"]
    assert [(each["model"], each["dataset"]) for each in on_disk["runs"]] == [
        ("good", "one"), ("good", "two"), ("poor", "one"), ("poor", "two"),
    ]  # fmt: skip
    for each in on_disk["runs"]:
        rows = rows_of(data, each["dataset"])
        assert [row["id"] for row in each["predictions"]] == [row["id"] for row in rows]
        pred, mos = ([row[key] for row in each["predictions"]] for key in ("score", "mos"))
        assert mos == [row["mos"] for row in rows]
        measured = on_disk["measures"][each["model"]][each["dataset"]]
        assert measured["srcc"]["value"] == pytest.approx(stats.spearmanr(pred, mos).statistic)
        assert measured["plcc"]["value"] == pytest.approx(stats.pearsonr(pred, mos).statistic)
        assert measured["srcc"]["low"] < measured["srcc"]["value"] < measured["srcc"]["high"] + 1e-12
        assert (measured["n"], measured["contents"], each["parse_failures"]) == (PICTURES, 6, 0)
    values = [on_disk["measures"]["good"][name]["srcc"]["value"] for name in ("one", "two")]
    assert on_disk["mean"]["good"]["srcc"]["value"] == pytest.approx(np.mean(values))
    by_distortion = on_disk["breakdowns"]["poor"]["one"]["distortion"]
    assert {part: each["n"] for part, each in by_distortion.items()} == {"blur": 12, "noise": 12}
    differences = [each for each in on_disk["differences"] if each["measure"] == "srcc"]
    assert [(each["dataset"], each["a"], each["b"]) for each in differences] == [
        ("one", "good", "poor"), ("two", "good", "poor"),
    ]  # fmt: skip
    assert max(each["p"] for each in differences) <= differences[0]["p_holm"] <= 1
    assert on_disk["distributions"]["good"]["one"] == {"reason": "This model states no distribution of scores."}


def test_only_the_part_that_the_protocol_names(data):
    good = write_scores(data, "good.csv", 0.2)
    protocol = data / "part.yaml"
    protocol.write_text("title: t\nabout: a\nsets: [{name: one, split: test, label: mos}]\n")
    results = run_protocol(
        load_protocol(protocol), open_predictors([good], no_scorer), data / "o", data=data, resamples=0
    )
    assert len(results["runs"][0]["predictions"]) == 20 and results["runs"][0]["label"] == "mos"
    protocol.write_text("title: t\nabout: a\nsets: [{name: one, split: validation}]\n")
    with pytest.raises(ProtocolError, match="No row of .*one.jsonl has the split 'validation'"):
        run_protocol(load_protocol(protocol), open_predictors([good], no_scorer), data / "o2", data=data)
    assert not (data / "o2").exists()


def test_each_data_set_may_have_its_own_folder_of_pictures(data):
    (data / "elsewhere").mkdir()
    (data / "two").rename(data / "elsewhere" / "two")
    protocol = data / "roots.yaml"
    text = "title: t\nabout: a\nsets: [{name: one}, {name: two, manifest: two.jsonl, image_root: elsewhere}]\n"
    protocol.write_text(text)
    with loaded_sets(load_protocol(protocol), data, None) as sets:
        assert all(row.image.is_file() for each in sets for row in each.rows)
    identity = load_protocol(protocol).identity
    protocol.write_text(text.replace(", image_root: elsewhere", ""))
    assert load_protocol(protocol).identity == identity  # the numbers depend on the pictures, not on where they are


def test_random_splits_give_the_median_over_parts_of_whole_contents(data):
    from mriqa.datasets.splits import split_by_content
    from mriqa.manifest import read_manifest

    good = write_scores(data, "good.csv", 0.8)
    results = run(data, [good], more="splits: {count: 5, test: 0.5, seed: 3, whole: [two]}\n")
    scores = {row["id"]: row["score"] for row in results["runs"][0]["predictions"]}
    rows = read_manifest(data / "one.jsonl")
    values = []
    for split in range(5):
        test = split_by_content(rows, [0.5, 0.5], seed=3 + split)[1]
        assert len({row.content for row in test}) == 3
        values.append(stats.spearmanr([scores[row.id] for row in test], [row.mos for row in test]).statistic)
    measured = results["measures"]["good"]["one"]
    assert measured["interval"] == "splits" and results["measures"]["good"]["two"]["interval"] == "bootstrap"
    assert measured["srcc"] == pytest.approx(
        {"value": np.median(values), "low": min(values), "high": max(values), "reason": None}
    )


class Brightness:
    """Black scores 1, white 5; half a point lower or higher with equal odds."""

    readout_name = "expected"

    def read(self, pictures, seed):
        means = [1.5 + 3 * np.asarray(picture).mean() / 255 for picture in pictures]
        return [Reading(np.array([mean - 0.5, mean + 0.5]), np.array([0.5, 0.5]), exact=True) for mean in means]


def test_a_model_brings_its_prompt_readout_and_distributions(data):
    (data / "one" / "3.png").write_bytes(b"no picture")
    model = ScoredByModel("folder/bright", mriqa.Scorer(None, None, backend=Brightness()))
    protocol = load_protocol(write_protocol(data, more="pixels: {size: 20}\n"))
    results = run_protocol(protocol, [model], data / "out", data=data, resamples=50)
    about = results["models"]["bright"]
    assert about["readout"] == "expected" and len(about["prompt_sha256"]) == 64
    first = results["runs"][0]
    assert first["parse_failures"] == 1 and "3.png" in first["predictions"][3]["error"]
    assert first["predictions"][0]["size"] == (20, 20) and first["pixels"] == {"size": 20}
    level = np.asarray(Image.open(data / "one" / "0.png")).mean()
    assert first["predictions"][0]["score"] == pytest.approx(1.5 + 3 * level / 255)
    assert results["measures"]["bright"]["one"]["parse_rate"]["value"] == pytest.approx(23 / 24)
    found = results["distributions"]["bright"]["two"]
    assert found["n"] == 24 and 0 <= found["calibration"]["ece"] <= 1 and found["pairs"]["accuracy"] > 0.8
    assert found["distances"]["js"] <= math.log(2)


def test_nothing_is_overwritten_and_a_missing_manifest_names_the_command(data):
    good = write_scores(data, "good.csv", 0.2)
    run(data, [good], resamples=0)
    with pytest.raises(RunError, match="exists already.*--overwrite"):
        run(data, [good], resamples=0)
    run(data, [good], resamples=0, overwrite=True)
    with pytest.raises(ProtocolError, match="mriqa data prepare one --root"):
        run(data, [good], overwrite=True, data=data / "elsewhere")
    (data / "file").write_text("")
    with pytest.raises(RunError, match="is a file"):
        run_protocol(load_protocol("embedded"), [], data / "file")


def test_what_was_trained_on_must_not_be_measured_on(data):
    good = write_scores(data, "good.csv", 0.2)
    protocol = data / "part.yaml"
    protocol.write_text("title: t\nabout: a\nsets: [{name: one, split: test}]\n")
    (data / "other.jsonl").write_text((data / "two.jsonl").read_text())

    def measure(train, leaks="refuse"):
        return run_protocol(
            load_protocol(protocol), open_predictors([good], no_scorer), data / "audited",
            data=data, resamples=0, train=[data / train], leaks=leaks, overwrite=True,
        )  # fmt: skip

    assert measure("other.jsonl")["audit"]["shared"] == {"one": 0}
    with pytest.raises(LeakError, match="one.jsonl and the data set one share 4 pictures or contents"):
        measure("one.jsonl")  # its training part shares four of six contents with the test part
    assert measure("one.jsonl", "allow")["audit"]["shared"] == {"one": 4}
    assert "share 4 with one" in (data / "audited" / "report.html").read_text()


@pytest.mark.parametrize(
    "pixels,size",
    [(None, (60, 40)), ({"size": 32}, (32, 32)), ({"shorter_side": 20}, (30, 20)), ({"shorter_side": 90}, (60, 40)),
     ({"most": 600}, (30, 20)), ({"most": 10_000}, (60, 40))],
)  # fmt: skip
def test_pictures_come_at_the_protocols_size(pixels, size):
    assert at_pixels(Image.new("RGB", (60, 40)), pixels).size == size


def test_the_file_of_the_part_will_do_where_the_whole_data_set_is_not_there(data):
    good = write_scores(data, "good.csv", 0.2)
    (data / "part.yaml").write_text("title: t\nabout: a\nsets: [{name: one, split: test}]\n")
    lines = (data / "one.jsonl").read_text().splitlines(keepends=True)
    (data / "one_test.jsonl").write_text("".join(line for line in lines if json.loads(line)["split"] == "test"))
    (data / "one.jsonl").unlink()
    results = run_protocol(
        load_protocol(data / "part.yaml"), open_predictors([good], no_scorer), data / "out", data=data, resamples=0
    )
    assert results["runs"][0]["source"].endswith("one_test.jsonl") and results["measures"]["good"]["one"]["n"] == 20
