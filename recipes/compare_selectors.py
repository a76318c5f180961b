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

import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from mriqa.embedded.dataset import FREQUENCIES, DatasetSettings, build_dataset
from mriqa.errors import SettingsError
from mriqa.eval import metrics, write_json
from mriqa.features import extract, load_encoder
from mriqa.files import write_text
from mriqa.manifest import RatedImage, read_manifest
from mriqa.selection import load, ppc, ppr, presta
from mriqa.selection.kmm import kmm_weights
from mriqa.training.launching import exit_code, parse
from mriqa.views import ViewSettings

PENALTIES = tuple(10.0**power for power in range(0, 7))
FOLDS = 5
FULL, RANDOM, KMM, PRESTA, Q_DIVERSE = "full source", "random", "KMM weights", "PreSTA-S", "Q-Diverse"
RULES, LABELS = "PreSTA-S, the paper's stopping rules", "the target's labels alone"


@dataclass
class CompareArguments:
    """Options of the experiment."""

    target: str = field(metadata={"help": "Rated images to transfer to."})
    photos: str | None = field(
        default=None, metadata={"help": "Folder of photographs to distort and label as the source; or else --source."}
    )
    source: str | None = field(default=None, metadata={"help": "Rated images as the source, see mriqa.manifest."})
    source_scale: str | None = field(
        default=None, metadata={"help": "Scale of the source's scores, such as 0:100 (1:5 if not given)."}
    )
    images: int = field(default=4000, metadata={"help": "Pictures to make of --photos."})
    distortions: list[str] = field(default_factory=lambda: list(FREQUENCIES), metadata={"help": "To make them with."})
    target_scale: str | None = field(
        default=None, metadata={"help": "Scale of the target's scores (1:5 if not given)."}
    )
    size: int = field(default=672, metadata={"help": "Target images are resized to this square first."})
    crop: int = field(default=384, metadata={"help": "Side of the five crops of a target image."})
    encoder: str = field(default="lite0", metadata={"help": "Of PPR, KMM and content, see mriqa.features."})
    quality_encoder: str = field(default="lite0_quality", metadata={"help": "Of Q-Diverse."})
    regressor_encoder: list[str] | None = field(
        default=None, metadata={"help": "What ridge reads (--encoder if not given)."}
    )
    budget: float = field(default=0.2, metadata={"help": "Share of the source to select."})
    share: float = field(default=0.05, metadata={"help": "Share of the target whose labels give its PPR."})
    draws: int = field(default=10, metadata={"help": "Of labels, and of all that is drawn besides."})
    seed: int = 0
    device: str | None = field(
        default=None, metadata={"help": "Of the encoders (the accelerator, if there is one and none is named)."}
    )
    output: str = field(default="outputs/compare_selectors", metadata={"help": "Folder to write to."})
    cache: str = field(default="outputs/features", metadata={"help": "Folder of the features."})

    def __post_init__(self) -> None:
        if (self.photos is None) == (self.source is None):
            raise SettingsError("Name the source by one of --photos and --source.")
        for name, value in (("budget", self.budget), ("share", self.share)):
            if not 0 < value <= 1:
                raise SettingsError(f"--{name} must be a share above 0 and at most 1, not {value}.")
        if self.draws < 1:
            raise SettingsError(f"--draws must be at least 1, not {self.draws}.")


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


def one_draw(source: Features, target: Features, arguments: CompareArguments, draw: int) -> dict[str, dict[str, float]]:
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
    results: dict[str, dict[str, float]] = {}

    def test_on(name: str, model: Any, train_ppr: np.ndarray, size: int) -> None:
        predicted_n = model.predict(target.x_ND[test])
        results[name] = {
            "srcc": metrics.srcc(predicted_n, target.scores_N[test]),
            "plcc": metrics.plcc(predicted_n, target.scores_N[test]),
            "ppc": ppc(train_ppr, full_ppr),
            "images": size,
        }

    for name, rows in selected.items():
        model = fit(source.x_ND[rows], source.scores_N[rows], source.groups_N[rows])
        test_on(name, model, ppr(source.content_ND[rows], source.scores_N[rows]), len(rows))
    weights_N = kmm_weights(source.content_ND, target.content_ND, seed=draw)
    weighted = fit(source.x_ND, source.scores_N, source.groups_N, weights_N)
    test_on(KMM, weighted, ppr(source.content_ND, source.scores_N), len(source.scores_N))
    by_labels = fit(target.x_ND[labelled], target.scores_N[labelled], np.arange(len(labelled)))
    test_on(LABELS, by_labels, target_ppr, len(labelled))
    return results


