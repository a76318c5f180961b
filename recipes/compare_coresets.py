"""How much of a training set is needed? Coresets of every size, a model trained on each, and a curve (Q-Diverse).

    python recipes/compare_coresets.py --manifest koniq.jsonl --scale koniq10k --encoder resnet50_pooled
    python recipes/compare_coresets.py --manifest my.jsonl --network timm:resnet18 --fractions 0.05 0.1 0.3 --seeds 0
    python recipes/compare_coresets.py --classes digits --option q_diverse.gamma=0.7
    python recipes/compare_coresets.py --classes cifar10/train --test_classes cifar10/test --network timm:resnet18

After the supplement of Q-Diverse ("Diversity Preserving Coresets for Image Quality Assessment"), in small for a CPU.
Table 2: each selector chooses 1 to 95 % of the training part, and what was trained on the choice is tested on a fixed
test part, beside what all of it gives. The model is ridge regression on frozen features; --network trains a vision
encoder instead, with an L1 loss (the paper has MUSIQ and MANIQA, which are not here). Fig. 1: how the scores of each
coreset spread beside those of the whole, at --coverage_fraction. Table 4: with --classes, the labels are classes and
the measure is accuracy, of logistic regression on frozen features or of the network (the paper has CIFAR-10 and
ResNet-18); `digits` are the 1,797 of scikit-learn, which need no download, and a folder has a folder of pictures for
each class.

Writes results.json, results.md, curve.png and coverage.png; run again with the same options, it goes on with the
trainings that are missing.

Legend: N training images, n tested ones, M selected ones, D features.
"""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mriqa.choices import by_name, check_choice
from mriqa.datasets.splits import split_by_content
from mriqa.errors import SettingsError
from mriqa.eval import metrics, write_json
from mriqa.eval.coreset_plots import coverage_panels, fraction_curves
from mriqa.eval.coverage import coverage
from mriqa.features import extract, load_encoder
from mriqa.files import write_text
from mriqa.manifest import read_manifest
from mriqa.selection import SELECTORS, count_of
from mriqa.training.launching import exit_code, parse
from mriqa.training.ledger import Ledger
from mriqa.training.selected_networks.image_classes import DIGITS, ClassImage, class_names, labelled_images
from mriqa.training.selected_networks.image_network import NetworkSettings, Picture, train_network
from mriqa.training.selected_networks.ridge import fit_ridge

TABLE_1 = [0.01, 0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 0.95]
DEFAULT_SELECTORS = ["random", "herding", "k_center", "moderate", "pgcs", "q_diverse"]
WHOLE = "all images"
MAY_CHANGE = ("output", "cache", "device", "seeds", "fractions", "selectors", "coverage_fraction")


