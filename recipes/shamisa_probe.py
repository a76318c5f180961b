"""How well do frozen features tell quality? SHAMISA's linear probe (arXiv 2603.13669, Tables I, II, V and VI).

    python recipes/shamisa_probe.py --encoders shamisa:outputs/shamisa/model lite0 --manifests kadid.jsonl csiq.jsonl
    python recipes/shamisa_probe.py --encoders shamisa:outputs/shamisa/model --photos my_photographs \\
        --manifests lab=hevc/manifest.jsonl --size lab=672 --cross_on all
    python recipes/shamisa_probe.py --encoders shamisa:MODEL --manifests kadid.jsonl --references kadid10k=kadid/images
    python recipes/shamisa_probe.py --encoders shamisa:MODEL --manifests kadid.jsonl --save true && \\
        mriqa score my_pictures --model MODEL

Ridge regression on five crops at full and half size, its penalty out of 100 by the validation parts of ten splits by
content (70/10/20). Table I: median SRCC and PLCC on the test parts. Table II: the probes of one data set on another,
of which nothing is used but its pictures. Table VI: the same on |features of the reference - features|. Features are
kept in --cache. Writes results.json and results.md; --save true also writes a probe of all of the first data set into
the folders of the encoders, by which they score pictures, as in `mriqa gmad` (Table VII).

Legend: N pictures, V crops of a picture, F features of a crop.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mriqa.choices import by_name
from mriqa.datasets.folder import PICTURES
from mriqa.datasets.splits import RANDOM_SPLITS
from mriqa.distortions import LABELLED
from mriqa.embedded.dataset import DatasetSettings, build_dataset
from mriqa.errors import SettingsError
from mriqa.eval import metrics
from mriqa.features.crop_features import CROP, LOOKS, TWO_SIZES, CropEncoder, crop_features, load_crop_encoder
from mriqa.files import write_json, write_text
from mriqa.manifest import RatedImage, read_manifest
from mriqa.pretrain.probe import ProbedSet, RidgeProbe, Split, content_splits, fit_probe, probe_data_set
from mriqa.pretrain.saved_probe import SavedProbe, save_probe
from mriqa.training.launching import exit_code, parse
from mriqa.views import ViewSettings

DISTORTED = "distorted"
CROSS_ON = ("test", "all")
MEASURES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "srcc": metrics.srcc,
    "plcc": metrics.plcc,
    "plcc_mapped": lambda predicted_n, scores_n: metrics.plcc(predicted_n, scores_n, mapped=True),
}


@dataclass
class DataOptions:
    """Options of every probe: the data sets, how their pictures are looked at, and where to write."""

    manifests: list[str] = field(default_factory=list, metadata={"help": "Data sets, as FILE or NAME=FILE."})
    photos: str | None = field(
        default=None, metadata={"help": "Photographs to distort and label as one more data set, named distorted."}
    )
    images: int = field(default=2500, metadata={"help": "Pictures to make of --photos."})
    distortions: list[str] = field(default_factory=lambda: list(LABELLED), metadata={"help": "To make them with."})
    scale: list[str] = field(
        default_factory=list,
        metadata={"help": "Scales of scores, as NAME=0:100 for NAME=FILE (else the manifest's, or 1:5)."},
    )
    size: list[str] = field(
        default_factory=list, metadata={"help": "Resize pictures to a square first, as NAME=672 (bicubic)."}
    )
    limit: list[str] = field(
        default_factory=list, metadata={"help": "Shrink them to this shorter side first, as spaq=512."}
    )
    crop: int = field(default=CROP, metadata={"help": "Side of the crops in pixels."})
    splits: int = field(default=RANDOM_SPLITS, metadata={"help": "How many of the ten splits to use."})
    standardise: bool = field(
        default=False,
        metadata={"help": "Divide features by their deviation first, for encoders without unit features."},
    )
    output: str = field(default="outputs/shamisa_probe", metadata={"help": "Folder to write to."})
    cache: str = field(default="outputs/features", metadata={"help": "Folder of the features."})
    device: str | None = field(default=None, metadata={"help": "Of the encoders (else the accelerator or the CPU)."})
    batch_size: int = field(default=4, metadata={"help": "Pictures at a time, ten crops each."})

    def __post_init__(self) -> None:
        if not self.manifests and self.photos is None:
            raise SettingsError("Name data sets by --manifests, or photographs to make one of by --photos.")
        if not 1 <= self.splits <= RANDOM_SPLITS:
            raise SettingsError(f"--splits is a number from 1 to {RANDOM_SPLITS}, not {self.splits}.")


@dataclass
class ProbeOptions(DataOptions):
    """Options of this recipe: those, and the encoders."""

    encoders: list[str] = field(
        kw_only=True, metadata={"help": "Of mriqa.features, such as shamisa:FOLDER, lite0 or timm:NAME."}
    )
    references: list[str] = field(
        default_factory=list,
        metadata={"help": "Pristine pictures for the full-reference form, as NAME=FOLDER, each named as its content."},
    )
    look: str = field(
        default=TWO_SIZES, metadata={"help": "two_sizes: five crops each; one_size; whole: the encoder's own look."}
    )
    cross_on: str = field(default="test", metadata={"help": "Another data set's pictures to test on: test or all."})
    save: bool = field(default=False, metadata={"help": "Save a probe of the first data set beside the encoders."})

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value, known in (("look", self.look, LOOKS), ("cross_on", self.cross_on, CROSS_ON)):
            if value not in known:
                raise SettingsError(f"--{name} is one of {', '.join(known)}, not {value!r}.")
        if self.save and self.standardise:
            raise SettingsError("A probe is saved for features as they are: leave out --standardise or --save.")
        if self.save and (self.look != TWO_SIZES or not all(name.startswith("shamisa:") for name in self.encoders)):
            raise SettingsError("--save true is for encoders shamisa:FOLDER and the look two_sizes.")


@dataclass(frozen=True)
class DataSet:
    """Rated pictures, how to resize them first, their reference pictures (or none), and the parts of each split."""

    name: str
    rows: list[RatedImage]
    before: ViewSettings
    references: list[Path] | None
    splits: list[Split]

    @property
    def scores(self) -> np.ndarray:
        """(N,) in 1..5, higher is better whatever the data set's own scale is."""
        return np.array([row.mos for row in self.rows])


