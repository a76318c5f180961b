"""Which ordinal loss scores best on frozen features? Ten content-disjoint splits of any manifest.

    python recipes/conord_features.py --manifest ../shared/data/hevc_lab_mos/manifest.jsonl --size 672
    python recipes/conord_features.py --photos ../shared/data/photos --crop 224
    python recipes/conord_features.py --manifest my.jsonl --scale 0:100 --methods ConOrd SupCon ridge --splits 3

After Tables 5, 6 and 15 of ConOrd, small enough for a CPU. Features come from a frozen encoder, five crops a picture;
the default is the middle stages of EfficientNet-Lite0. On them a projection to the unit sphere trains with each loss,
and a picture's score is the mean MOS of its ten nearest training pictures (eq. 10). L1 and MSE regression, by a linear
layer on that projection, and ridge are there for comparison. --photos are distorted and labelled as the embedded data
set is. Learning rate, dropout and ridge's penalty are chosen for each method and split alike, on held-out training
contents; the test contents are seen once. Ranks are MOS on a scale 0..100.

Writes OUTPUT/results.json after every split, and goes on from it when it is started again with the same options; then
OUTPUT/table.md, whose intervals are of 95 % (corrected resampled t-test), and similarity.png (Fig. 4), tsne.png (Fig. 5
and 13) and weightings.png (Fig. 15).

Legend: N images, V views of each, F features of a view, D embedding width, B batch.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mriqa.conord.objective import PAIRED, LossSettings, loss_function
from mriqa.datasets.splits import split_by_content
from mriqa.embedded.dataset import DatasetSettings, build_dataset
from mriqa.errors import SettingsError
from mriqa.eval import metrics
from mriqa.eval.head_plots import similarity_matrices, tsne, weighting_curves
from mriqa.eval.statistics.intervals import Measure
from mriqa.eval.statistics.repeated_splits import over_splits
from mriqa.features.crop_features import ONE_SIZE, crop_features, load_crop_encoder
from mriqa.files import write_json, write_text
from mriqa.heads import WEIGHTING_NAMES, LearnableWeighting, RankIndex, ReferencePoints, conord_loss
from mriqa.heads.linear_reading import REGRESSIONS, LinearReading
from mriqa.manifest import RatedImage, read_manifest
from mriqa.training.launching import exit_code
from mriqa.views import ViewSettings

WIDTH, BATCH, NEIGHBOURS = 64, 32, 10
TEST_SHARE, INNER_SHARE, INNER_SPLITS = 0.2, 0.25, 2
PENALTIES = (1.0, 10.0, 100.0, 1000.0, 10_000.0)
RIDGE, RAW = "ridge", "nearest neighbours, untrained"
POINTS_RATE = 0.03


@dataclass(frozen=True)
class Method:
    """A loss, or None for the centre loss alone; the centre loss beside it; the reference points' rate if their own."""

    loss: str | None
    centre: str | None = None
    points_rate: float | None = None


TRAINED = {
    "ConOrd + centre (mean)": Method("conord", "mean"),
    "ConOrd + centre (sum)": Method("conord", "sum"),
    "ConOrd": Method("conord"),
    "centre alone (mean)": Method(None, "mean"),
    "centre alone (sum)": Method(None, "sum"),
    "SupCon": Method("supcon"),
    "SupCon + centre (mean)": Method("supcon", "mean"),
    "Rank-N-Contrast": Method("rnc"),
    "Rank-N-Contrast + centre (mean)": Method("rnc", "mean"),
    "L_MAE (eq. 2)": Method("mae"),
    "OCL": Method("ocl"),
    "L1 regression": Method("l1"),
    "MSE regression": Method("mse"),
    "ConOrd + centre (mean, own rate)": Method("conord", "mean", POINTS_RATE),
    "ConOrd + centre (sum, own rate)": Method("conord", "sum", POINTS_RATE),
}
"""Of the centre loss "sum" is eq. 8 as it stands; with "own rate" the points have a learning rate of theirs."""
BASELINE = "ConOrd + centre (mean)"
METHODS = (*TRAINED, RIDGE, RAW)
COMPARED = tuple(name for name in METHODS if "own rate" not in name)

