"""Which part of a distorted set should a model learn from to score another set? The transfer experiment of PreSTA.

    python recipes/compare_selectors.py --photos my_photos --target my_rated_images.jsonl
    python recipes/compare_selectors.py --source kadid.jsonl --source_scale kadid10k --target koniq.jsonl --size 512

After Tables 3 and 4 of PreSTA's supplement, small enough for a CPU: the source is photographs distorted and labelled as
the embedded data set is (or any manifest), and the model is ridge regression on frozen features. Each draw takes a few
labels of the target for its PPR, selects from the source, trains on what was selected, and is tested on all the other
target images. Ridge's penalty is chosen on held-out contents of the selected part: no target label trains anything
but the last row of the table. Features are kept in --cache. Writes results.json and results.md.

Legend: N source images, T target images, D features.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from mriqa.embedded.dataset import FREQUENCIES, DatasetSettings, build_dataset
from mriqa.eval import metrics, write_json
from mriqa.features import extract, load_encoder
from mriqa.files import write_text
from mriqa.manifest import RatedImage, read_manifest
from mriqa.selection import load, ppc, ppr, presta
from mriqa.selection.kmm import kmm_weights
from mriqa.views import ViewSettings

PENALTIES = tuple(10.0**power for power in range(0, 7))
FOLDS = 5
FULL, RANDOM, KMM, PRESTA, Q_DIVERSE = "full source", "random", "KMM weights", "PreSTA-S", "Q-Diverse"
RULES, LABELS = "PreSTA-S, the paper's stopping rules", "the target's labels alone"


@dataclass(frozen=True)
class Features:
    """A set of rated images: features for selection (N, D), of quality, for the regressor, scores, contents."""

    content_ND: np.ndarray
    quality_ND: np.ndarray
    x_ND: np.ndarray
    scores_N: np.ndarray
    groups_N: np.ndarray


def fit(x_ND: np.ndarray, scores_N: np.ndarray, groups_N: np.ndarray, weights_N: np.ndarray | None = None) -> Any:
    """Ridge regression on standardised features, with the penalty of the least squared error on held-out contents.

    Weights of the samples count in both.
    """
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import GroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    weights_N = np.ones(len(scores_N)) if weights_N is None else weights_N

    def ridge(penalty: float, rows: np.ndarray) -> Any:
        model = make_pipeline(StandardScaler(), Ridge(penalty, solver="cholesky"))
        return model.fit(x_ND[rows], scores_N[rows], ridge__sample_weight=weights_N[rows])

    def held_out(penalty: float) -> float:
        return sum(
            float(weights_N[test] @ np.square(ridge(penalty, train).predict(x_ND[test]) - scores_N[test]))
            for train, test in parts
        )

    parts = list(GroupKFold(min(FOLDS, len(set(groups_N)))).split(x_ND, groups=groups_N))
    return ridge(min(PENALTIES, key=held_out), np.arange(len(x_ND)))


def stopping_point(ppc_R: np.ndarray, stop: float = 0.9, min_gain: float = 1e-6) -> int:
    """How many of PreSTA's removals the paper's rules would have let happen; none of them changes their order."""
    for removed, (now, following) in enumerate(pairwise(ppc_R)):
        if now >= stop or following - now <= min_gain:
            return removed
    return len(ppc_R) - 1


def one_draw(
    source: Features, target: Features, arguments: argparse.Namespace, draw: int
) -> dict[str, dict[str, float]]:
    """SRCC and PLCC on the target's other images, PPC and size of the training part, for each way of selecting."""
    rng = np.random.default_rng([arguments.seed, draw])
    count = len(target.scores_N)
    labelled = rng.choice(count, max(3, round(arguments.share * count)), replace=False)
    test = np.setdiff1d(np.arange(count), labelled)
    target_ppr = ppr(target.content_ND[labelled], target.scores_N[labelled])
    full_ppr = ppr(target.content_ND, target.scores_N)  # for the report alone; nothing is selected by it
    budget, options = arguments.budget, {"seed": draw}
    everything = np.arange(len(source.scores_N))
    to_budget = presta(source.content_ND, source.scores_N, target_ppr, floor=budget, stop=np.inf, min_gain=-np.inf)
    selected = {
        FULL: everything,
        RANDOM: load("random")(source.content_ND, budget, **options),
        PRESTA: to_budget.kept,
        RULES: np.setdiff1d(everything, to_budget.removed[: stopping_point(to_budget.ppc)]),
        Q_DIVERSE: load("q_diverse")(source.content_ND, budget, quality=source.quality_ND, **options),
    }
    found: dict[str, dict[str, float]] = {}

    def test_on(name: str, model: Any, train_ppr: np.ndarray, size: int) -> None:
        predicted_n = model.predict(target.x_ND[test])
        found[name] = {
            "srcc": metrics.srcc(predicted_n, target.scores_N[test]),
            "plcc": metrics.plcc(predicted_n, target.scores_N[test]),
            "ppc": ppc(train_ppr, full_ppr),
            "images": size,
        }

    for name, rows in selected.items():
        own = (source.x_ND[rows], source.scores_N[rows], source.groups_N[rows])
        test_on(name, fit(*own), ppr(source.content_ND[rows], source.scores_N[rows]), len(rows))
    weights_N = kmm_weights(source.content_ND, target.content_ND, seed=draw)
    weighted = fit(source.x_ND, source.scores_N, source.groups_N, weights_N)
    test_on(KMM, weighted, ppr(source.content_ND, source.scores_N), len(source.scores_N))
    alone = fit(target.x_ND[labelled], target.scores_N[labelled], np.arange(len(labelled)))
    test_on(LABELS, alone, target_ppr, len(labelled))
    return found


