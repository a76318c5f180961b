"""Metrics of other libraries, run by these: each gives the scores of `mriqa score`. Skipped where one is absent."""

from __future__ import annotations

import copy
import json
import math
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import mriqa
from mriqa.cli import app
from mriqa.eval.metrics import plcc, srcc


@pytest.fixture(scope="module")
def commanded(rows, tiny_model) -> list[float]:
    """The scores that `mriqa score` gives the six pictures."""
    return command(rows, tiny_model)


def command(rows, model, *more: str) -> list[float]:
    images = [str(row.image) for row in rows]
    done = CliRunner().invoke(app, ["score", *images, "--model", str(model), "--device", "cpu", *more])
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [Path(line["image"]) for line in lines] == [row.image for row in rows], done.output
    return [math.nan if line["score"] is None else line["score"] for line in lines]


def test_torchmetrics(rows, tiny_model, commanded):
    torchmetrics = pytest.importorskip("torchmetrics")
    from mriqa.adapters import MeanQuality

    pixels = [np.array(Image.open(row.image)) for row in rows]
    batch_NCHW = torch.from_numpy(np.stack(pixels[:4])).permute(0, 3, 1, 2).float() / 255
    metric = MeanQuality(mriqa.Scorer.from_pretrained(tiny_model, device="cpu"))
    assert isinstance(metric, torchmetrics.Metric)
    assert float(metric(batch_NCHW)) == pytest.approx(np.mean(commanded[:4]), abs=1e-5)
    metric.update([rows[4].image, rows[5].image, b"no picture", None])
    assert float(metric.compute()) == pytest.approx(np.mean(commanded), abs=1e-5)
    assert (int(metric.n_scored), int(metric.n_unscored)) == (6, 2)

    other = copy.deepcopy(metric)
    assert other.reward.scorer is metric.reward.scorer and other.compute() == metric.compute()
    metric.reset()
    assert math.isnan(metric.compute())
    collection = torchmetrics.MetricCollection({"quality": metric})
    assert float(collection(batch_NCHW)["quality"]) == pytest.approx(np.mean(commanded[:4]), abs=1e-5)


def test_evaluate(rows, tiny_model, commanded, tmp_path, monkeypatch):
    evaluate = pytest.importorskip("evaluate")
    from mriqa.adapters import evaluate_measurement

    monkeypatch.setattr(evaluate.config, "HF_EVALUATE_OFFLINE", True)
    quality = evaluate.load(
        evaluate_measurement.__file__, module_type="measurement", cache_dir=str(tmp_path), keep_in_memory=True
    )
    given = [str(rows[0].image), Image.open(rows[1].image), *(str(row.image) for row in rows[2:])]
    found = quality.compute(data=given, model=str(tiny_model), device="cpu")
    np.testing.assert_allclose(found["scores"], commanded, atol=1e-5)
    assert found["mean_score"] == pytest.approx(np.mean(commanded), abs=1e-5)


def test_pyiqas_plugin_is_declared():
    (plugin,) = (each for each in entry_points(group="pyiqa.archs") if each.name == "mriqa")
    assert plugin.value == "mriqa.adapters.pyiqa_metric:register_with_pyiqa"


def test_pyiqa(rows, tiny_model, commanded):
    pyiqa = pytest.importorskip("pyiqa")
    from mriqa.adapters import register_with_pyiqa

    register_with_pyiqa()
    register_with_pyiqa()
    metric = pyiqa.create_metric("mriqa", device="cpu", model=str(tiny_model))
    assert not metric.lower_better and metric.metric_mode == "NR"
    scores = [float(metric(str(row.image))) for row in rows]
    np.testing.assert_allclose(scores, commanded, atol=1e-5)
    batch_NCHW = torch.from_numpy(np.stack([np.array(Image.open(row.image)) for row in rows])).permute(0, 3, 1, 2) / 255
    np.testing.assert_allclose(metric(batch_NCHW).flatten(), commanded, atol=1e-5)

    loss = pyiqa.create_metric("mriqa", device="cpu", model=str(tiny_model), as_loss=True)
    batch_NCHW.requires_grad_()
    value = loss(batch_NCHW)
    value.backward()
    assert value.item() == pytest.approx(np.mean(commanded), abs=1e-5) and batch_NCHW.grad.norm() > 0


