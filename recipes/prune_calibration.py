"""Which pictures to calibrate pruning on? A selected subset as the calibration set (Table 3 of Q-Diverse's supplement).

    python recipes/prune_calibration.py --network timm:resnet18 --manifest kadid.jsonl --test_manifest test.jsonl
    python recipes/prune_calibration.py --model outputs/demo/model --embedded_dir outputs/demo/embedded
    python recipes/prune_calibration.py --model M --manifest train.jsonl --test_manifest test.jsonl --target val.jsonl

Each selector chooses a few images of a manifest, the model is pruned by what it does on these, and scores the test
images. A network (--network) is a vision encoder that is trained on the manifest first with an L1 loss; it is pruned as
the paper prunes its network, each layer at a rate of its own by rate and distortion. A saved model (--model) is pruned
by Wanda, the same share of each row of its linear layers behind the vision tower, or likewise with --method
rate_distortion; see mriqa.training.selected_networks.pruning. FLOPs are those left of the pruned layers' weights; where
all layers see as many positions, as in a language model, they are the share of weights left.

Writes results.json and results.md, in the form of Table 3: FLOPs, SRCC and PLCC by selector, and before pruning. Run
again with the same options, it goes on with what is missing. With --embedded_dir the manifests are the embedded data
set's, and its precomputed vision features are used.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mriqa.answers import load_format
from mriqa.eval import metrics, write_json
from mriqa.features import Encoder, extract, load_encoder, vlm_encoder
from mriqa.files import write_text
from mriqa.frozen.cached_tower import TOWER_NAMES, cache_towers
from mriqa.frozen.store import FeatureStore
from mriqa.manifest import RatedImage, read_manifest
from mriqa.models import load_scoring_settings, load_vlm
from mriqa.scoring import Scorer
from mriqa.selection import SELECTORS
from mriqa.selection.mixture.choice import Choice, choose
from mriqa.training.embedded_preparation import FEATURES
from mriqa.training.launching import exit_code
from mriqa.training.ledger import Ledger
from mriqa.training.selected_networks.image_network import NetworkSettings, train_network
from mriqa.training.selected_networks.pruning import observed, operations, prunable_layers, rate_distortion, wanda

LEFT_ALONE = (*TOWER_NAMES, "lm_head")
WANDA, RATE_DISTORTION = "wanda", "rate_distortion"
DEFAULT_SELECTORS = [name for name in SELECTORS if name != "contextual_diversity"]  # which reads level logits
NEEDS_TARGET = [name for name, selector in SELECTORS.items() if selector.needs_target]
BEFORE = "before"
MAY_CHANGE = ("output", "device", "selectors", "seeds")


@dataclass(frozen=True)
class Judge:
    """A model that is pruned.

    Attributes:
        module: what holds its weights.
        layers: those that are pruned, by name.
        scores: images to their scores (N,).
        encoders: by role, "content" and "quality", what selectors see of pictures.
    """

    module: nn.Module
    layers: dict[str, Any]
    scores: Callable[[Sequence[RatedImage]], np.ndarray]
    encoders: dict[str, Encoder]


def saved_model(arguments: argparse.Namespace) -> Judge:
    """A saved vision-language model, whose own features of pictures are what selectors see."""
    model, processor = load_vlm(arguments.model, device=arguments.device)
    if arguments.embedded_dir is not None:
        cache_towers(model.requires_grad_(False), FeatureStore(arguments.embedded_dir / FEATURES))
    settings = load_scoring_settings(arguments.model)
    scorer = Scorer(
        model, processor, settings.answer_format if settings else load_format("non_thinking"), batch_size=32
    )
    encoder = vlm_encoder(model, processor)
    return Judge(
        model,
        prunable_layers(model, LEFT_ALONE),
        lambda rows: np.array([score.score for score in scorer.score([row.image for row in rows])]),
        {"content": encoder, "quality": encoder},
    )


def trained_network(arguments: argparse.Namespace, rows: Sequence[RatedImage]) -> Judge:
    """A vision encoder with a head, trained on the manifest; selectors see --encoder and --quality_encoder."""
    settings = NetworkSettings(
        arguments.network, arguments.pretrained, arguments.epochs, arguments.learning_rate, crop=arguments.crop,
        device=arguments.device,
    )  # fmt: skip
    network = train_network(rows, np.array([row.mos for row in rows]), settings, seed=0)
    return Judge(
        network,
        prunable_layers(network, ("head",), (nn.Linear, nn.Conv2d)),
        network.predict,
        {
            "content": load_encoder(arguments.encoder, arguments.device),
            "quality": load_encoder(arguments.quality_encoder, arguments.device),
        },
    )


def agreement(judge: Judge, rows: Sequence[RatedImage]) -> dict[str, float]:
    """SRCC and PLCC of the model's scores with the human ones."""
    scores_N, mos_N = judge.scores(rows), [row.mos for row in rows]
    return {"srcc": metrics.srcc(scores_N, mos_N), "plcc": metrics.plcc(scores_N, mos_N)}