def features_of(rows: Sequence[RatedImage], look: ViewSettings | None, arguments: argparse.Namespace) -> Features:
    """All features of a set, from the cache where they are there."""
    found = {}
    for name in dict.fromkeys((arguments.encoder, arguments.quality_encoder, *arguments.regressor_encoder)):
        encoder = load_encoder(name, arguments.device)
        found[name] = extract([row.image for row in rows], encoder, cache=arguments.cache, look=look, batch_size=8)
    return Features(
        content_ND=found[arguments.encoder],
        quality_ND=found[arguments.quality_encoder],
        x_ND=np.concatenate([found[name] for name in arguments.regressor_encoder], axis=1),
        scores_N=np.array([row.mos for row in rows]),
        groups_N=np.array([row.content for row in rows]),
    )


def source_rows(arguments: argparse.Namespace) -> list[RatedImage]:
    """The source manifest, or photographs distorted here."""
    if arguments.source is not None:
        return read_manifest(arguments.source, scale=arguments.source_scale)
    repeated = tuple(name for name in arguments.distortions for _ in range(FREQUENCIES.get(name, 1)))
    settings = DatasetSettings(str(arguments.photos), repeated, arguments.images)
    return read_manifest(build_dataset(arguments.output / "source", settings).train, check_images=False)


def table(results: dict[str, dict[str, list[float]]]) -> str:
    """Markdown: mean ± standard deviation (ddof 1) over the draws, in the order of the paper's tables."""
    lines = ["| trained on | images | SRCC | PLCC | PPC with the target |", "|---|---|---|---|---|"]
    for name in (FULL, RANDOM, KMM, PRESTA, RULES, Q_DIVERSE, LABELS):
        found = results[name]
        cells = [name, f"{statistics.fmean(found['images']):,.0f}"]
        for key in ("srcc", "plcc", "ppc"):
            spread = statistics.stdev(found[key]) if len(found[key]) > 1 else float("nan")
            cells.append(f"{statistics.fmean(found[key]):.3f} ± {spread:.3f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Options of the experiment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--photos", type=Path, help="folder of photographs to distort and label as the source")
    source.add_argument("--source", type=Path, help="rated images as the source, see mriqa.manifest")
    parser.add_argument("--source_scale", help="scale of the source's scores, such as 0:100 (default 1:5)")
    parser.add_argument("--images", type=int, default=4000, help="pictures to make of --photos (default 4000)")
    parser.add_argument("--distortions", nargs="+", default=list(FREQUENCIES), help="to make them with")
    parser.add_argument("--target", type=Path, required=True, help="rated images to transfer to")
    parser.add_argument("--target_scale", help="scale of the target's scores (default 1:5)")
    parser.add_argument("--size", type=int, default=672, help="target images are resized to this square first")
    parser.add_argument("--crop", type=int, default=384, help="side of the five crops of a target image")
    parser.add_argument("--encoder", default="lite0", help="of PPR, KMM and content, see mriqa.features")
    parser.add_argument("--quality_encoder", default="lite0_quality", help="of Q-Diverse")
    parser.add_argument("--regressor_encoder", nargs="+", help="what ridge reads (default: --encoder)")
    parser.add_argument("--budget", type=float, default=0.2, help="share of the source to select")
    parser.add_argument("--share", type=float, default=0.05, help="share of the target whose labels give its PPR")
    parser.add_argument("--draws", type=int, default=10, help="of labels, and of all that is drawn besides")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", help="of the encoders (default: the accelerator if there is one)")
    parser.add_argument("--output", type=Path, default=Path("outputs/compare_selectors"), help="folder to write to")
    parser.add_argument("--cache", type=Path, default=Path("outputs/features"), help="folder of the features")
    arguments = parser.parse_args(argv)
    arguments.regressor_encoder = arguments.regressor_encoder or [arguments.encoder]
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Command line entry."""
    arguments = parse_arguments(argv)
    rows = source_rows(arguments)
    target_rows = read_manifest(arguments.target, scale=arguments.target_scale)
    source = features_of(rows, None, arguments)
    target = features_of(target_rows, ViewSettings(size=arguments.size, crop=arguments.crop, count=5), arguments)
    results: dict[str, dict[str, list[float]]] = {}
    for draw in range(arguments.draws):
        for name, found in one_draw(source, target, arguments, draw).items():
            for key, value in found.items():
                results.setdefault(name, {}).setdefault(key, []).append(value)
        print(
            f"draw {draw}: " + ", ".join(f"{name} {found['srcc'][-1]:.3f}" for name, found in results.items()),
            flush=True,
        )
        settings = {key: str(value) for key, value in vars(arguments).items()}
        write_json({"results": results, "settings": settings}, arguments.output / "results.json")
    text = table(results)
    write_text(text, arguments.output / "results.md")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
