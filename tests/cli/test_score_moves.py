"""`mriqa stability`: from pictures to stability.json, and from there to the card and the report."""

import json
import re

import pytest
from small_protocol import write_data, write_protocol
from typer.testing import CliRunner

from mriqa.cli import app


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_model_and_its_report(tmp_path, tiny_model):
    import shutil

    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    write_data(tmp_path, ("one",))
    out = model / "stability.json"
    images = [tmp_path / "one" / f"{k}.png" for k in range(4)]
    done = run("stability", *images, "--model", model, "--device", "cpu", "--out", out)
    assert done.exit_code == 0, done.output
    assert "moves a score by at most" in " ".join(done.output.split())
    found = json.loads(out.read_text())
    names = [change["name"] for change in found["changes"]]
    assert (
        "mirrored" in names
        and "bfloat16 instead of float32" in names
        and "float16 instead of float32" in names
        and not found["left_out"]
    )
    assert found["pictures"] == 4 and found["source"] == "4 pictures" and "torch" in found["versions"]
    assert all(0 <= change["move_mean"] <= change["move_max"] <= 4 for change in found["changes"])

    refused = run("stability", images[0], "--model", model, "--out", out)
    assert refused.exit_code == 2 and "exists already" in refused.output

    protocol = write_protocol(tmp_path, ("one",))
    done = run("eval", "--protocol", protocol, "-m", model, "--data", tmp_path, "--device", "cpu", "-o", tmp_path / "o")
    assert done.exit_code == 0, done.output
    page = (tmp_path / "o" / "report.html").read_text()
    section = page.split('<h2 id="stability">')[1].split("</section>")[0]
    assert "in a batch with a wider picture (padding)" in names
    assert "<p>The way a model is run moves a score by at most" in section
    assert "model on 4 pictures, readout expected" in section and "resized to 1/2" in section
    assert len(re.findall("<tr>", section)) == 1 + len(names)


@pytest.mark.parametrize(
    "arguments,words",
    [(["no_such_folder"], "There is no file or folder no_such_folder"), (["--out", "a.csv"], ".json")],
)
def test_refusals_are_one_sentence(arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("stability", *arguments)
    assert result.exit_code == 2 and words in result.output