@dataclass
class CoresetArguments:
    """Options of the comparison."""

    manifest: str | None = field(default=None, metadata={"help": "Rated images to select from, or else --classes."})
    scale: str | None = field(default=None, metadata={"help": "Scale of the scores, such as koniq10k or 0:100."})
    test_manifest: str | None = field(
        default=None, metadata={"help": "Rated images to test on (else --test_share of the contents)."}
    )
    classes: str | None = field(
        default=None, metadata={"help": f"Classification instead: {DIGITS}, or a folder with a folder for each class."}
    )
    test_classes: str | None = field(default=None, metadata={"help": "Likewise, to test on."})
    test_share: float = field(default=0.3, metadata={"help": "Share of the contents to test on."})
    fractions: list[float] = field(default_factory=lambda: list(TABLE_1), metadata={"help": "Budgets, as shares."})
    selectors: list[str] = field(
        default_factory=lambda: list(DEFAULT_SELECTORS), metadata={"help": "Of mriqa.selection, without a target."}
    )
    option: list[str] = field(default_factory=list, metadata={"help": "Options of selectors, as SELECTOR.NAME=VALUE."})
    seeds: list[int] = field(
        default_factory=lambda: [0, 1, 2], metadata={"help": "Of what selectors draw, and of the network."}
    )
    split_seed: int = field(default=0, metadata={"help": "Of the test part."})
    encoder: str = field(default="lite0", metadata={"help": "Of content; the paper has resnet50_pooled."})
    quality_encoder: str = field(default="lite0_quality", metadata={"help": "Of quality, for q_diverse."})
    level_encoder: str | None = field(
        default=None, metadata={"help": "For contextual_diversity: features that are logits of quality levels."}
    )
    regressor_encoder: str | None = field(default=None, metadata={"help": "What ridge reads (else --encoder)."})
    network: str | None = field(
        default=None, metadata={"help": "Train this encoder instead of ridge: timm:NAME or embedded."}
    )
    network_epochs: int = field(default=10, metadata={"help": "Of the network."})
    network_rate: float = field(default=1e-4, metadata={"help": "Learning rate of the network."})
    network_batch: int = field(default=16, metadata={"help": "Images in a batch of the network."})
    network_crop: int | None = field(default=None, metadata={"help": "Side of its crops (what the encoder expects)."})
    network_pretrained: bool = field(default=True, metadata={"help": "With published weights, not random ones."})
    size: int | None = field(default=None, metadata={"help": "Resize all images to this square first."})
    limit: int | None = field(default=672, metadata={"help": "Shrink all images to a shorter side of at most this."})
    crop: int | None = field(default=None, metadata={"help": "Side of five crops of every image (else the whole)."})
    coverage_fraction: float = field(default=0.1, metadata={"help": "Budget whose scores coverage.png shows."})
    device: str | None = field(default=None, metadata={"help": "Of encoders and network (else the accelerator)."})
    output: str = field(default="outputs/compare_coresets", metadata={"help": "Folder to write to."})
    cache: str = field(default="outputs/features", metadata={"help": "Folder of the features."})

    def __post_init__(self) -> None:
        if (self.manifest is None) == (self.classes is None):
            raise SettingsError("Name what to select from by one of --manifest and --classes.")
        if not self.fractions or not all(0 < share <= 1 for share in [*self.fractions, self.coverage_fraction]):
            raise SettingsError(f"--fractions are shares above 0 and at most 1, not {self.fractions}.")
        if not 0 < self.test_share < 1:
            raise SettingsError(f"--test_share must lie between 0 and 1, not {self.test_share}.")
        for name in self.selectors:
            check_choice("selector", name, [own for own in SELECTORS if not SELECTORS[own].needs_target], SettingsError)
        if "contextual_diversity" in self.selectors and self.level_encoder is None:
            raise SettingsError("contextual_diversity reads logits of quality levels: name --level_encoder.")
        for name, options in self.selector_options().items():
            SELECTORS[name].check_options(name, options)

    def selector_options(self) -> dict[str, dict[str, Any]]:
        """Options of each selector that has any. SettingsError for those of unknown selectors."""
        options: dict[str, dict[str, Any]] = {}
        for key, value in by_name("option", self.option, _as_yaml).items():
            selector, dot, name = key.partition(".")
            check_choice("selector", selector, SELECTORS, SettingsError)
            if not dot:
                raise SettingsError(f"--option takes SELECTOR.NAME=VALUE, such as q_diverse.gamma=0.7, not {key}.")
            options.setdefault(selector, {})[name] = value
        return options


@dataclass(frozen=True)
class Part:
    """Images to train or to test on.

    Attributes:
        pictures: the images.
        targets_N: their scores, or the numbers of their classes.
        groups_N: their contents.
        features: (N, D) by the name of the encoder.
    """

    pictures: Sequence[Picture]
    targets_N: np.ndarray
    groups_N: np.ndarray
    features: dict[str, np.ndarray] = field(default_factory=dict)

    def at(self, places_M: np.ndarray) -> Part:
        """The part of it at these places."""
        return Part([self.pictures[place] for place in places_M], self.targets_N[places_M], self.groups_N[places_M])


def read_parts(arguments: CoresetArguments) -> tuple[Part, Part]:
    """What to select from, and what to test on. Raises UserError where either can't be read."""
    if arguments.classes is not None:
        return read_classes(arguments.classes, arguments.test_classes, arguments)
    assert arguments.manifest is not None  # one of both is given
    rows = read_manifest(arguments.manifest, scale=arguments.scale)
    if arguments.test_manifest is not None:
        both = [rows, read_manifest(arguments.test_manifest, scale=arguments.scale)]
    else:
        both = split_by_content(rows, [1 - arguments.test_share, arguments.test_share], arguments.split_seed)
    first, second = (
        Part(own, np.array([row.mos for row in own]), np.array([row.content for row in own])) for own in both
    )
    return first, second


