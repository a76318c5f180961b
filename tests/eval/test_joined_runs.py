"""Runs in one table: those of one protocol and the same pictures, and no others."""

import json

import pytest
from small_protocol import no_scorer, write_data, write_protocol, write_scores

from mriqa.eval.joined_runs import LeaderboardError, join_runs, leaderboard_page
from mriqa.eval.predictors import open_predictors
from mriqa.eval.protocol_run import run_protocol
from mriqa.eval.protocols import load_protocol


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_data(folder)
    write_scores(folder, "poor.csv", 2.0)
    write_scores(folder, "good.csv", 0.2)
    return folder


def run(data, out, *models, more=""):
    protocol = load_protocol(write_protocol(data, more=more))
    specs = [f"csv:{data / model}.csv" for model in models]
    run_protocol(protocol, open_predictors(specs, no_scorer), data / out, data=data, resamples=60, overwrite=True)
    return data / out


def test_models_of_two_runs_are_compared_as_in_one(data):
    apart = join_runs([run(data, "a", "poor"), run(data, "b", "good") / "results.json"])
    together = json.loads((run(data, "c", "good", "poor") / "results.json").read_text())
    assert list(apart["models"]) == ["good", "poor"]  # best first
    assert apart["measures"] == together["measures"] and apart["mean"] == together["mean"]
    for one, other in zip(apart["differences"], together["differences"], strict=True):
        assert (one["a"], one["b"], one["dataset"]) == (other["a"], other["b"], other["dataset"])
        assert one["difference"] == pytest.approx(other["difference"]) and one["p_williams"] == pytest.approx(
            other["p_williams"]
        )
    page = leaderboard_page(apart)
    assert page.index(">good<") < page.index(">poor<") and "better" in page


def test_other_protocols_and_other_pictures_never_share_a_table(data, tmp_path):
    first = run(data, "a", "poor")
    other = run(data, "d", "good", more="pixels: {size: 20}\n")
    with pytest.raises(LeaderboardError, match="numbers of different protocols never share a table"):
        join_runs([first, other])
    write_data(tmp_path, seed=5)
    write_scores(tmp_path, "good.csv", 0.2)
    with pytest.raises(LeaderboardError, match="different pictures or human scores"):
        join_runs([first, run(tmp_path, "e", "good")])


def test_equal_names_get_their_folder_and_rubbish_is_refused(data, tmp_path):
    joined = join_runs([run(data, "a", "poor"), run(data, "b", "poor")])
    assert set(joined["models"]) == {"poor", "poor (b)"}
    with pytest.raises(LeaderboardError, match="can't be read"):
        join_runs([tmp_path])
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(LeaderboardError, match="is not what"):
        join_runs([tmp_path])
    with pytest.raises(LeaderboardError, match="no run to show"):
        join_runs([])