Outcome = dict[str, Any]
"""SRCC and PLCC of a method on a split, and the setting it took."""
SAME = ("images", "encoder", "steps", "size", "crop")  # options besides the data that a resumed run must share


@dataclass(frozen=True)
class Settings:
    """What is chosen for each method on held-out training contents."""

    learning_rate: float = 3e-3
    dropout: float = 0.0


GRID = [Settings(rate, dropout) for rate, dropout in product((3e-4, 3e-3), (0.0, 0.5))]


class Projection(nn.Module):
    """Standardised features (B, F) to the unit sphere (B, D); `reading` gives the ranks of L1 and MSE."""

    def __init__(self, features: int, dropout: float):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(features, WIDTH)
        self.reading = LinearReading(WIDTH)

    def forward(self, features_BF: Tensor) -> Tensor:
        return F.normalize(self.linear(self.dropout(features_BF)), dim=-1)


def crop_rows(rows: Sequence[RatedImage], arguments: argparse.Namespace) -> Tensor:
    """Features (N, V, F) of five crops of each picture, from the cache where they are there."""
    encoder = load_crop_encoder(arguments.encoder, ONE_SIZE, arguments.crop)
    images, before = [row.image for row in rows], ViewSettings(size=arguments.size)
    return torch.from_numpy(crop_features(images, encoder, before=before, cache=arguments.cache))


def rated(arguments: argparse.Namespace) -> list[RatedImage]:
    """The manifest, or photographs distorted and labelled here."""
    if arguments.manifest is not None:
        return read_manifest(arguments.manifest, scale=arguments.scale)
    settings = DatasetSettings(
        str(arguments.photos), train_images=arguments.images, val_images=1, test_images=1,
        shares={"val": 0.0, "test": 0.0},
    )  # fmt: skip  # no split can be empty, and only the first is used
    return read_manifest(build_dataset(arguments.output / "labelled", settings).train, check_images=False)