def read_classes(source: str, test_source: str | None, arguments: CoresetArguments) -> tuple[Part, Part]:
    """Training and test images of classes; without a test set of their own a share of each class."""
    from sklearn.model_selection import train_test_split

    def part_of(images: Sequence[ClassImage]) -> Part:
        numbers_N = np.array([names.index(image.label) for image in images])
        return Part(images, numbers_N, np.arange(len(images)))

    images = labelled_images(source, Path(arguments.output) / DIGITS)
    names = class_names(images)
    if test_source is not None:
        test = labelled_images(test_source, Path(arguments.output) / DIGITS)
        if class_names(test) != names:
            raise SettingsError(f"{source} has the classes {', '.join(names)}, and {test_source} has others.")
        return part_of(images), part_of(test)
    whole = part_of(images)
    try:
        parts = train_test_split(
            np.arange(len(images)), test_size=arguments.test_share, random_state=arguments.split_seed,
            stratify=whole.targets_N,
        )  # fmt: skip
    except ValueError as error:
        raise SettingsError(
            f"{source} has too few pictures for --test_share {arguments.test_share}: {error}"
        ) from error
    return whole.at(np.sort(parts[0])), whole.at(np.sort(parts[1]))


def with_features(part: Part, arguments: CoresetArguments) -> Part:
    """The part with all features that selection and ridge need, from the cache where they are there."""
    names = [arguments.encoder, arguments.regressor_encoder, arguments.level_encoder]
    names += [arguments.quality_encoder] if "q_diverse" in arguments.selectors else []
    features = {}
    for name in dict.fromkeys(name for name in names if name is not None):
        encoder = load_encoder(name, arguments.device)
        look = replace(encoder.views, size=arguments.size, limit=arguments.limit)
        if arguments.crop is not None:
            look = replace(look, crop=arguments.crop, count=5)
        images = [picture.image for picture in part.pictures]
        features[name] = extract(images, encoder, cache=arguments.cache, look=look)
    return replace(part, features=features)


def select(name: str, part: Part, fraction: float, seed: int, arguments: CoresetArguments) -> np.ndarray:
    """The rows (M,) that a selector chooses."""
    features_ND = part.features[arguments.encoder]
    inputs: dict[str, Any] = arguments.selector_options().get(name, {})
    if "scores" in SELECTORS[name].needs:
        inputs = {**inputs, "scores": part.targets_N.astype(float)}
        if arguments.classes is not None and "bins" in SELECTORS[name].options:
            inputs.setdefault("bins", int(part.targets_N.max()) + 1)  # so that a class is a bin
    if name == "q_diverse":
        inputs = {**inputs, "quality": part.features[arguments.quality_encoder]}
    if name == "contextual_diversity":
        assert arguments.level_encoder is not None  # checked with the options
        features_ND = part.features[arguments.level_encoder]
    return SELECTORS[name](features_ND, fraction, seed=seed, **inputs)


def measure(rows_M: np.ndarray, training: Part, test: Part, seed: int, arguments: CoresetArguments) -> dict[str, float]:
    """Train on the rows, and SRCC and PLCC, or accuracy, on the test part."""
    chosen = training.at(rows_M)
    if arguments.network is not None:
        settings = NetworkSettings(
            arguments.network, arguments.network_pretrained, arguments.network_epochs, arguments.network_rate,
            arguments.network_batch, arguments.network_crop, arguments.limit, device=arguments.device,
            classes=int(training.targets_N.max()) + 1 if arguments.classes else None,
        )  # fmt: skip
        predicted_n = train_network(chosen.pictures, chosen.targets_N, settings, seed).predict(test.pictures)
    else:
        name = arguments.regressor_encoder or arguments.encoder
        fit = fit_classifier if arguments.classes else fit_ridge
        model = fit(training.features[name][rows_M], chosen.targets_N, chosen.groups_N)
        predicted_n = model.predict(test.features[name])
    if arguments.classes:
        return {"accuracy": float(np.mean(predicted_n == test.targets_N))}
    return {"srcc": metrics.srcc(predicted_n, test.targets_N), "plcc": metrics.plcc(predicted_n, test.targets_N)}


def fit_classifier(x_MD: np.ndarray, classes_M: np.ndarray, groups_M: np.ndarray) -> Any:
    """Logistic regression on standardised features, of scikit-learn's default penalty; one class needs no model."""
    from sklearn.dummy import DummyClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if len(set(classes_M)) == 1:
        return DummyClassifier(strategy="most_frequent").fit(x_MD, classes_M)
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(x_MD, classes_M)


def table(values: dict[str, dict[float, list[float]]], whole: Sequence[float], measure: str) -> str:
    """Markdown: a row for each fraction and a column for each selector, mean ± standard deviation (ddof 1)."""
    fractions = list(next(iter(values.values())))
    lines = [f"| {measure} | {' | '.join(values)} |", f"|---|{'---:|' * len(values)}"]
    for fraction in fractions:
        lines.append(f"| {100 * fraction:g} % | {' | '.join(_shown(own[fraction]) for own in values.values())} |")
    lines.append(f"| all | {' | '.join([_shown(whole)] * len(values))} |")
    return "\n".join(lines) + "\n"


