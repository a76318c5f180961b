"""Which pictures to calibrate pruning on? A selected subset as the calibration set of a small example.

    python recipes/prune_calibration.py --model outputs/demo/model --embedded_dir outputs/embedded
    python recipes/prune_calibration.py --model M --manifest train.jsonl --test_manifest test.jsonl --target val.jsonl

Each selector chooses a few images of a manifest. The model scores them, the norm of every input of its linear layers is
noted, and of each row of weights the share with the smallest |weight| × input norm is set to zero with
torch.nn.utils.prune (Wanda: Sun et al., "A Simple and Effective Pruning Approach for Large Language Models", ICLR
2024). Then the pruned model scores the test images. Writes results.json: SRCC before, and after by selector and seed.

With --embedded_dir the manifests are the embedded data set's, and its precomputed vision features are used.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils import prune

from mriqa.answers import load_format
from mriqa.errors import UserError
from mriqa.eval import metrics, write_json
from mriqa.features import extract, vlm_encoder
from mriqa.frozen.cached_tower import TOWER_NAMES, cache_towers
from mriqa.frozen.store import FeatureStore
from mriqa.manifest import RatedImage, read_manifest
from mriqa.models import load_scoring_settings, load_vlm
from mriqa.scoring import Scorer
from mriqa.selection import SELECTORS
from mriqa.selection.mixture.choice import Choice, choose
from mriqa.training.embedded_preparation import FEATURES

LEFT_ALONE = (*TOWER_NAMES, "lm_head")
DEFAULT_SELECTORS = [name for name in SELECTORS if name != "contextual_diversity"]  # which reads level logits
NEEDS_TARGET = [name for name, selector in SELECTORS.items() if selector.needs_target]


def linear_layers(model: nn.Module) -> dict[str, nn.Linear]:
    """What is pruned: the linear layers behind the vision tower, save for the one that gives the logits."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and not set(name.split(".")) & set(LEFT_ALONE)
    }


@contextmanager
def input_norms(model: nn.Module) -> Iterator[dict[str, torch.Tensor]]:
    """Root of the summed squares (in,) of each input of every layer, over all that runs through inside the block."""
    squares: dict[str, torch.Tensor] = {}

    def note(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            own = inputs[0].detach().float().flatten(0, -2).square().sum(dim=0)
            squares[name] = squares.get(name, torch.zeros_like(own)) + own

        return hook

    hooks = [layer.register_forward_pre_hook(note(name)) for name, layer in linear_layers(model).items()]
    norms: dict[str, torch.Tensor] = {}
    try:
        yield norms
    finally:
        for hook in hooks:
            hook.remove()
    norms.update({name: own.sqrt() for name, own in squares.items()})


def prune_by(model: nn.Module, norms: dict[str, torch.Tensor], share: float) -> None:
    """Set to zero, in each row of each layer's weights, the `share` with the smallest |weight| × input norm."""
    for name, layer in linear_layers(model).items():
        importance = layer.weight.detach().abs() * norms[name]
        places = importance.argsort(dim=1, stable=True)[:, : int(share * importance.shape[1])]
        mask = torch.ones_like(importance).scatter_(1, places, 0.0)
        prune.custom_from_mask(layer, "weight", mask)
        prune.remove(layer, "weight")  # the zeros become the weights


def srcc_of(scorer: Scorer, rows: Sequence[RatedImage]) -> float:
    """SRCC of the model's scores with the human ones."""
    return metrics.srcc([score.score for score in scorer.score([row.image for row in rows])], [row.mos for row in rows])


def compare(arguments: argparse.Namespace) -> dict[str, Any]:
    """SRCC before pruning, and after it for each selector and seed."""
    model, processor = load_vlm(arguments.model, device=arguments.device)
    if arguments.embedded_dir is not None:
        cache_towers(model.requires_grad_(False), FeatureStore(arguments.embedded_dir / FEATURES))
    settings = load_scoring_settings(arguments.model)
    scorer = Scorer(
        model, processor, settings.answer_format if settings else load_format("non_thinking"), batch_size=32
    )
    rows, test_rows, target = (
        None if path is None else read_manifest(path, check_images=False)
        for path in (arguments.manifest, arguments.test_manifest, arguments.target)
    )
    assert rows is not None and test_rows is not None  # required
    encoder = vlm_encoder(model, processor)
    known: dict[Path, np.ndarray] = {}

    def features_of(images: Sequence[Path], role: str) -> np.ndarray:
        missing = [image for image in images if image not in known]
        if missing:
            known.update(zip(missing, extract(missing, encoder)))
        return np.stack([known[image] for image in images])

    whole = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    results: dict[str, Any] = {"before": srcc_of(scorer, test_rows), "after": {}}
    print(f"before: SRCC {results['before']:.3f}", flush=True)
    for selector in arguments.selectors:
        found = results["after"].setdefault(selector, [])
        for seed in range(arguments.seeds):
            model.load_state_dict(whole)
            chosen = choose(rows, Choice(selector, arguments.budget, target, seed=seed), features_of)
            with input_norms(model) as norms:
                scorer.score([rows[place].image for place in chosen.rows])
            prune_by(model, norms, arguments.share)
            found.append(srcc_of(scorer, test_rows))
        print(f"{selector}: SRCC {statistics.fmean(found):.3f}, by seed {[round(one, 3) for one in found]}", flush=True)
        settings_used = {key: str(value) for key, value in vars(arguments).items()}
        write_json({**results, "settings": settings_used}, arguments.output / "results.json")
    return results


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Options of the example."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="folder of a saved model")
    parser.add_argument("--embedded_dir", type=Path, help="where the embedded data set lies, see recipes/mr_grpo.py")
    parser.add_argument("--manifest", type=Path, help="rated images to choose calibration images from")
    parser.add_argument("--test_manifest", type=Path, help="rated images to measure on")
    parser.add_argument("--target", type=Path, help=f"rated images to resemble, for {' and '.join(NEEDS_TARGET)}")
    parser.add_argument("--selectors", nargs="+", choices=list(SELECTORS), help="default: those that can be run")
    parser.add_argument("--budget", type=int, default=32, help="calibration images")
    parser.add_argument("--share", type=float, default=0.5, help="share of the weights to prune")
    parser.add_argument("--seeds", type=int, default=3, help="selections by each selector")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path, default=Path("outputs/prune_calibration"), help="folder to write to")
    arguments = parser.parse_args(argv)
    if arguments.embedded_dir is not None:
        data = arguments.embedded_dir / "data"
        arguments.manifest = arguments.manifest or data / "train.jsonl"
        arguments.test_manifest = arguments.test_manifest or data / "test.jsonl"
        arguments.target = arguments.target or data / "val.jsonl"
    if arguments.manifest is None or arguments.test_manifest is None:
        parser.error("give --manifest and --test_manifest, or --embedded_dir")
    if not 0 <= arguments.share < 1:
        parser.error(f"--share must be from 0 to below 1, not {arguments.share}")
    if arguments.selectors is None:
        without = NEEDS_TARGET if arguments.target is None else ()
        arguments.selectors = [name for name in DEFAULT_SELECTORS if name not in without]
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Command line entry: 0 when done, 2 with one sentence on stderr for data or a model that won't do."""
    arguments = parse_arguments(argv)
    torch.set_num_threads(1)
    try:
        compare(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
