"""Which part of a distorted set should a model learn from to score another set? The transfer experiments of PreSTA.

    python recipes/compare_selectors.py --photos my_photos --target my_rated_images.jsonl
    python recipes/compare_selectors.py --source kadid.jsonl --source_scale kadid10k --target koniq.jsonl --size 512
    python recipes/compare_selectors.py --source kadid.jsonl tid2013.jsonl --target bid.jsonl --share 0.8   # PreSTA-J

After Tables 1 to 6 of PreSTA's supplement, small enough for a CPU: the source is photographs distorted and labelled as
the embedded data set is (or any manifest), and the model is ridge regression on frozen features; with --network also a
vision encoder that trains on the selection with an L1 loss, as the paper's does. Each draw takes a few labels of the
target for its PPR, selects from the source, trains on what was selected, and is tested on all the other target images.
With `--share 1.0` the PPR is that of all labels, and the test is on all images, as in the rows "full-set estimation" of
Tables 3 to 6 (and all of Table 1). Table 5 is `--encoder resnet50`; Table 6 `--encoder swin_b_stage4` beside `swin_b`.

No target label trains anything but the last three rows: the labels alone, and Table 2's PreSTA-J, which trains on the
target's labels with what it keeps of each source on its own (PPC threshold 0.95), beside all of every source. Several
sources are one pool for the other rows. Ridge's penalty is chosen on held-out contents of the training part. Source and
target are seen through the same views, and every score is on its set's declared scale; the paper min-max scales each
set, which `mriqa data prepare NAME --normalise minmax` does. Features are kept in --cache.

Writes results.json and results.md; run again with the same options, it goes on with the draws that are missing.

Legend: N source images, T target images, D features.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from mriqa.choices import by_name, check_choice, named_files
from mriqa.embedded.dataset import FREQUENCIES, DatasetSettings, build_dataset
from mriqa.errors import SettingsError
from mriqa.eval import metrics, write_json
from mriqa.features import extract, load_encoder
from mriqa.files import write_text
from mriqa.manifest import RatedImage, read_manifest
from mriqa.selection import SELECTORS, load, ppc, ppr, presta, presta_joint
from mriqa.selection.kmm import kmm_weights
from mriqa.training.launching import exit_code, parse
from mriqa.training.ledger import Ledger
from mriqa.training.selected_networks.image_network import NetworkSettings, train_network
from mriqa.training.selected_networks.ridge import fit_ridge
from mriqa.views import ViewSettings

FULL, RANDOM, PRESTA, Q_DIVERSE = "full source", "random", "PreSTA-S", "Q-Diverse"
KMM, KMM_USUAL = "KMM weights of mean 1", "KMM weights, the usual ε"
RULES, LABELS = "PreSTA-S, the paper's stopping rules", "the target's labels alone"
JOINT_ALL, PRESTA_J = "those labels and every source", "PreSTA-J: those labels and what it keeps of each source"
CORESETS = {
    "herding": "herding",
    "k_center": "k-center",
    "moderate": "moderate coreset",
    "pgcs": "PGCS",
    "contextual_diversity": "contextual diversity",
}
"""Baselines that select without the target, and their names in the table."""
ROWS = (FULL, RANDOM, KMM, KMM_USUAL, *CORESETS.values(), PRESTA, RULES, Q_DIVERSE, LABELS, JOINT_ALL, PRESTA_J)
JOINT_STOP = 0.95  # PPC that is enough for PreSTA-J
MAY_CHANGE = ("draws", "output", "cache", "device")


@dataclass
class CompareArguments:
    """Options of the experiment."""

    target: str = field(metadata={"help": "Rated images to transfer to."})
    photos: str | None = field(
        default=None, metadata={"help": "Folder of photographs to distort and label as the source; or else --source."}
    )
    source: list[str] | None = field(
        default=None, metadata={"help": "Rated images as the source, as FILE or NAME=FILE; several, see above."}
    )
    source_scale: list[str] | None = field(
        default=None,
        metadata={"help": "Scale of the source's scores, such as 0:100 (1:5 if not given); of several, as NAME=SCALE."},
    )
    images: int = field(default=4000, metadata={"help": "Pictures to make of --photos."})
    distortions: list[str] = field(default_factory=lambda: list(FREQUENCIES), metadata={"help": "To make them with."})
    target_scale: str | None = field(
        default=None, metadata={"help": "Scale of the target's scores (1:5 if not given)."}
    )
    size: int | None = field(
        default=None, metadata={"help": "Resize all images, source and target, to this square first."}
    )
    limit: int | None = field(default=672, metadata={"help": "Shrink all images to a shorter side of at most this."})
    crop: int = field(default=384, metadata={"help": "Side of the five crops of every image."})
    encoder: str = field(default="lite0", metadata={"help": "Of PPR, KMM and content, see mriqa.features."})
    quality_encoder: str = field(default="lite0_quality", metadata={"help": "Of Q-Diverse."})
    regressor_encoder: list[str] | None = field(
        default=None, metadata={"help": "What ridge reads (--encoder if not given)."}
    )
    selectors: list[str] = field(
        default_factory=lambda: ["herding", "k_center", "moderate", "pgcs"],
        metadata={"help": f"Baselines beside the other rows: {', '.join(CORESETS)}."},
    )
    level_encoder: str | None = field(
        default=None,
        metadata={"help": "For contextual_diversity: an encoder whose features are logits of quality levels."},
    )
    network: str | None = field(
        default=None,
        metadata={"help": "Also train this encoder with an L1 loss on each selection: timm:NAME or embedded."},
    )
    network_epochs: int = field(default=10, metadata={"help": "Of the network."})
    network_rate: float = field(default=1e-4, metadata={"help": "Learning rate of the network."})
    network_batch: int = field(default=16, metadata={"help": "Images in a batch of the network."})
    network_crop: int | None = field(default=None, metadata={"help": "Side of its crops (what the encoder expects)."})
    network_pretrained: bool = field(default=True, metadata={"help": "With published weights, not random ones."})
    budget: float = field(default=0.2, metadata={"help": "Share of the source to select."})
    share: float = field(
        default=0.05,
        metadata={"help": "Share of the target whose labels give its PPR; the others are the test (1.0: all are)."},
    )
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
        for name, number in (("draws", self.draws), ("network_epochs", self.network_epochs)):
            if number < 1:
                raise SettingsError(f"--{name} must be at least 1, not {number}.")
        for selector in self.selectors:
            check_choice("selector", selector, CORESETS, SettingsError)
        if "contextual_diversity" in self.selectors and self.level_encoder is None:
            raise SettingsError("contextual_diversity reads logits of quality levels: name --level_encoder.")

    @property
    def network_settings(self) -> NetworkSettings | None:
        """The network, where one is to be trained."""
        if self.network is None:
            return None
        return NetworkSettings(
            self.network, self.network_pretrained, self.network_epochs, self.network_rate, self.network_batch,
            self.network_crop, self.limit, device=self.device,
        )  # fmt: skip


@dataclass(frozen=True)
class Features:
    """A set of rated images: features for selection (N, D), of quality, for the regressor, scores, contents.

    `rows` are the images themselves, which only a network looks at, and whose data sets only PreSTA-J asks for;
    `levels_NL` are level logits, for contextual diversity alone.
    """

    content_ND: np.ndarray
    quality_ND: np.ndarray
    x_ND: np.ndarray
    scores_N: np.ndarray
    groups_N: np.ndarray
    rows: Sequence[RatedImage] = ()
    levels_NL: np.ndarray | None = None

    def by_set(self) -> dict[str, np.ndarray]:
        """Places of the rows of each data set."""
        names_N = np.array([row.dataset for row in self.rows] or ["source"] * len(self.scores_N))
        return {name: np.flatnonzero(names_N == name) for name in dict.fromkeys(names_N.tolist())}


@dataclass(frozen=True)
class TrainingPart:
    """What a row of the table trains on: places in the source and in the target, and weights of the samples."""

    source: np.ndarray
    target: np.ndarray
    weights_N: np.ndarray | None = None

    @property
    def size(self) -> int:
        return len(self.source) + len(self.target)

    def of(self, source: Features, target: Features) -> Features:
        """Its images; each target image is a content of its own, as labels are drawn by image."""
        own_groups = np.array([f"target {place}" for place in self.target], dtype=object)
        return Features(
            np.concatenate([source.content_ND[self.source], target.content_ND[self.target]]),
            np.empty((self.size, 0)),
            np.concatenate([source.x_ND[self.source], target.x_ND[self.target]]),
            np.concatenate([source.scores_N[self.source], target.scores_N[self.target]]),
            np.concatenate([source.groups_N[self.source].astype(object), own_groups]),
            [source.rows[place] for place in self.source if source.rows]
            + [target.rows[place] for place in self.target if target.rows],
        )


def stopping_point(ppc_R: np.ndarray, stop: float = 0.9, min_gain: float = 1e-6) -> int:
    """How many of PreSTA's removals the paper's rules would have let happen; none of them changes their order."""
    for removed, (now, following) in enumerate(pairwise(ppc_R)):
        if now >= stop or following - now <= min_gain:
            return removed
    return len(ppc_R) - 1


def training_parts(
    source: Features, target: Features, labelled: np.ndarray, arguments: CompareArguments, draw: int
) -> dict[str, TrainingPart]:
    """What each row of the table trains on, given the places of the target's labels."""
    budget = arguments.budget
    everything, nothing = np.arange(len(source.scores_N)), np.arange(0)
    target_ppr = ppr(target.content_ND[labelled], target.scores_N[labelled])
    to_budget = presta(source.content_ND, source.scores_N, target_ppr, floor=budget, stop=np.inf, min_gain=-np.inf)
    selected = {
        FULL: everything,
        RANDOM: load("random")(source.content_ND, budget, seed=draw),
        PRESTA: to_budget.kept,
        RULES: np.setdiff1d(everything, to_budget.removed[: stopping_point(to_budget.ppc)]),
        Q_DIVERSE: load("q_diverse")(source.content_ND, budget, quality=source.quality_ND, seed=draw),
    }
    for name in arguments.selectors:
        features_ND = source.levels_NL if name == "contextual_diversity" else source.content_ND
        inputs = {"scores": source.scores_N} if "scores" in SELECTORS[name].needs else {}
        selected[CORESETS[name]] = load(name)(features_ND, budget, seed=draw, **inputs)
    parts = {name: TrainingPart(rows, nothing) for name, rows in selected.items()}
    for name, epsilon in ((KMM, 0.0), (KMM_USUAL, "usual")):
        weights_N = kmm_weights(source.content_ND, target.content_ND, epsilon=epsilon, seed=draw)
        parts[name] = TrainingPart(everything, nothing, weights_N)
    if len(labelled) < len(target.scores_N):  # else these would be tested on what they were trained on
        places = source.by_set()
        sources = {name: (source.content_ND[rows], source.scores_N[rows]) for name, rows in places.items()}
        joint = presta_joint(sources, target_ppr, floor=budget, stop=JOINT_STOP)
        kept = np.concatenate([places[name][chosen.kept] for name, chosen in joint.items()])
        parts |= {
            LABELS: TrainingPart(nothing, labelled),
            JOINT_ALL: TrainingPart(everything, labelled),
            PRESTA_J: TrainingPart(kept, labelled),
        }
    return parts