def read_data_sets(options: ProbeOptions) -> list[DataSet]:
    """The data sets that the options name. Raises UserError for what can't be read or isn't among them."""
    sizes, limits = by_name("size", options.size, int), by_name("limit", options.limit, int)
    scales, folders = by_name("scale", options.scale, str), by_name("references", options.references, Path)
    rows_of: dict[str, list[RatedImage]] = {}
    for manifest in options.manifests:
        name, _, file = manifest.rpartition("=")
        rows = read_manifest(file, scale=scales.get(name), dataset=name or None)
        if not name and rows[0].dataset in scales:
            raise SettingsError(f"To give a data set a scale, name it: --manifests {rows[0].dataset}={file}.")
        name = name or rows[0].dataset
        if name in rows_of:
            raise SettingsError(f"Two data sets are called {name}: name them, as NAME={file}.")
        rows_of[name] = rows
    if options.photos is not None:
        rows_of[DISTORTED] = distorted_rows(options)
    for name in [*scales, *sizes, *limits, *folders]:
        if name not in rows_of:
            raise SettingsError(f"There is no data set {name!r} among {', '.join(rows_of)}.")
    return [
        DataSet(
            name,
            rows,
            ViewSettings(size=sizes.get(name), limit=limits.get(name)),
            find_references(rows, folders[name]) if name in folders else None,
            content_splits([row.content for row in rows], options.splits),
        )
        for name, rows in rows_of.items()
    ]