def train(
    loss_of: Callable[[Tensor, Tensor], Tensor],
    trained: Sequence[tuple[nn.Module, float | None]],
    model: Projection,
    x_NVF: Tensor,
    ranks_N: Tensor,
    settings: Settings,
    steps: int,
    twice: bool,
    generator: torch.Generator,
) -> dict[str, list[float]]:
    """AdamW (weight decay 2e-3), a tenth of the steps of warm-up, then cosine; loss and gradient norm of each step."""
    modules, own_rates = zip((model, None), *trained, strict=True)
    parameters = [p for module in modules for p in module.parameters()]
    rates = [settings.learning_rate if rate is None else rate for rate in own_rates]
    optimizer = torch.optim.AdamW([{"params": list(module.parameters())} for module in modules], weight_decay=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=steps, pct_start=0.1)
    history: dict[str, list[float]] = {"loss": [], "gradient_norm": []}
    model.train()
    count, n_views = x_NVF.shape[:2]
    images = min(count, BATCH // 2 if twice else BATCH)
    for _ in range(steps):
        chosen_B = torch.randperm(count, generator=generator)[:images]
        view_B = torch.randint(n_views, (images,), generator=generator)
        if twice:
            other_B = (view_B + torch.randint(1, max(2, n_views), (images,), generator=generator)) % n_views
            chosen_B, view_B = chosen_B.repeat(2), torch.cat([view_B, other_B])
        loss = loss_of(model(x_NVF[chosen_B, view_B]), ranks_N[chosen_B])
        optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(parameters, float("inf"))
        optimizer.step()
        schedule.step()
        history["loss"].append(loss.item())
        history["gradient_norm"].append(norm.item())
    model.eval()
    return history


def objective(
    method: Method, model: Projection, ranks_N: Tensor, generator: torch.Generator
) -> tuple[Callable[[Tensor, Tensor], Tensor], list[tuple[nn.Module, float | None]]]:
    """The loss of a method on (embeddings, ranks), and what else it trains, each at its own rate or the shared one."""
    model.reading.standardise(ranks_N)
    terms: list[Callable[[Tensor, Tensor], Tensor]] = []
    trained: list[tuple[nn.Module, float | None]] = []
    if method.loss is not None:
        terms.append(loss_function(LossSettings(method.loss), reading=model.reading))
    if method.centre is not None:
        points = ReferencePoints(ranks_N, WIDTH, generator=generator)
        terms.append(partial(points, reduction=method.centre))
        trained.append((points, method.points_rate))
    return lambda z_BD, ranks_B: torch.stack([term(z_BD, ranks_B) for term in terms]).sum(), trained


def fit(method: str, x_NVF: Tensor, ranks_N: Tensor, settings: Settings, steps: int, seed: int) -> Projection:
    """A projection trained with a method on standardised features (N, V, F) and ranks (N,)."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = Projection(x_NVF.shape[-1], settings.dropout)
    loss_of, trained = objective(TRAINED[method], model, ranks_N, generator)
    twice = TRAINED[method].loss in PAIRED
    train(loss_of, trained, model, x_NVF, ranks_N, settings, steps, twice, generator)
    return model


@torch.no_grad()
def embed(model: Projection, x_NVF: Tensor) -> Tensor:
    """Embeddings (N, D): the mean over the views, on the unit sphere again."""
    return F.normalize(model(x_NVF).mean(dim=1), dim=1)


@torch.no_grad()
def predict(method: str, model: Projection, known: tuple[Tensor, Tensor], x_NVF: Tensor) -> Tensor:
    """Ranks (N,) of features (N, V, F), by the training items' embeddings or by the reading of a regression."""
    if TRAINED[method].loss in REGRESSIONS:
        return model.reading(model(x_NVF))[..., 0].mean(dim=1)
    x_known_NVF, ranks_N = known
    return RankIndex(embed(model, x_known_NVF), ranks_N, "torch").predict(
        embed(model, x_NVF), min(NEIGHBOURS, len(ranks_N))
    )


def standardised(x_NVF: Tensor, train_N: Tensor) -> Tensor:
    """Features with mean 0 and deviation 1 over the training images' views."""
    train_nF = x_NVF[train_N].flatten(0, 1)
    return (x_NVF - train_nF.mean(dim=0)) / train_nF.std(dim=0).clamp_min(1e-6)


def score(
    method: str, setting: Settings | float | None, x_NVF: Tensor, ranks_N: Tensor, train_N: Tensor, test_N: Tensor,
    steps: int, seed: int,
) -> np.ndarray:  # fmt: skip
    """Ranks of the test images after training on the training images with one setting."""
    x_NVF = standardised(x_NVF, train_N)
    if method == RAW:
        index = RankIndex(x_NVF[train_N].mean(dim=1), ranks_N[train_N], "torch")
        return index.predict(x_NVF[test_N].mean(dim=1), NEIGHBOURS).numpy()
    if method == RIDGE:
        from sklearn.linear_model import Ridge

        model = Ridge(setting).fit(x_NVF[train_N].mean(dim=1).numpy(), ranks_N[train_N].numpy())
        return model.predict(x_NVF[test_N].mean(dim=1).numpy())
    assert isinstance(setting, Settings)
    projection = fit(method, x_NVF[train_N], ranks_N[train_N], setting, steps, seed)
    return predict(method, projection, (x_NVF[train_N], ranks_N[train_N]), x_NVF[test_N]).numpy()


def choose(
    method: str, x_NVF: Tensor, ranks_N: Tensor, parts: Sequence[tuple[Tensor, Tensor]], steps: int, seed: int
) -> Settings | float | None:
    """The setting with the best mean SRCC over inner splits of the training contents."""
    candidates: Sequence[Settings | float | None] = {RAW: [None], RIDGE: PENALTIES}.get(method, GRID)
    if len(candidates) == 1:
        return candidates[0]

    def mean_srcc(setting: Settings | float | None) -> float:
        return statistics.fmean(
            metrics.srcc(score(method, setting, x_NVF, ranks_N, inner, held, steps, seed), ranks_N[held].numpy())
            for inner, held in parts
        )

    return max(candidates, key=mean_srcc)


def split(rows: Sequence[RatedImage], place: dict[str, int], share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Places of the images of two parts that share no content; `share` of the contents go to the second."""
    first, second = split_by_content(rows, [1 - share, share], seed=seed)
    return torch.tensor([place[row.id] for row in first]), torch.tensor([place[row.id] for row in second])


def experiment(rows: Sequence[RatedImage], x_NVF: Tensor, arguments: argparse.Namespace) -> dict[str, list[Outcome]]:
    """What each method gave on each split, from results.json where it is there already."""
    place = {row.id: index for index, row in enumerate(rows)}
    ranks_N = torch.tensor([25 * (row.mos - 1) for row in rows])
    described = {name: str(getattr(arguments, name)) for name in ("manifest", "photos", "scale", *SAME)}
    path = arguments.output / "results.json"
    results = resumed(path, described, arguments.methods)
    for seed in range(arguments.splits):
        train_N, test_N = split(rows, place, TEST_SHARE, seed)
        train_rows = [rows[index] for index in train_N.tolist()]
        parts = [split(train_rows, place, INNER_SHARE, 1000 * (seed + 1) + inner) for inner in range(INNER_SPLITS)]
        for method, outcomes in results.items():
            if len(outcomes) > seed:
                continue
            setting = choose(method, x_NVF, ranks_N, parts, arguments.steps, seed)
            predicted_n = score(method, setting, x_NVF, ranks_N, train_N, test_N, arguments.steps, seed)
            known_n = ranks_N[test_N].numpy()
            chosen = asdict(setting) if isinstance(setting, Settings) else setting
            measured = {"srcc": metrics.srcc(predicted_n, known_n), "plcc": metrics.plcc(predicted_n, known_n)}
            outcomes.append({**measured, "setting": chosen})
            print(f"split {seed}, {method}: SRCC {measured['srcc']:.3f}, {setting}", flush=True)
            write_json({"settings": described, "results": results}, path)
    return results


def resumed(path: Path, described: dict[str, str], methods: Sequence[str]) -> dict[str, list[Outcome]]:
    """The results so far. Raises SettingsError where those in the file are of other options."""
    if not path.is_file():
        return {method: [] for method in methods}
    former = json.loads(path.read_text(encoding="utf-8"))
    if former.get("settings") != described:
        raise SettingsError(f"{path} holds results of other options; choose another --output.")
    return {method: former["results"].get(method, []) for method in methods}


def table(results: dict[str, list[Outcome]], splits: int) -> str:
    """Markdown: the median of SRCC, then means over the splits, and differences from ConOrd, with their intervals."""
    values = {
        name: {method: [outcome[name] for outcome in outcomes[:splits]] for method, outcomes in results.items()}
        for name in ("srcc", "plcc")
    }
    srcc = values["srcc"]
    lines = [
        f"| method | SRCC, median | SRCC, mean | PLCC, mean | SRCC less that of {BASELINE} |",
        "|---|---|---|---|---|",
    ]
    for method in results:
        cells = [method, f"{statistics.median(srcc[method]):.3f}"]
        cells += [with_interval(over_splits(values[name][method], TEST_SHARE)) for name in ("srcc", "plcc")]
        if BASELINE in srcc and method != BASELINE:
            differences = [own - other for own, other in zip(srcc[method], srcc[BASELINE], strict=True)]
            cells.append(with_interval(over_splits(differences, TEST_SHARE), "+"))
        else:
            cells.append("")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def with_interval(measure: Measure, sign: str = "") -> str:
    """ "0.912 [0.880, 0.944]", or the value alone where there is no interval."""
    if measure.value is None:
        return "undefined"
    ends = "" if measure.low is None else f" [{measure.low:{sign}.3f}, {measure.high:{sign}.3f}]"
    return f"{measure.value:{sign}.3f}{ends}"


def diagnostics(rows: Sequence[RatedImage], x_NVF: Tensor, arguments: argparse.Namespace) -> None:
    """Similarity matrices and t-SNE of the first split's test images, and the dynamics of all thirteen weightings."""
    place = {row.id: index for index, row in enumerate(rows)}
    ranks_N = torch.tensor([25 * (row.mos - 1) for row in rows])
    train_N, test_N = split(rows, place, TEST_SHARE, seed=0)
    x_NVF = standardised(x_NVF, train_N)
    heads = {}
    for method in ("SupCon", "Rank-N-Contrast", BASELINE):
        model = fit(method, x_NVF[train_N], ranks_N[train_N], Settings(), arguments.steps, seed=0)
        heads[method] = (embed(model, x_NVF[test_N]).numpy(), ranks_N[test_N].numpy())
    similarity_matrices(heads, arguments.output / "similarity.png", title="Test images in the order of their MOS")
    tsne(heads, arguments.output / "tsne.png", title="t-SNE of test images, coloured by MOS")
    runs = {}
    for name in WEIGHTING_NAMES:
        torch.manual_seed(0)
        model, weighting = Projection(x_NVF.shape[-1], 0.0), LearnableWeighting() if name == "X" else name
        trained = [(weighting, None)] if isinstance(weighting, LearnableWeighting) else []
        loss = partial(conord_loss, weighting=weighting)
        generator = torch.Generator().manual_seed(0)
        runs[name] = train(
            loss, trained, model, x_NVF[train_N], ranks_N[train_N], Settings(), arguments.steps, False, generator
        )
    weighting_curves(runs, arguments.output / "weightings.png", title="ConOrd's weightings")


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Options of the experiment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--manifest", type=Path, help="rated images, see mriqa.manifest")
    source.add_argument("--photos", type=Path, help="or photographs to distort and label")
    parser.add_argument("--images", type=int, default=600, help="pictures to make of --photos (default 600)")
    parser.add_argument("--scale", help="scale of the manifest's scores, such as 0:100 (default 1:5)")
    parser.add_argument("--output", type=Path, default=Path("outputs/conord_features"), help="folder to write to")
    parser.add_argument("--cache", type=Path, default=Path("outputs/features"), help="folder of the features")
    parser.add_argument("--encoder", default="lite0_quality", help="of mriqa.features (default lite0_quality)")
    parser.add_argument("--splits", type=int, default=10, help="content-disjoint splits, 80%% of contents to train on")
    parser.add_argument("--steps", type=int, default=200, help="updates of each training run")
    parser.add_argument("--size", type=int, help="images are resized to this square first (default: as they are)")
    parser.add_argument("--crop", type=int, default=384, help="side of the five crops")
    parser.add_argument(
        "--methods", nargs="+", choices=METHODS, default=list(COMPARED), metavar="METHOD",
        help="rows of the table, as in Tables 5 (losses), 6 (parts of the loss) and 15 (centre loss beside others): "
        + "; ".join(METHODS),
    )  # fmt: skip
    parser.add_argument("--no_plots", action="store_true", help="leave out the plots of Fig. 4, 5, 13 and 15")
    return parser.parse_args(argv)


def run(arguments: argparse.Namespace) -> None:
    """Run the experiment and write its files. Raises a UserError for a manifest or a picture that won't do."""
    torch.set_num_threads(1)  # two stall on matrices this small
    rows = rated(arguments)
    x_NVF = crop_rows(rows, arguments)
    results = experiment(rows, x_NVF, arguments)
    text = table(results, arguments.splits)
    write_text(text, arguments.output / "table.md")
    print(text)
    if not arguments.no_plots:
        diagnostics(rows, x_NVF, arguments)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line entry: 0 when done, 2 with one sentence on stderr for a manifest or a picture that won't do."""
    arguments = parse_arguments(argv)
    return exit_code(lambda: run(arguments))


if __name__ == "__main__":
    sys.exit(main())