def one_draw(source: Features, target: Features, arguments: CompareArguments, draw: int) -> dict[str, dict[str, float]]:
    """SRCC and PLCC on the target's other images, PPC and size of the training part, for each way of selecting."""
    rng = np.random.default_rng([arguments.seed, draw])
    labelled, test = labelled_and_test(len(target.scores_N), arguments.share, rng)
    full_ppr = ppr(target.content_ND, target.scores_N)  # for the report alone; nothing is selected by it
    network, tested = arguments.network_settings, target.scores_N[test]
    results: dict[str, dict[str, float]] = {}
    for name, part in training_parts(source, target, labelled, arguments, draw).items():
        own = part.of(source, target)
        predicted_n = fit_ridge(own.x_ND, own.scores_N, own.groups_N, part.weights_N).predict(target.x_ND[test])
        results[name] = {
            "srcc": metrics.srcc(predicted_n, tested),
            "plcc": metrics.plcc(predicted_n, tested),
            "ppc": ppc(ppr(own.content_ND, own.scores_N), full_ppr),
            "images": part.size,
        }
        if network is not None:
            trained = train_network(own.rows, own.scores_N, network, draw, part.weights_N, f"Draw {draw}, {name}")
            by_network_n = trained.predict([target.rows[place] for place in test])
            results[name] |= {
                "network_srcc": metrics.srcc(by_network_n, tested),
                "network_plcc": metrics.plcc(by_network_n, tested),
            }
    return results