def distorted_rows(options: ProbeOptions) -> list[RatedImage]:
    """Photographs distorted and labelled here, as the embedded data set is."""
    count = options.images
    if count < 10:
        raise SettingsError(f"--images must be at least 10, not {count}.")
    val, test = count // 10, count // 4
    settings = DatasetSettings(
        options.photos, tuple(options.distortions), train_images=count - val - test, val_images=val, test_images=test
    )
    paths = build_dataset(Path(options.output) / DISTORTED, settings)
    return [row for path in (paths.train, paths.val, paths.test) for row in read_manifest(path, check_images=False)]


def find_references(rows: Sequence[RatedImage], folder: Path) -> list[Path]:
    """Each row's reference: the picture in the folder that is named as its content. Raises SettingsError without it."""
    if not folder.is_dir():
        raise SettingsError(f"There is no folder {folder} of references.")
    pictures = {path.stem.casefold(): path for path in sorted(folder.iterdir()) if path.suffix.lower() in PICTURES}
    missing = sorted({row.content for row in rows if Path(row.content).stem.casefold() not in pictures})
    if missing:
        raise SettingsError(f"{folder} has no picture named {missing[0]!r}, a reference of {rows[0].dataset}.")
    return [pictures[Path(row.content).stem.casefold()] for row in rows]


def measured(probed: ProbedSet, features_NVF: np.ndarray, scores_N: np.ndarray, splits: Sequence[Split]) -> Any:
    """The penalty, and each measure on the test part of every split with its median."""
    return {
        "alpha": probed.alpha,
        "val_srcc": float(probed.val_medians_A.max()),
        **agreements(probed, features_NVF, scores_N, [split.test for split in splits], MEASURES),
    }


def agreements(
    probed: ProbedSet,
    features_NVF: np.ndarray,
    scores_N: np.ndarray,
    tests: Sequence[np.ndarray],
    measures: dict[str, Callable[[np.ndarray, np.ndarray], float]],
) -> dict[str, Any]:
    """Measures of each split's probe on pictures of its own choice, and their medians over the splits."""
    values: dict[str, list[float]] = {name: [] for name in measures}
    for probe, test in zip(probed.probes, tests, strict=True):
        predicted_n = probe.scores(features_NVF[test])
        for name, measure in measures.items():
            values[name].append(measure(predicted_n, scores_N[test]))
    return {"median": {name: float(np.median(own)) for name, own in values.items()}, "splits": values}


def crossed(
    sets: Sequence[DataSet], features: dict[str, np.ndarray], probes: dict[str, ProbedSet], on: str
) -> dict[str, dict[str, float]]:
    """Median SRCC of raw predictions for source and target, nothing of which but its pictures is used."""
    table: dict[str, dict[str, float]] = {}
    for source in sets:
        for target in (other for other in sets if other is not source):
            everything = np.arange(len(target.rows))
            tests = [everything if on == "all" else split.test for split in target.splits]
            found = agreements(
                probes[source.name], features[target.name], target.scores, tests, {"srcc": metrics.srcc}
            )  # fmt: skip
            table.setdefault(source.name, {})[target.name] = found["median"]["srcc"]
    return table


def probe_encoder(encoder: CropEncoder, sets: Sequence[DataSet], options: ProbeOptions) -> dict[str, Any]:
    """All results of one encoder; saves its probe where the options ask for one."""

    def features_of(images: Sequence[Path], before: ViewSettings) -> np.ndarray:
        return crop_features(images, encoder, before=before, cache=options.cache, batch_size=options.batch_size)

    features = {own.name: features_of([row.image for row in own.rows], own.before) for own in sets}
    choose = partial(probe_data_set, srcc=metrics.srcc, standardise=options.standardise)
    probes = {own.name: choose(features[own.name], own.scores, own.splits) for own in sets}
    results: dict[str, Any] = {
        "no_reference": {
            own.name: measured(probes[own.name], features[own.name], own.scores, own.splits) for own in sets
        },
        "cross_srcc": crossed(sets, features, probes, options.cross_on),
        "full_reference": {},
    }
    for own in sets:
        if own.references is not None:
            unique = list(dict.fromkeys(own.references))
            places = [unique.index(path) for path in own.references]
            differences = np.abs(features_of(unique, own.before)[places] - features[own.name])
            probed = choose(differences, own.scores, own.splits)
            results["full_reference"][own.name] = measured(probed, differences, own.scores, own.splits)
    if options.save:
        first = sets[0]
        whole = fit_probe(features[first.name], first.scores, probes[first.name].alpha)
        keep(whole, encoder, first, options)
    return results