def test_pyiqa_finds_the_plugin_itself_once_another_metric_was_made(tiny_model):
    pytest.importorskip("pyiqa")
    program = f"""
import pyiqa
pyiqa.create_metric("psnr", device="cpu")
print(type(pyiqa.create_metric("mriqa", device="cpu", model={str(tiny_model)!r}).net).__name__)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["MriqaScorer"], done.stderr


def test_lmms_evals_task_files(rows, tmp_path):
    """What the task's functions do, without the library."""
    from mriqa.adapters import write_lmms_eval_task
    from mriqa.adapters.lmms_eval_task import TaskFunctions

    path = written_task(rows, tmp_path, write_lmms_eval_task)
    assert path.name == "noise.yaml" and "!function noise_functions.to_text" in path.read_text()
    docs = [json.loads(line) for line in (path.parent / "noise.jsonl").read_text().splitlines()]
    functions = TaskFunctions.beside(path.parent, "noise")
    assert functions.to_visual(docs[0])[0].size == (64, 64) and functions.to_target(docs[0]) == "4.80"
    assert mriqa.answers.load_format("non_thinking").user in functions.to_text(docs[0])
    answers = ["<answer>4.00</answer>", "well", "<answer>2.00</answer>", "<answer>3.00</answer>"]
    results = [functions.process_results(doc, [answer]) for doc, answer in zip(docs, answers)]
    assert functions.parsed([result["parsed"] for result in results]) == 0.75
    human = [docs[0]["mos"], docs[2]["mos"], docs[3]["mos"]]
    assert functions.srcc([result["srcc"] for result in results]) == srcc([4, 2, 3], human)
    assert functions.plcc([result["plcc"] for result in results]) == plcc([4, 2, 3], human)


def test_lmms_eval(rows, tmp_path, tiny_model, monkeypatch):
    """lmms-eval's own evaluator, over a model that answers as `mriqa score --readout greedy` asks."""
    pytest.importorskip("lmms_eval.evaluator")
    from lmms_eval.api.model import lmms
    from lmms_eval.evaluator import evaluate
    from lmms_eval.tasks import TaskManager, get_task_dict

    from mriqa.adapters import write_lmms_eval_task
    from mriqa.adapters.lmms_eval_task import TaskFunctions

    scorer = mriqa.Scorer.from_pretrained(tiny_model, "greedy", device="cpu", structured=True)

    class Greedy(lmms):
        def generate_until(self, requests):
            answers = []
            for request in requests:
                context, _, to_visual, doc_id, task, split = request.args
                assert context == TaskFunctions(scorer.answer_format).to_text({})
                (score,) = scorer.score(to_visual(tasks[task].dataset[split][doc_id]))
                answers.append(score.text)
            return answers

        def loglikelihood(self, requests):
            raise NotImplementedError

        generate_until_multi_round = loglikelihood

    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    path = written_task(rows, tmp_path, write_lmms_eval_task, answer_format=scorer.answer_format)
    tasks = get_task_dict(["noise"], TaskManager(include_path=str(path.parent), include_defaults=False))
    found = evaluate(lm=Greedy(), task_dict=tasks, bootstrap_iters=0)
    commanded = command(rows, tiny_model, "--readout", "greedy")
    samples = sorted(found["samples"]["noise"], key=lambda sample: sample["doc_id"])
    np.testing.assert_allclose([sample["srcc"][0] for sample in samples], commanded, atol=1e-5)
    expected = srcc(commanded, [row.mos for row in rows])
    assert found["results"]["noise"]["srcc,none"] == pytest.approx(expected)
    assert found["results"]["noise"]["parsed,none"] == 1.0


def written_task(rows, folder, write, **options) -> Path:
    manifest = rows[0].image.with_name("rated.jsonl")
    manifest.write_text("".join(json.dumps({"image": row.image.name, "mos": row.mos}) + "\n" for row in rows))
    return write(manifest, folder / "tasks", name="noise", **options)
