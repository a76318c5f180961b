"""`mriqa eval --protocol` and `mriqa leaderboard` from the command line."""

import json

import pytest
from small_protocol import write_data, write_protocol, write_scores
from typer.testing import CliRunner

from mriqa.cli import app


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def data(tmp_path):
    write_data(tmp_path)
    write_protocol(tmp_path)
    return tmp_path


def test_two_runs_and_their_leaderboard(data):
    for name, noise in (("good", 0.2), ("poor", 2.0)):
        scores = write_scores(data, f"{name}.csv", noise)
        result = run("eval", "--protocol", data / "small.yaml", "-m", scores, "--data", data, "--out", data / name)
        assert result.exit_code == 0, result.output
        assert "SRCC" in result.output
        assert json.loads((data / name / "results.json").read_text())["seed"] == 0
    result = run("leaderboard", data / "good", data / "poor", "--out", data / "board.html")
    assert result.exit_code == 0 and (data / "board.html").read_text().startswith("<!DOCTYPE html>")
    assert run("leaderboard", data / "good", "--out", data / "board.html").exit_code == 2
    refused = run("leaderboard", data / "none", "--out", data / "other.html")
    assert refused.exit_code == 2 and "can't be read" in refused.output and not (data / "other.html").exists()


def test_pictures_without_a_score_are_counted(data):
    (data / "half.csv").write_text("id,score\n" + "".join(f"one-{k},{k}\n" for k in range(24)))
    arguments = (
        "--protocol",
        data / "small.yaml",
        "-m",
        f"csv:{data / 'half.csv'}",
        "--data",
        data,
        "-o",
        data / "out",
    )
    result = run("eval", *arguments)
    assert result.exit_code == 1 and "24 pictures have no score" in result.output
    assert "No prediction parsed" in (data / "out" / "report.html").read_text()


def test_a_decoding_ablation_has_the_cost_of_each_readout(data, tiny_model):
    """Greedy, the mean of four samples and the exact expectation of one model, side by side in results and report."""
    models = [word for readout in ("greedy", "sample", "expected") for word in ("-m", f"{readout}:{tiny_model}")]
    out = data / "ablation"
    protocol = data / "ablation.yaml"
    protocol.write_text("title: t\nabout: a\nsets: [{name: one}]\n")
    result = run("eval", "--protocol", protocol, *models, "--samples", 4, "--device", "cpu", "--data", data, "-o", out)
    assert result.exit_code in (0, 1), result.output  # 1: a random model's free answers need not be scores
    results = json.loads((out / "results.json").read_text())
    assert [each["readout"] for each in results["runs"]] == ["greedy", "sample", "expected"]
    assert all(each["seconds_per_picture"] > 0 for each in results["runs"])
    about = results["models"].values()
    assert [each["samples"] for each in about] == [1, 4, None]
    page = (out / "report.html").read_text()
    assert "seconds a<br>picture" in page
    for each in results["runs"]:
        assert f"<td>{each['seconds_per_picture']:.3f}</td>" in page


@pytest.mark.parametrize(
    "arguments,words",
    [
        (["--protocol", "mriqa", "--out", "o"], "Unknown protocol 'mriqa'"),
        (["--protocol", "embedded"], "needs --out FOLDER"),
        (["--protocol", "embedded", "--manifest", "m.jsonl", "--out", "o"], "--manifest does not go with"),
        (["--protocol", "embedded", "--scale", "0:100", "--out", "o"], "--scale does not go with --protocol"),
        (["--protocol", "koniq-official", "-m", "niqe", "--out", "o"], "pyiqa:niqe"),
        (["--model", "a"], "give --manifest FILE, or --protocol NAME"),
        (["--manifest", "m.jsonl", "--model", "a", "--model", "b"], "several models need --protocol"),
    ],
)
def test_refusals_are_one_sentence(arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("eval", *arguments)
    assert result.exit_code == 2 and words in " ".join(result.output.replace("│", " ").split())
    assert not (tmp_path / "o").exists()
