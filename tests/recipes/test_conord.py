"""The encoder recipe: it learns, goes on when killed, keeps any scale, takes videos, and refuses in one sentence."""

import json
import math
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from mriqa.conord import ConOrdModel
from mriqa.heads import angular_gaps

CONFIGS = Path(__file__).parents[2] / "recipes" / "configs" / "conord"
TINY = [
    "--encoder",
    "timm:test_resnet",
    "--pretrained",
    "false",
    "--crop",
    "32",
    "--width",
    "16",
    "--k",
    "3",
    "--workers",
    "0",
]
QUICK = [*TINY, "--learning_rate", "1e-3", "--warmup_epochs", "1", "--checkpoint_minutes", "0", "--batch_size", "16"]


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    """Forty pictures of ten contents, the noisier the older, with ages 0..116 and gaze directions."""
    folder = tmp_path_factory.mktemp("noisy")
    generator = np.random.default_rng(0)
    lines = []
    for index in range(40):
        level = index % 4 + 0.02 * (index // 4)
        pixels = generator.normal(100 + 8 * (index // 4), 4 + 20 * level, (40, 48, 3)).clip(0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}.png")
        row = {"image": f"{index}.png", "content": str(index // 4), "age": 10 + 30 * level, "pitch": -40 + 10 * level}
        lines.append(json.dumps({**row, "yaw": 45 - 20 * level, "mos": 4.6 - level}))
    (folder / "rows.jsonl").write_text("\n".join(lines))
    return folder / "rows.jsonl"


def run(*options):
    import conord

    return conord.main([str(option) for option in options])


def result_of(folder, test="test", split=0):
    """What a split of a run says of a test."""
    return json.loads((folder / f"split-{split:02d}" / "result.json").read_text())["tests"][test]


def untimed(history):
    """The epochs of a history without their seconds, which no two runs share."""
    return [{name: value for name, value in epoch.items() if name != "seconds"} for epoch in history]


def test_it_learns_ages_and_what_it_saves_predicts_them(noisy, tmp_path):
    out = tmp_path / "ages"
    options = ["--manifest", noisy, "--score_key", "age", "--scale", "0:116", "--output_dir", out, *QUICK]
    assert run(*options, "--splits", 2, "--epochs", 8, "--flip", "true") == 0
    results = json.loads((out / "results.json").read_text())["tests"]["test"]
    assert results["median"]["srcc"] > 0.85 and results["median"]["mae"] < 15  # ages spread over 10..105
    for name in ("srcc", "plcc", "mae"):
        assert results["median"][name] == statistics.median(split[name] for split in results["splits"])
        assert f"| test | {name.upper()} | {results['median'][name]:.3f} |" in (out / "results.md").read_text()

    ages = {row["image"]: row for row in map(json.loads, noisy.read_text().splitlines())}
    for split in (0, 1):
        result = result_of(out, split=split)
        model = ConOrdModel.load(out / f"split-0{split}" / "model")
        asked = [row["id"] for row in result["predictions"]]
        predicted = [row["predicted"] for row in result["predictions"]]
        assert np.allclose([row["rank"] for row in result["predictions"]], [ages[name]["age"] for name in asked])
        assert np.allclose(model.predict([noisy.parent / name for name in asked]), predicted, rtol=1e-4)
        assert math.isclose(result["mae"], np.mean([abs(r["rank"] - r["predicted"]) for r in result["predictions"]]))
        tested = {ages[name]["content"] for name in asked}
        assert len(asked) == 8 and len(tested) == 2 and len(model.index) == 32  # whole contents, a fifth of them
    assert not list(out.rglob("checkpoint*"))


def test_a_killed_run_goes_on_to_the_same_end(noisy, tmp_path, monkeypatch):
    import conord

    options = ["--manifest", noisy, *QUICK, "--splits", 2, "--epochs", 3, "--weighting", "X", "--output_dir"]
    assert run(*options, tmp_path / "whole") == 0

    save, epochs, kept = conord.save_checkpoint, [], []

    def killed(path, objective, optimizer, history):
        save(path, objective, optimizer, history)
        epochs.append(len(history))
        kept[:] = history
        if len(epochs) == 4:  # after the second epoch of the second split; there is no checkpoint after the third
            raise KeyboardInterrupt

    monkeypatch.setattr(conord, "save_checkpoint", killed)
    with pytest.raises(KeyboardInterrupt):
        run(*options, tmp_path / "killed")
    assert (tmp_path / "killed" / "split-01" / "checkpoint.safetensors").is_file()
    first = (tmp_path / "killed" / "split-00" / "result.json").stat().st_mtime_ns
    assert run(*options, tmp_path / "killed") == 0
    assert epochs == [1, 2, 1, 2]  # no epoch was trained again
    assert (tmp_path / "killed" / "split-00" / "result.json").stat().st_mtime_ns == first
    for split in ("split-00", "split-01"):
        whole, again = (
            load_file(tmp_path / name / split / "model" / "model.safetensors") for name in ("whole", "killed")
        )
        assert all(torch.equal(whole[name], again[name]) for name in whole)
        whole, again = (
            json.loads((tmp_path / name / split / "result.json").read_text()) for name in ("whole", "killed")
        )
        assert whole["tests"] == again["tests"] and untimed(whole["history"]) == untimed(again["history"])
    assert again["history"][:2] == kept  # the seconds of the epochs before it was killed too

    (tmp_path / "killed" / "split-01" / "result.json").unlink()
    (tmp_path / "killed" / "split-01" / "checkpoint.safetensors").write_bytes(b"half")
    assert run(*options, tmp_path / "killed") == 2


def test_what_it_cost_is_summed_up(noisy, tmp_path, monkeypatch):
    from mriqa.conord import ranked_sets

    opened, load = [], ranked_sets.load_views
    monkeypatch.setattr(
        ranked_sets, "load_views", lambda path, *others: opened.append(path.name) or load(path, *others)
    )
    out = tmp_path / "out"
    options = ["--manifest", noisy, *QUICK, "--frozen", "true", "--splits", 2, "--epochs", 3, "--output_dir", out]
    assert run(*options, "--test_repeats", 3) == 0
    splits = [json.loads((out / f"split-0{split}" / "result.json").read_text()) for split in (0, 1)]
    tested = [row["id"] for split in splits for row in split["tests"]["test"]["predictions"]]
    assert sorted(opened[40:]) == sorted(3 * tested)  # features were computed once, and each timed test reads its files
    epochs = [epoch["seconds"] for split in splits for epoch in split["history"]]
    tests = [seconds for split in splits for seconds in split["tests"]["test"]["test_seconds"]]
    assert len(epochs) == len(tests) == 6 and min(epochs + tests) > 0
    assert math.isclose(splits[1]["epoch_seconds"], statistics.fmean(epochs[3:]))
    weights = load_file(out / "split-00" / "model" / "model.safetensors")
    parameters = dict(ConOrdModel.load(out / "split-00" / "model").named_parameters())
    assert splits[0]["parameters"] == sum(weights[name].numel() for name in parameters) > 16 * 512

    results, text = json.loads((out / "results.json").read_text()), (out / "results.md").read_text()
    for seconds, spread, name in (
        (epochs, results["epoch_seconds"], "training epoch"),
        (tests, results["test_seconds"]["test"], "predicting test"),
    ):
        assert math.isclose(spread["mean"], statistics.fmean(seconds)) and spread["times"] == 6
        assert math.isclose(spread["std"], statistics.stdev(seconds))
        assert f"| {name}, s | {spread['mean']:.3f} ± {spread['std']:.3f} | 6 |" in text
    assert results["parameters"] == splits[0]["parameters"]
    assert f"| millions of parameters | {results['parameters'] / 1e6:.1f} | |" in text


def test_the_default_network_is_as_large_as_the_paper_says():
    with torch.device("meta"):
        model = ConOrdModel.build(pretrained=False)
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6) == 86  # Table 25


def test_gaze_frozen_and_another_test_set(noisy, tmp_path):
    test = noisy.with_name("test.jsonl")
    test.write_text("\n".join(noisy.read_text().splitlines()[::3]))
    vector = ["--vector", "pitch=-40:10", "yaw=-45:45", "--distance", "angular", "--frozen", "true"]
    options = ["--manifest", noisy, "--test_manifest", test, *vector, *QUICK, "--splits", 1, "--epochs", 4]
    assert run(*options, "--output_dir", tmp_path / "gaze") == 0
    result = result_of(tmp_path / "gaze", "test")
    found = torch.tensor([[row["predicted"], row["rank"]] for row in result["predictions"]], dtype=torch.float64)
    assert found.shape == (14, 2, 2)
    angles = torch.stack([angular_gaps(pair)[0, 1] for pair in found])
    assert math.isclose(result["angular_mae"], float(angles.mean())) and "srcc" not in result
    model = ConOrdModel.load(tmp_path / "gaze" / "split-00" / "model")
    assert model.rank_names == ["pitch", "yaw"] and model.predict([noisy.parent / "0.png"]).shape == (1, 2)
    predicted = model.predict([noisy.parent / row["id"] for row in result["predictions"]])
    torch.testing.assert_close(predicted.double(), found[:, 0], rtol=1e-4, atol=1e-4)


def test_videos(tmp_path):
    av = pytest.importorskip("av", reason="PyAV is not installed")
    generator = np.random.default_rng(0)
    lines = []
    for index in range(16):
        with av.open(str(tmp_path / f"{index}.mp4"), "w") as container:
            stream = container.add_stream("mpeg4", rate=10)
            stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 48, 32, "yuv420p", 2_000_000
            for _ in range(6):
                pixels = generator.normal(120, 4 + 12 * (index % 4), (32, 48, 3)).clip(0, 255).astype(np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode(None))
        lines.append(json.dumps({"image": f"{index}.mp4", "mos": 4.6 - index % 4}))
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    video = [
        "--frames",
        2,
        "--clips",
        1,
        "--clip_length",
        4,
        "--clip_size",
        32,
        "--fast_depths",
        1,
        1,
        1,
        1,
        "--fast_stem",
        2,
    ]
    options = [
        "--manifest",
        tmp_path / "rows.jsonl",
        *QUICK,
        *video,
        "--splits",
        1,
        "--epochs",
        8,
        "--test_share",
        0.25,
    ]
    assert run(*options, "--output_dir", tmp_path / "out") == 0
    history = json.loads((tmp_path / "out" / "split-00" / "result.json").read_text())["history"]
    assert history[-1]["loss"] < history[0]["loss"]
    result = result_of(tmp_path / "out")
    model = ConOrdModel.load(tmp_path / "out" / "split-00" / "model")
    predicted = model.predict([tmp_path / row["id"] for row in result["predictions"]])
    assert np.allclose(predicted, [row["predicted"] for row in result["predictions"]], rtol=1e-4)

    (tmp_path / "3.mp4").write_bytes(b"broken")
    assert run(*options, "--output_dir", tmp_path / "again") == 2 and not (tmp_path / "again").exists()


def test_two_processes_train_as_one(noisy, tmp_path):
    """The encoder has no batch statistics, so the weights agree but for the order of sums."""
    own = [
        "--encoder",
        "timm:test_vit",
        "--pretrained",
        "false",
        "--size",
        "160",
        "--width",
        "8",
        "--k",
        "3",
        "--workers",
        "0",
    ]
    own += [
        "--learning_rate",
        "1e-4",
        "--warmup_epochs",
        "0",
        "--epochs",
        "1",
        "--splits",
        "1",
        "--cpu",
        "true",
        "--crops",
        "1",
    ]
    own += ["--manifest", noisy, "--output_dir"]
    assert run(*own, tmp_path / "1") == 0
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += [CONFIGS.parents[1] / "conord.py", *own, tmp_path / "2"]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    one, two = (load_file(tmp_path / name / "split-00" / "model" / "model.safetensors") for name in ("1", "2"))
    for name in one:  # Adam's first steps are the sign of the gradient times the rate, 1e-4, wherever it is near 0
        torch.testing.assert_close(one[name], two[name], rtol=1e-3, atol=5e-5)
    one, two = (json.loads((tmp_path / name / "split-00" / "result.json").read_text()) for name in ("1", "2"))
    assert math.isclose(one["history"][0]["loss"], two["history"][0]["loss"], rel_tol=1e-5)
    one, two = (result_of(tmp_path / name)["predictions"] for name in ("1", "2"))
    assert [row["id"] for row in one] == [row["id"] for row in two]


@pytest.mark.parametrize("options, sentence", [
    (["--manifest", "none.jsonl"], "Manifest none.jsonl does not exist"),
    ([], "No manifest to train on"),
    (["--encoder", "timm:resnet81"], "timm has no model 'resnet81'"),
    (["--weighting", "XIV"], "Unknown weighting 'XIV'"),
    (["--loss", "cloc"], "Unknown loss 'cloc'"),
    (["--points_init", "mean"], "Unknown points_init 'mean'; did you mean 'means'"),
    (["--training_views", "both"], "Unknown training_views 'both'"),
    (["--loss_weight", -1], "loss_weight must be a number of at least 0"),
    (["--loss_weight", 0, "--center_weight", 0], "nothing to train"),
    (["--loss", "rnc", "--frozen", "true"], "give --training_views random --crops 3"),
    (["--train_share", 0], "train_share must be a share above 0"),
    (["--folds", 1], "folds must be at least 2"),
    (["--test_repeats", -1], "test_repeats must be at least 0"),
    (["--folds", 2, "--fold_key", "pitch"], "folds and fold_key are different ways"),
    (["--fold_key", "yaw"], "outside the declared scale 0..999"),
    (["--test_scale", "0:5"], "There are 0 test manifests and 1 scales"),
    (["--corruptions", "rain"], "Unknown corruption 'rain'"),
    (["--scale", "5"], "There is no scale '5'"),
    (["--scale", "0:2"], "outside the declared scale 0..2"),
    (["--k", 33], "has 32 training and 8 test items; k is 33"),
    (["--epochs", 3, "--warmup_epochs", 3], "3 warm-up epochs do not fit into 3"),
    (["--batch_size", 1], "A batch of 1 is too small"),
    (["--optimizer", "sgd"], "Unknown optimizer 'sgd'"),
    (["--frozen", "true", "--flip", "true"], "flip has no effect"),
    (["--vector", "pitch=-40:10", "--distance", "angular"], "distance angular is for two numbers"),
    (["--vector", "pitch=0:1", "--scale", "0:1"], "leave scale and score_key out"),
    (["--crop", 0], "crop must be a number of pixels"),
    (["--tau", 0], "tau must be a finite number above 0"),
    (["--test_share", 1], "test_share between 0 and 1"),
    (["--config", "none.yaml"], "The configuration none.yaml cannot be read"),
])  # fmt: skip
def test_refusals_are_one_sentence(noisy, tmp_path, capsys, options, sentence):
    import re

    manifest = [] if "--manifest" in options or not options else ["--manifest", noisy]
    assert run(*manifest, *QUICK, "--epochs", 2, "--output_dir", tmp_path / "out", *options) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and re.search(sentence, error) and error.count("\n") == 1


def test_folders_of_others_are_left_alone(noisy, tmp_path, capsys):
    out, manifest = tmp_path / "out", tmp_path / "rows.jsonl"
    manifest.write_text(noisy.read_text())
    options = ["--manifest", manifest, "--image_root", noisy.parent, *QUICK, "--epochs", 2, "--output_dir", out]
    out.mkdir()
    (out / "thesis.tex").write_text("mine")
    assert run(*options) == 2 and "something else than a run" in capsys.readouterr().err
    (out / "thesis.tex").unlink()
    assert run(*options, "--encoder", "timm:resnet81") == 2 and "no model" in capsys.readouterr().err
    assert run(*options, "--splits", 1) == 0  # a run that never began is in nobody's way
    assert run(*options, "--splits", 2) == 0 and (out / "split-01").is_dir()  # more splits are added
    assert run(*options, "--tau", 0.5) == 2 and "another tau (0.07, not 0.5)" in capsys.readouterr().err
    manifest.write_text(noisy.read_text().replace('"mos": 4.6', '"mos": 4.5'))
    assert run(*options) == 2 and "another data" in capsys.readouterr().err


LOSSES = ["conord", "supcon", "rnc", "mae", "l1", "mse", "ocl"]


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_trains_a_model_that_predicts_as_it_did(noisy, tmp_path, loss):
    """Frozen features of the noise, one crop drawn for the losses that want pairs."""
    options = ["--loss", loss, "--frozen", "true", "--training_views", "random", "--center_weight", "0"]
    options += ["--splits", 1, "--epochs", 2, "--bin_width", 0.5, "--output_dir", tmp_path / "out"]
    assert run("--manifest", noisy, *QUICK, *options) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["loss"] == loss
    result, model = result_of(tmp_path / "out"), ConOrdModel.load(tmp_path / "out" / "split-00" / "model")
    assert (model.reading is not None) == (loss in ("l1", "mse"))
    predicted = [row["predicted"] for row in result["predictions"]]
    found = model.predict([noisy.parent / row["id"] for row in result["predictions"]])
    assert np.allclose(found, predicted, rtol=1e-4) and len(set(predicted)) > 1


def test_losses_of_pairs_see_mirror_images_where_crops_are_averaged(noisy, tmp_path, monkeypatch):
    import conord

    seen = []

    class Watched(conord.Objective):
        def forward(self, views_BPV, ranks_B):
            seen.append((views_BPV.shape[:3], torch.equal(views_BPV[:, 0], views_BPV[:, 1].flip(-1))))
            return super().forward(views_BPV, ranks_B)

    monkeypatch.setattr(conord, "Objective", Watched)
    options = ["--loss", "supcon", "--flip", "true", "--splits", 1, "--epochs", 2, "--output_dir", tmp_path / "out"]
    assert run("--manifest", noisy, *QUICK, *options) == 0
    assert set(seen) == {((8, 2, 3), True)}  # 16 draws in a batch, and all three crops in each


def test_each_test_manifest_is_a_test_on_its_own_scale(noisy, tmp_path):
    rows = [json.loads(line) for line in noisy.read_text().splitlines()]
    for name, kept, factor in (("konvid", rows[::3], 1), ("livevqc", rows[1::3], 20)):
        lines = [json.dumps({**row, "mos": factor * row["mos"]}) for row in kept]
        noisy.with_name(f"{name}.jsonl").write_text("\n".join(lines))
    tests = [noisy.with_name("konvid.jsonl"), noisy.with_name("livevqc.jsonl")]
    options = ["--manifest", noisy, "--test_manifest", *tests, "--test_scale", "1:5", "0:100", *QUICK]
    assert run(*options, "--splits", 2, "--epochs", 2, "--output_dir", tmp_path / "out") == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())["tests"]
    assert list(results) == ["konvid", "livevqc"]
    assert set(results["konvid"]["median"]) == {"srcc", "plcc", "mae"} and results["konvid"]["splits"][0]["items"] == 14
    assert set(results["livevqc"]["median"]) == {"srcc", "plcc"}  # ranks of 1..5 have no error against 0..100
    held = {row["image"]: 20 * row["mos"] for row in rows}
    predictions = result_of(tmp_path / "out", "livevqc")["predictions"]
    assert all(math.isclose(row["rank"], held[row["id"]]) for row in predictions)
    text = (tmp_path / "out" / "results.md").read_text()
    assert text.count("| konvid |") == 3 and text.count("| livevqc |") == 2


def test_a_yaml_file_may_name_a_single_test_manifest(tmp_path):
    import conord

    (tmp_path / "own.yaml").write_text("test_manifest: konvid.jsonl\ncorruptions: [fog, snow]\n")
    options = conord.parse_arguments(["--config", str(tmp_path / "own.yaml")])
    assert options.test_manifest == ["konvid.jsonl"] and options.corruption_names[0] == "imagenet_c_fog"


@pytest.mark.parametrize("options", [["--folds", 5], ["--fold_key", "fold"]])
def test_folds_share_no_subject_and_test_each_picture_once(noisy, tmp_path, options):
    rows = [json.loads(line) for line in noisy.read_text().splitlines()]
    manifest = noisy.with_name("adience.jsonl")
    manifest.write_text("\n".join(json.dumps({**row, "fold": int(row["content"]) // 2}) for row in rows))
    out = tmp_path / "out"
    assert run("--manifest", manifest, *QUICK, *options, "--epochs", 2, "--seed", 3, "--output_dir", out) == 0
    subject, fold = ({row["image"]: key(row) for row in rows} for key in (
        lambda row: row["content"], lambda row: int(row["content"]) // 2
    ))  # fmt: skip
    tested = []
    for split in range(3, 8):
        ids = [row["id"] for row in result_of(out, split=split)["predictions"]]
        tested += ids
        assert not {subject[name] for name in ids} & {subject[name] for name in set(subject) - set(ids)}
        if options[0] == "--fold_key":
            assert {fold[name] for name in ids} == {split - 3}
    assert sorted(tested) == sorted(subject)
    assert not (out / "split-08").exists()


def test_corruptions_reach_the_test_pictures_alone(noisy, tmp_path):
    from mriqa.conord.corrupted_views import CorruptedViewDataset
    from mriqa.conord.crops import as_pixels
    from mriqa.distortions import distort
    from mriqa.images import load_image
    from mriqa.manifest import read_manifest

    options = ["--manifest", noisy, *QUICK, "--splits", 2, "--epochs", 2, "--frozen", "true", "--output_dir"]
    assert run(*options, tmp_path / "clean") == 0
    names = ["contrast", "gaussian_noise"]
    assert run(*options, tmp_path / "corrupted", "--corruptions", *names) == 0
    for split in (0, 1):
        clean, found = (result_of(tmp_path / name, split=split) for name in ("clean", "corrupted"))
        assert found["predictions"] == clean["predictions"] and set(found["corruptions"]) == {
            f"imagenet_c_{name}" for name in names
        }
    # a measure by hand: the first split under the third level of contrast
    model = ConOrdModel.load(tmp_path / "corrupted" / "split-00" / "model")
    first = result_of(tmp_path / "corrupted")
    errors = []
    for row in first["predictions"]:
        pixels = as_pixels(load_image(noisy.parent / row["id"]))[None] / 255
        dull = (distort(pixels, "imagenet_c_contrast", 3 / 5)[0] * 255).round().byte().permute(1, 2, 0)
        errors.append(abs(model.predict([Image.fromarray(dull.numpy())]).item() - row["rank"]))
    assert math.isclose(first["corruptions"]["imagenet_c_contrast"]["3"]["mae"], np.mean(errors), rel_tol=1e-4)
    # and the table: the mean over corruptions, then the median over splits
    lines = (tmp_path / "corrupted" / "results.md").read_text().splitlines()
    levels = {int(line.split("|")[2]): line.split("|")[5].strip() for line in lines[-6:]}
    for level in range(1, 6):
        by_split = [
            np.mean(
                [
                    found[str(level)]["mae"]
                    for found in result_of(tmp_path / "corrupted", split=split)["corruptions"].values()
                ]
            )
            for split in (0, 1)
        ]
        assert levels[level] == f"{np.median(by_split):.3f}"
    rows = read_manifest(noisy)[:3]
    noise = CorruptedViewDataset(rows, model.views, "imagenet_c_gaussian_noise", 2)
    assert torch.equal(noise[1][0], noise[1][0])
    again = CorruptedViewDataset([rows[1], rows[1]], model.views, "imagenet_c_gaussian_noise", 2)
    assert not torch.equal(again[0][0], again[1][0])  # each picture has its own grain


def test_points_at_the_means_start_where_the_pictures_of_their_rank_are(noisy, tmp_path, monkeypatch):
    import conord

    started = []
    made = conord.reference_points

    def watched(seed, model, views, ranks_N, run, again):
        points, seconds = made(seed, model, views, ranks_N, run, again)
        z_ND = model.embed([views[place] for place in range(len(ranks_N))])
        started.append((points, z_ND, ranks_N))
        return points, seconds

    monkeypatch.setattr(conord, "reference_points", watched)
    options = ["--manifest", noisy, *QUICK, "--splits", 1, "--epochs", 2, "--bin_width", 1, "--output_dir"]
    assert run(*options, tmp_path / "means", "--points_init", "means", "--learning_rate", "1e-12") == 0
    points, z_ND, ranks_N = started[0]
    for bin_, point in zip(points.point_bins_MR[:, 0].tolist(), points.points):
        mean = torch.stack([z for z, rank in zip(z_ND, ranks_N.tolist()) if round(rank) == bin_]).mean(dim=0)
        torch.testing.assert_close(point.detach(), mean, rtol=1e-3, atol=1e-4)
    result = json.loads((tmp_path / "means" / "split-00" / "result.json").read_text())
    assert result["points_seconds"] > 0
    assert run(*options, tmp_path / "zeros", "--points_init", "zeros", "--learning_rate", "1e-12") == 0
    assert started[1][0].points.abs().max() < 1e-6


def test_a_share_of_the_training_items_and_the_whole_test(noisy, tmp_path):
    options = ["--manifest", noisy, *QUICK, "--splits", 1, "--epochs", 2, "--output_dir"]
    assert run(*options, tmp_path / "half", "--train_share", 0.5) == 0
    half = json.loads((tmp_path / "half" / "split-00" / "result.json").read_text())
    assert half["train_items"] == 16 and half["tests"]["test"]["items"] == 8
    assert len(ConOrdModel.load(tmp_path / "half" / "split-00" / "model").index) == 16


TABLE_8 = {  # learning rate, batch size, k
    "morph2": (5e-6, 128, 4), "clap2015": (5e-6, 128, 4), "agedb": (5e-6, 128, 60), "utk": (5e-7, 128, 60),
    "cacd": (5e-7, 128, 60), "adience": (2e-6, 128, 60), "bid": (2e-6, 32, 10), "clive": (2e-6, 32, 10),
    "koniq": (2e-6, 64, 10), "spaq": (2e-6, 64, 10), "flive": (1e-6, 64, 10), "lsvq": (5e-6, 16, 30),
}  # fmt: skip


def test_configs_are_those_of_the_paper():
    import conord

    assert {path.stem for path in CONFIGS.glob("*.yaml")} == set(TABLE_8)
    for name, (rate, batch, k) in TABLE_8.items():
        path = CONFIGS / f"{name}.yaml"
        settings = conord.parse_arguments(["--config", str(path), "--output_dir", "elsewhere"])
        conord.check_options(settings)
        assert settings.output_dir == "elsewhere" and isinstance(yaml.safe_load(path.read_text())["scale"], str)
        assert (settings.learning_rate, settings.batch_size, settings.k) == (rate, batch, k)
        assert (settings.tau, settings.eps, settings.weighting, settings.center_weight) == (0.07, 1e-7, "VIII", 1.0)
        assert settings.encoder == "timm:vit_base_patch16_clip_224.openai"
        age = name in ("morph2", "clap2015", "agedb", "utk", "cacd", "adience")
        assert (settings.optimizer, settings.weight_decay) == (("adam", 5e-4) if age else ("adamw", 2e-3))
        assert (settings.warmup_epochs, settings.flip) == ((0, True) if age else (5, False))
        peak = max(settings.training(0).rate(step / 10) for step in range(10 * settings.epochs))
        assert math.isclose(peak, rate if age else 5 * rate)