def keep(probe: RidgeProbe, encoder: CropEncoder, learned_from: DataSet, options: ProbeOptions) -> None:
    """Write a probe beside its encoder."""
    folder = Path(encoder.encoder.name.removeprefix("shamisa:"))
    about = {"data_set": learned_from.name, "pictures": len(learned_from.rows)}
    before = learned_from.before
    save_probe(SavedProbe(probe, encoder.key, options.crop, before.size, before.limit, about), folder)
    print(f"The probe is saved: mriqa score PICTURES --model {folder}")


def tables(results: dict[str, dict[str, Any]], sets: Sequence[DataSet], cross_on: str) -> str:
    """Markdown, in the form of the paper's Tables I, II and VI."""
    names = [own.name for own in sets]
    text = ["## Probe (Table I): median over the splits of SRCC / PLCC / PLCC mapped", ""]
    text += grid("encoder", names, {name: cells(own["no_reference"], names) for name, own in results.items()})
    if len(sets) > 1:
        text += ["", f"## Across data sets (Table II): SRCC on {cross_on} pictures of the target, source → target", ""]
        pairs = [(source, target) for source in names for target in names if source != target]
        columns = [f"{source} → {target}" for source, target in pairs]
        text += grid("encoder", columns, {
            name: [f"{own['cross_srcc'][source][target]:.3f}" for source, target in pairs]
            for name, own in results.items()
        })  # fmt: skip
    referenced = [own.name for own in sets if own.references is not None]
    if referenced:
        text += ["", "## With the reference (Table VI): SRCC / PLCC / PLCC mapped", ""]
        rows = {name: cells(own["full_reference"], referenced) for name, own in results.items()}
        text += grid("encoder", referenced, rows)
    return "\n".join(text) + "\n"


def cells(results: dict[str, Any], names: Sequence[str]) -> list[str]:
    """One cell for each data set."""
    return [" / ".join(f"{results[name]['median'][measure]:.3f}" for measure in MEASURES) for name in names]


def grid(corner: str, columns: Sequence[str], rows: dict[str, list[str]]) -> list[str]:
    """The lines of a Markdown table."""
    lines = [f"| {corner} | {' | '.join(columns)} |", "|---" * (1 + len(columns)) + "|"]
    return lines + [f"| {name} | {' | '.join(row)} |" for name, row in rows.items()]


def probe(options: ProbeOptions) -> str:
    """Run the probe and write its results after every encoder; the tables. Raises UserError for what won't do."""
    sets = read_data_sets(options)
    output = Path(options.output)
    results: dict[str, dict[str, Any]] = {}
    pictures = {own.name: {"pictures": len(own.rows), "contents": len({row.content for row in own.rows})}
                for own in sets}  # fmt: skip
    for name in options.encoders:
        encoder = load_crop_encoder(name, options.look, options.crop, options.device)
        results[name] = probe_encoder(encoder, sets, options)
        write_json({"encoders": results, "data_sets": pictures, "settings": asdict(options)}, output / "results.json")
    text = tables(results, sets, options.cross_on)
    write_text(text, output / "results.md")
    print(text)
    return text


def parse_arguments(argv: Sequence[str] | None = None) -> ProbeOptions:
    """Options from the command line and a YAML file. Raises SettingsError for what cannot be right."""
    (options,) = parse((ProbeOptions,), __doc__, argv)
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Command line entry: 0 when done, 2 with one sentence on stderr for settings or data that won't do."""
    return exit_code(lambda: probe(parse_arguments(argv)))


if __name__ == "__main__":
    sys.exit(main())