def features_of(rows: Sequence[RatedImage], look: ViewSettings | None, arguments: CompareArguments) -> Features:
    """All features of a set, from the cache where they are there."""
    features = {}
    regressors = arguments.regressor_encoder or [arguments.encoder]
    for name in dict.fromkeys((arguments.encoder, arguments.quality_encoder, *regressors)):
        encoder = load_encoder(name, arguments.device)
        features[name] = extract([row.image for row in rows], encoder, cache=arguments.cache, look=look, batch_size=8)
    return Features(
        content_ND=features[arguments.encoder],
        quality_ND=features[arguments.quality_encoder],
        x_ND=np.concatenate([features[name] for name in regressors], axis=1),
        scores_N=np.array([row.mos for row in rows]),
        groups_N=np.array([row.content for row in rows]),
    )


def source_rows(arguments: CompareArguments) -> list[RatedImage]:
    """The source manifest, or photographs distorted here."""
    if arguments.source is not None:
        return read_manifest(arguments.source, scale=arguments.source_scale)
    repeated = tuple(name for name in arguments.distortions for _ in range(FREQUENCIES.get(name, 1)))
    settings = DatasetSettings(
        arguments.photos, repeated, train_images=arguments.images, val_images=1, test_images=1
    )  # no split can be empty, and only the first is a source
    return read_manifest(build_dataset(Path(arguments.output) / "source", settings).train, check_images=False)


def table(results: dict[str, dict[str, list[float]]]) -> str:
    """Markdown: mean ± standard deviation (ddof 1) over the draws, in the order of the paper's tables."""
    lines = ["| trained on | images | SRCC | PLCC | PPC with the target |", "|---|---|---|---|---|"]
    for name in (FULL, RANDOM, KMM, PRESTA, RULES, Q_DIVERSE, LABELS):
        measured = results[name]
        cells = [name, f"{statistics.fmean(measured['images']):,.0f}"]
        for key in ("srcc", "plcc", "ppc"):
            spread = statistics.stdev(measured[key]) if len(measured[key]) > 1 else float("nan")
            cells.append(f"{statistics.fmean(measured[key]):.3f} ± {spread:.3f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def parse_arguments(argv: Sequence[str] | None = None) -> CompareArguments:
    """Options from the command line and a YAML file. Raises SettingsError for what cannot be right."""
    (arguments,) = parse((CompareArguments,), __doc__, argv)
    return arguments


def compare(arguments: CompareArguments) -> None:
    """Run the experiment and write its results after every draw. Raises UserError for data that won't do."""
    source = features_of(source_rows(arguments), None, arguments)
    target_rows = read_manifest(arguments.target, scale=arguments.target_scale)
    target = features_of(target_rows, ViewSettings(size=arguments.size, crop=arguments.crop, count=5), arguments)
    output = Path(arguments.output)
    results: dict[str, dict[str, list[float]]] = {}
    for draw in range(arguments.draws):
        for name, measured in one_draw(source, target, arguments, draw).items():
            for key, value in measured.items():
                results.setdefault(name, {}).setdefault(key, []).append(value)
        latest = ", ".join(f"{name} {measured['srcc'][-1]:.3f}" for name, measured in results.items())
        print(f"draw {draw}: {latest}", flush=True)
        settings = {key: str(value) for key, value in asdict(arguments).items()}
        write_json({"results": results, "settings": settings}, output / "results.json")
    text = table(results)
    write_text(text, output / "results.md")
    print(text)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line entry: 0 when done, 2 with one sentence on stderr for settings or data that won't do."""
    return exit_code(lambda: compare(parse_arguments(argv)))


if __name__ == "__main__":
    sys.exit(main())