def pruned(judge: Judge, calibration: Sequence[RatedImage], test: Sequence[RatedImage], how: argparse.Namespace) -> Any:
    """Prune the model by the calibration images; agreement on the test images and the share of FLOPs left."""
    with observed(judge.layers) as seen:
        judge.scores(calibration)
    if how.method == WANDA:
        wanda(judge.layers, seen, how.share)
    else:
        rate_distortion(judge.layers, lambda: judge.scores(calibration), how.share)
    left, all_of_them = operations(judge.layers, seen)
    return {**agreement(judge, test), "flops": left / all_of_them, "gflops": left / 1e9 / len(calibration)}


def compare(arguments: argparse.Namespace) -> dict[str, Any]:
    """SRCC and PLCC before pruning, and with FLOPs after it for each selector and seed."""
    rows, test_rows, target = (
        None if path is None else read_manifest(path, check_images=False)
        for path in (arguments.manifest, arguments.test_manifest, arguments.target)
    )
    assert rows is not None and test_rows is not None  # required
    settings = {name: value for name, value in vars(arguments).items() if name not in MAY_CHANGE}
    ledger = Ledger(arguments.output / "prunings.json", settings)
    judge = saved_model(arguments) if arguments.network is None else trained_network(arguments, rows)
    known: dict[tuple[Path, str], np.ndarray] = {}

    def features_of(images: Sequence[Path], role: str) -> np.ndarray:
        missing = [image for image in images if (image, role) not in known]
        if missing:
            found_ND = extract(missing, judge.encoders[role])
            known.update({(image, role): row for image, row in zip(missing, found_ND, strict=True)})
        return np.stack([known[image, role] for image in images])

    whole = {name: tensor.clone() for name, tensor in judge.module.state_dict().items()}
    if BEFORE not in ledger.results:
        ledger.record(BEFORE, agreement(judge, test_rows))
    print("before: SRCC {srcc:.3f}, PLCC {plcc:.3f}".format(**ledger.results[BEFORE]), flush=True)
    after: dict[str, list[dict[str, float]]] = {}
    for selector in arguments.selectors:
        for seed in range(arguments.seeds):
            key = f"{selector} / {seed}"
            if key not in ledger.results:
                judge.module.load_state_dict(whole)
                chosen = choose(rows, Choice(selector, arguments.budget, target, seed=seed), features_of)
                ledger.record(key, pruned(judge, [rows[place] for place in chosen.rows], test_rows, arguments))
            after.setdefault(selector, []).append(ledger.results[key])
        print(f"{selector}: SRCC {[round(own['srcc'] or 0.0, 3) for own in after[selector]]}", flush=True)
    results = {BEFORE: ledger.results[BEFORE], "after": after}
    write_json({**results, "settings": ledger.settings}, arguments.output / "results.json")
    text = table(results)
    write_text(text, arguments.output / "results.md")
    print(text)
    return results