def labelled_and_test(count: int, share: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Places of the images whose labels give the PPR, and of the test: the others, or all where all are labelled.

    Raises:
        SettingsError: too few of either for a correlation.
    """
    if share == 1:
        return np.arange(count), np.arange(count)
    labelled = rng.choice(count, max(3, round(share * count)), replace=False) if count > 3 else np.arange(count)
    test = np.setdiff1d(np.arange(count), labelled)
    if len(test) < 3:
        raise SettingsError(
            f"--share {share:g} of {count} target images leaves {len(test)} to test on: lower it, or give 1.0 to "
            "estimate the PPR from all labels and test on all images."
        )
    return labelled, test


def features_of(rows: Sequence[RatedImage], arguments: CompareArguments) -> Features:
    """All features of a set, from the cache where they are there; every set is looked at in the same way."""
    features: dict[str | None, np.ndarray] = {}
    look = ViewSettings(size=arguments.size, limit=arguments.limit, crop=arguments.crop, count=5)
    regressors = arguments.regressor_encoder or [arguments.encoder]
    for name in dict.fromkeys((arguments.encoder, arguments.quality_encoder, *regressors, arguments.level_encoder)):
        if name is not None:
            encoder = load_encoder(name, arguments.device)
            images = [row.image for row in rows]
            features[name] = extract(images, encoder, cache=arguments.cache, look=look, batch_size=8)
    return Features(
        content_ND=features[arguments.encoder],
        quality_ND=features[arguments.quality_encoder],
        x_ND=np.concatenate([features[name] for name in regressors], axis=1),
        scores_N=np.array([row.mos for row in rows]),
        groups_N=np.array([row.content for row in rows]),
        rows=rows,
        levels_NL=features.get(arguments.level_encoder),
    )


def source_rows(arguments: CompareArguments) -> list[RatedImage]:
    """The source manifests, or photographs distorted here."""
    if arguments.source is not None:
        files, scales = named_files(arguments.source), arguments.source_scale or []
        if len(files) == 1 and scales and "=" not in scales[0]:
            scales = [f"{next(iter(files))}={scales[0]}"]
        scale_of = by_name("source_scale", scales, str)
        for name in scale_of:
            check_choice("source", name, files, SettingsError)
        return [
            replace(row, dataset=name)
            for name, file in files.items()
            for row in read_manifest(file, scale=scale_of.get(name))
        ]
    repeated = tuple(name for name in arguments.distortions for _ in range(FREQUENCIES.get(name, 1)))
    settings = DatasetSettings(
        arguments.photos, repeated, train_images=arguments.images, val_images=1, test_images=1
    )  # no split can be empty, and only the first is a source
    return read_manifest(build_dataset(Path(arguments.output) / "source", settings).train, check_images=False)


def table(results: dict[str, dict[str, list[float]]]) -> str:
    """Markdown: mean ± standard deviation (ddof 1) over the draws, in the order of the paper's tables."""
    columns = {"srcc": "SRCC", "plcc": "PLCC", "network_srcc": "network SRCC", "network_plcc": "network PLCC"}
    columns = {key: name for key, name in columns.items() if key in results[FULL]} | {"ppc": "PPC with the target"}
    lines = [
        f"| trained on | images | {' | '.join(columns.values())} |",
        f"|---|---:|{'---:|' * len(columns)}",
    ]
    for name in (name for name in ROWS if name in results):
        measured = results[name]
        cells = [name, f"{statistics.fmean(measured['images']):,.0f}"]
        for key in columns:
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
    output = Path(arguments.output)
    settings = {name: value for name, value in asdict(arguments).items() if name not in MAY_CHANGE}
    ledger = Ledger(output / "draws.json", settings)
    missing = [draw for draw in range(arguments.draws) if str(draw) not in ledger.results]
    if missing:
        source = features_of(source_rows(arguments), arguments)
        target = features_of(read_manifest(arguments.target, scale=arguments.target_scale), arguments)
        for draw in missing:
            measured = one_draw(source, target, arguments, draw)
            ledger.record(str(draw), measured)
            latest = ", ".join(f"{name} {own['srcc']:.3f}" for name, own in measured.items())
            print(f"draw {draw}: {latest}", flush=True)
    draws = [ledger.results[str(draw)] for draw in range(arguments.draws)]
    results = {
        name: {key: [float("nan") if own[name][key] is None else own[name][key] for own in draws] for key in measured}
        for name, measured in draws[0].items()
    }
    write_json({"results": results, "settings": ledger.settings}, output / "results.json")
    text = table(results)
    write_text(text, output / "results.md")
    print(text)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line entry: 0 when done, 2 with one sentence on stderr for settings or data that won't do."""
    return exit_code(lambda: compare(parse_arguments(argv)))


if __name__ == "__main__":
    sys.exit(main())