def _as_yaml(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(text) from error


def _shown(values: Sequence[float]) -> str:
    if any(math.isnan(value) for value in values):
        return "–"  # a correlation with predictions that are all the same
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.3f}{spread}"


def compare(arguments: CoresetArguments) -> None:
    """Select, train and test whatever is missing, and write the results. Raises UserError for data that won't do."""
    training, test = (with_features(part, arguments) for part in read_parts(arguments))
    for fraction in arguments.fractions:
        count_of(float(fraction), len(training.pictures))  # refused before anything is trained
    settings = {name: value for name, value in asdict(arguments).items() if name not in MAY_CHANGE}
    ledger = Ledger(Path(arguments.output) / "trainings.json", settings)
    budgets = [(name, fraction) for name in arguments.selectors for fraction in arguments.fractions]
    for seed, (name, fraction) in product(arguments.seeds, [(WHOLE, 1.0), *budgets]):
        if key_of(name, fraction, seed) in ledger.results:
            continue
        everything = np.arange(len(training.pictures))
        rows_M = everything if name == WHOLE else select(name, training, fraction, seed, arguments)
        found: dict[str, Any] = {"images": len(rows_M), **measure(rows_M, training, test, seed, arguments)}
        shown = ", ".join(f"{key} {found[key]:.3f}" for key in measures_of(arguments))
        if not arguments.classes:
            found["coverage"] = coverage(training.targets_N, rows_M)["score"]
        ledger.record(key_of(name, fraction, seed), found)
        print(f"{name}, {100 * fraction:g} %, seed {seed}: {len(rows_M)} images, {shown}", flush=True)
    report(arguments, ledger)


def key_of(name: str, fraction: float, seed: int) -> str:
    """The name of a training in the ledger."""
    return f"{name} / {fraction:g} / {seed}"


def measures_of(arguments: CoresetArguments) -> list[str]:
    """What is measured, the first of which is drawn."""
    return ["accuracy"] if arguments.classes else ["srcc", "plcc"]


def report(arguments: CoresetArguments, ledger: Ledger) -> None:
    """Write results.json, results.md, curve.png and, of scores, coverage.png."""
    output, fractions = Path(arguments.output), sorted(set(arguments.fractions))

    def of_seeds(name: str, fraction: float, value: Callable[[dict[str, Any]], float | None]) -> list[float]:
        found = [value(ledger.results[key_of(name, fraction, seed)]) for seed in arguments.seeds]
        return [math.nan if one is None else one for one in found]  # JSON knows no NaN

    def by_selector(value: Callable[[dict[str, Any]], float | None]) -> dict[str, dict[float, list[float]]]:
        return {name: {share: of_seeds(name, share, value) for share in fractions} for name in arguments.selectors}

    texts = []
    for place, name in enumerate(measures_of(arguments)):
        values, whole = by_selector(itemgetter(name)), of_seeds(WHOLE, 1.0, itemgetter(name))
        texts.append(table(values, whole, name if arguments.classes else name.upper()))
        if place == 0:
            fraction_curves(values, whole, output / "curve.png", name)
    if not arguments.classes:
        difference = lambda found: found["coverage"]["largest_difference"]  # noqa: E731
        texts.append(
            "Largest difference of the cumulative distributions of scores between coreset and whole (after Fig. 1):\n\n"
            + table(by_selector(difference), of_seeds(WHOLE, 1.0, difference), "difference")
        )
        shown = min(fractions, key=lambda share: abs(share - arguments.coverage_fraction))
        spreads = {
            name: ledger.results[key_of(name, shown, arguments.seeds[0])]["coverage"] for name in arguments.selectors
        }
        coverage_panels(spreads, output / "coverage.png", f"Scores of coresets of {100 * shown:g} % beside the whole")
    write_json({"results": ledger.results, "settings": ledger.settings}, output / "results.json")
    write_text("\n".join(texts), output / "results.md")
    print("\n".join(texts))


def parse_arguments(argv: Sequence[str] | None = None) -> CoresetArguments:
    """Options from the command line and a YAML file. Raises SettingsError for what cannot be right."""
    (arguments,) = parse((CoresetArguments,), __doc__, argv)
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Command line entry: 0 when done, 2 with one sentence on stderr for settings or data that won't do."""
    return exit_code(lambda: compare(parse_arguments(argv)))


if __name__ == "__main__":
    sys.exit(main())