def table(results: dict[str, Any]) -> str:
    """Markdown in the form of Table 3: mean ± standard deviation (ddof 1) over the seeds."""
    rows = {"not pruned": [{"flops": 1.0, **results[BEFORE]}], **results["after"]}
    lines = ["| calibrated on | FLOPs | SRCC | PLCC |", "|---|---:|---:|---:|"]
    for name, found in rows.items():
        cells = []
        for key in ("flops", "srcc", "plcc"):
            values = [float("nan") if own[key] is None else own[key] for own in found]
            spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
            cells.append(f"{statistics.fmean(values):.3f}{spread}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Options of the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="folder of a saved model")
    parser.add_argument("--network", help="or an encoder to train first: timm:NAME or embedded")
    parser.add_argument("--epochs", type=int, default=10, help="of the network")
    parser.add_argument("--learning_rate", type=float, default=1e-4, help="of the network")
    parser.add_argument("--crop", type=int, help="side of the network's crops (default: what the encoder expects)")
    parser.add_argument("--random_weights", dest="pretrained", action="store_false", help="no published weights")
    parser.add_argument("--encoder", default="lite0", help="content features for selectors, with --network")
    parser.add_argument("--quality_encoder", default="lite0_quality", help="quality features, likewise")
    parser.add_argument("--embedded_dir", type=Path, help="where the embedded data set lies, see recipes/mr_grpo.py")
    parser.add_argument("--manifest", type=Path, help="rated images to choose calibration images from")
    parser.add_argument("--test_manifest", type=Path, help="rated images to measure on")
    parser.add_argument("--target", type=Path, help=f"rated images to resemble, for {' and '.join(NEEDS_TARGET)}")
    parser.add_argument("--selectors", nargs="+", choices=list(SELECTORS), help="default: those that can be run")
    parser.add_argument("--budget", type=_budget, default=32, help="calibration images, or their share such as 0.1")
    parser.add_argument("--method", choices=(WANDA, RATE_DISTORTION), help="default: wanda for a saved model")
    parser.add_argument("--share", type=float, help="share of the weights to prune (0.5; the paper's 0.2 of a network)")
    parser.add_argument("--seeds", type=int, default=3, help="selections by each selector")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path, default=Path("outputs/prune_calibration"), help="folder to write to")
    arguments = parser.parse_args(argv)
    if (arguments.model is None) == (arguments.network is None):
        parser.error("name what to prune by one of --model and --network")
    if arguments.embedded_dir is not None:
        data = arguments.embedded_dir / "data"
        arguments.manifest = arguments.manifest or data / "train.jsonl"
        arguments.test_manifest = arguments.test_manifest or data / "test.jsonl"
        arguments.target = arguments.target or data / "val.jsonl"
    if arguments.manifest is None or arguments.test_manifest is None:
        parser.error("give --manifest and --test_manifest, or --embedded_dir")
    arguments.method = arguments.method or (WANDA if arguments.network is None else RATE_DISTORTION)
    if arguments.network is not None and arguments.method == WANDA:
        parser.error("Wanda is for the linear layers of a language model: with --network leave --method out")
    if arguments.share is None:
        arguments.share = 0.5 if arguments.network is None else 0.2
    if not 0 <= arguments.share < 0.9:
        parser.error(f"--share must be from 0 to below 0.9, not {arguments.share}")
    if arguments.selectors is None:
        without = NEEDS_TARGET if arguments.target is None else ()
        arguments.selectors = [name for name in DEFAULT_SELECTORS if name not in without]
    return arguments


def _budget(text: str) -> int | float:
    return int(text) if text.isdecimal() else float(text)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line entry: 0 when done, 2 with one sentence on stderr for data or a model that won't do."""
    arguments = parse_arguments(argv)
    torch.set_num_threads(1)
    return exit_code(lambda: compare(arguments))


if __name__ == "__main__":
    sys.exit(main())
