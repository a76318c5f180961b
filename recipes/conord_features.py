"""Which ordinal loss scores best on frozen features? Ten content-disjoint splits of any manifest.

    python recipes/conord_features.py --manifest ../shared/data/hevc_lab_mos/manifest.jsonl
    python recipes/conord_features.py --manifest my.jsonl --scale 0:100 --size 512 --splits 3

Features come from the frozen EfficientNet-Lite0 of the embedded model: mean and spread of its cell statistics over each
view, five crops an image. On them a projection to the unit sphere trains with each loss, and an image's score is the
mean MOS of its ten nearest training images (ConOrd, eq. 10). L1 regression and ridge are there for comparison. Learning
rate, dropout and ridge's penalty are chosen for each method and split alike, on held-out training contents; the test
contents are seen once. Ranks are MOS on a scale 0..100. Writes results.json, results.md and the diagnostic plots.

Legend: N images, V views of each, F features of a view, D embedding width, B batch.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mriqa.datasets.splits import split_by_content
from mriqa.embedded.lite_tower import LiteTower, LiteTowerConfig
from mriqa.embedded.parallel import map_threads
from mriqa.eval import metrics, write_json
from mriqa.eval.head_plots import similarity_matrices, tsne, weighting_curves
from mriqa.files import replacing, write_text
from mriqa.heads import (
    WEIGHTING_NAMES,
    LearnableWeighting,
    RankIndex,
    ReferencePoints,
    conord_loss,
    rnc_loss,
    supcon_loss,
)
from mriqa.images import load_image
from mriqa.manifest import RatedImage, read_manifest
from mriqa.training.launching import exit_code
from mriqa.views import ViewSettings, views

WIDTH, BATCH, NEIGHBOURS = 64, 32, 10
INNER_SPLITS = 2
PENALTIES = (1.0, 10.0, 100.0, 1000.0, 10_000.0)
RIDGE, RAW = "ridge", "nearest neighbours, untrained"
VIEWS_TWICE = ("Rank-N-Contrast", "SupCon")  # these losses are made for batches that hold two views of an image
METHODS = ("ConOrd + centre", "ConOrd + centre (batch mean)", "ConOrd", *VIEWS_TWICE, "L1 regression", RIDGE, RAW)


@dataclass(frozen=True)
class Settings:
    """What is chosen for each method on held-out training contents."""

    learning_rate: float = 3e-3
    dropout: float = 0.0


GRID = [Settings(rate, dropout) for rate, dropout in product((3e-4, 3e-3), (0.0, 0.5))]


class Projection(nn.Module):
    """Standardised features (B, F) to the unit sphere (B, D); `reading` is L1's linear score of an embedding."""

    def __init__(self, features: int, dropout: float):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(features, WIDTH)
        self.reading = nn.Linear(WIDTH, 1)

    def forward(self, features_BF: Tensor) -> Tensor:
        return F.normalize(self.linear(self.dropout(features_BF)), dim=-1)


def lite_features(rows: Sequence[RatedImage], settings: ViewSettings, workers: int) -> Tensor:
    """Mean and standard deviation over the cells of each view's statistics (N, V, F = 544)."""
    tower = LiteTower(LiteTowerConfig(grid=4)).eval()
    tower.load_imagenet_weights()

    @torch.no_grad()
    def features_of(row: RatedImage) -> Tensor:
        crops = [torch.from_numpy(np.array(view)) for view in views(load_image(row.image), settings)]
        pixels_VCHW = (torch.stack(crops).permute(0, 3, 1, 2).float() - 127) / 128
        cells_VCn = tower.statistics(pixels_VCHW).flatten(2)
        return torch.cat([cells_VCn.mean(dim=2), cells_VCn.std(dim=2)], dim=1)

    return torch.stack(map_threads(features_of, rows, "features", "picture", workers))


def cached_features(rows: Sequence[RatedImage], settings: ViewSettings, workers: int, folder: Path) -> Tensor:
    """`lite_features`, kept in a file of `folder` that goes by the images and the views."""
    files = [[str(row.image), Path(row.image).stat().st_size] for row in rows]
    key = hashlib.sha256(json.dumps([files, asdict(settings)]).encode()).hexdigest()[:16]
    path = folder / f"features-{key}.safetensors"
    if not path.is_file():
        with replacing(path) as temporary:
            save_file({"features": lite_features(rows, settings, workers)}, temporary)
    return load_file(path)["features"]


def train(
    loss_of: Callable[[Tensor, Tensor], Tensor],
    trained: Sequence[nn.Module],
    model: Projection,
    x_NVF: Tensor,
    ranks_N: Tensor,
    settings: Settings,
    steps: int,
    twice: bool,
    generator: torch.Generator,
) -> dict[str, list[float]]:
    """AdamW (weight decay 2e-3), a tenth of the steps of warm-up, then cosine; loss and gradient norm of each step."""
    parameters = [p for module in (model, *trained) for p in module.parameters()]
    optimizer = torch.optim.AdamW(parameters, settings.learning_rate, weight_decay=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.learning_rate, total_steps=steps, pct_start=0.1)
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
    method: str, model: Projection, ranks_N: Tensor, generator: torch.Generator
) -> tuple[Callable[[Tensor, Tensor], Tensor], list[nn.Module]]:
    """The loss of a method on (embeddings, ranks), and what else it trains."""
    if method == "L1 regression":
        return lambda z, r: F.l1_loss(50 + 50 * model.reading(z)[:, 0], r), []
    if method == "Rank-N-Contrast":
        return rnc_loss, []
    if method == "SupCon":
        return partial(supcon_loss, bin_width=1.0), []
    if method == "ConOrd":
        return conord_loss, []
    points = ReferencePoints(ranks_N, WIDTH, generator=generator)
    reduction = "mean" if method.endswith("(batch mean)") else "sum"
    return lambda z, r: conord_loss(z, r) + points(z, r, reduction), [points]


def fit(method: str, x_NVF: Tensor, ranks_N: Tensor, settings: Settings, steps: int, seed: int) -> Projection:
    """A projection trained with a method on standardised features (N, V, F) and ranks (N,)."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = Projection(x_NVF.shape[-1], settings.dropout)
    loss_of, trained = objective(method, model, ranks_N, generator)
    train(loss_of, trained, model, x_NVF, ranks_N, settings, steps, method in VIEWS_TWICE, generator)
    return model


@torch.no_grad()
def embed(model: Projection, x_NVF: Tensor) -> Tensor:
    """Embeddings (N, D): the mean over the views, on the unit sphere again."""
    return F.normalize(model(x_NVF).mean(dim=1), dim=1)


@torch.no_grad()
def predict(method: str, model: Projection, known: tuple[Tensor, Tensor], x_NVF: Tensor) -> Tensor:
    """Ranks (N,) of features (N, V, F), by the training items' embeddings or by L1's reading."""
    if method == "L1 regression":
        return (50 + 50 * model.reading(model(x_NVF))[..., 0]).mean(dim=1)
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


def experiment(
    rows: Sequence[RatedImage], x_NVF: Tensor, arguments: argparse.Namespace
) -> dict[str, dict[str, list[float] | list[str]]]:
    """SRCC and PLCC of each method on each split, and the settings it took."""
    place = {row.id: index for index, row in enumerate(rows)}
    ranks_N = torch.tensor([25 * (row.mos - 1) for row in rows])
    results: dict[str, dict[str, list]] = {m: {"srcc": [], "plcc": [], "settings": []} for m in arguments.methods}
    for seed in range(arguments.splits):
        train_N, test_N = split(rows, place, 0.2, seed)
        train_rows = [rows[index] for index in train_N.tolist()]
        parts = [split(train_rows, place, 0.25, 1000 * (seed + 1) + inner) for inner in range(INNER_SPLITS)]
        for method, result in results.items():
            setting = choose(method, x_NVF, ranks_N, parts, arguments.steps, seed)
            predicted_n = score(method, setting, x_NVF, ranks_N, train_N, test_N, arguments.steps, seed)
            result["srcc"].append(metrics.srcc(predicted_n, ranks_N[test_N].numpy()))
            result["plcc"].append(metrics.plcc(predicted_n, ranks_N[test_N].numpy()))
            result["settings"].append(asdict(setting) if isinstance(setting, Settings) else setting)
            print(f"split {seed}, {method}: SRCC {result['srcc'][-1]:.3f}, {setting}", flush=True)
        write_json(results, arguments.output / "results.json")
    return results


def table(results: dict[str, dict[str, list]]) -> str:
    """Markdown: median, and mean ± standard deviation over the splits."""
    lines = ["| method | SRCC median | SRCC mean ± std | PLCC median | PLCC mean ± std |", "|---|---|---|---|---|"]
    for method, result in results.items():
        cells = [method]
        for key in ("srcc", "plcc"):
            values = result[key]
            spread = statistics.stdev(values) if len(values) > 1 else float("nan")
            cells += [f"{statistics.median(values):.3f}", f"{statistics.fmean(values):.3f} ± {spread:.3f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def diagnostics(rows: Sequence[RatedImage], x_NVF: Tensor, arguments: argparse.Namespace) -> None:
    """Similarity matrices and t-SNE of the first split's test images, and the dynamics of all thirteen weightings."""
    place = {row.id: index for index, row in enumerate(rows)}
    ranks_N = torch.tensor([25 * (row.mos - 1) for row in rows])
    train_N, test_N = split(rows, place, 0.2, seed=0)
    x_NVF = standardised(x_NVF, train_N)
    heads = {}
    for method in ("SupCon", "Rank-N-Contrast", "ConOrd + centre"):
        model = fit(method, x_NVF[train_N], ranks_N[train_N], Settings(), arguments.steps, seed=0)
        heads[method] = (embed(model, x_NVF[test_N]).numpy(), ranks_N[test_N].numpy())
    similarity_matrices(heads, arguments.output / "similarity.png", title="Test images in the order of their MOS")
    tsne(heads, arguments.output / "tsne.png", title="t-SNE of test images, coloured by MOS")
    runs = {}
    for name in WEIGHTING_NAMES:
        torch.manual_seed(0)
        model, weighting = Projection(x_NVF.shape[-1], 0.0), LearnableWeighting() if name == "X" else name
        trained = [weighting] if isinstance(weighting, LearnableWeighting) else []
        loss = partial(conord_loss, weighting=weighting)
        generator = torch.Generator().manual_seed(0)
        runs[name] = train(
            loss, trained, model, x_NVF[train_N], ranks_N[train_N], Settings(), arguments.steps, False, generator
        )
    weighting_curves(runs, arguments.output / "weightings.png", title="ConOrd's weightings")


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Options of the experiment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", type=Path, required=True, help="rated images, see mriqa.manifest")
    parser.add_argument("--scale", help="scale of the manifest's scores, such as 0:100 (default 1:5)")
    parser.add_argument("--output", type=Path, default=Path("outputs/conord_features"), help="folder to write to")
    parser.add_argument("--splits", type=int, default=10, help="content-disjoint splits, 80%% of contents to train on")
    parser.add_argument("--steps", type=int, default=200, help="updates of each training run")
    parser.add_argument("--size", type=int, default=672, help="images are resized to this square first")
    parser.add_argument("--crop", type=int, default=384, help="side of the five crops")
    parser.add_argument("--workers", type=int, default=2, help="pictures at a time while features are computed")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--no_plots", action="store_true", help="leave the diagnostic plots out")
    return parser.parse_args(argv)


def run(arguments: argparse.Namespace) -> None:
    """Run the experiment and write its files. Raises a UserError for a manifest or a picture that won't do."""
    torch.set_num_threads(1)  # two stall on matrices this small
    rows = read_manifest(arguments.manifest, scale=arguments.scale)
    settings = ViewSettings(size=arguments.size, crop=arguments.crop, count=5)
    x_NVF = cached_features(rows, settings, arguments.workers, arguments.output)
    results = experiment(rows, x_NVF, arguments)
    text = table(results)
    write_text(text, arguments.output / "results.md")
    print(text)
    if not arguments.no_plots:
        diagnostics(rows, x_NVF, arguments)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line entry: 0 when done, 2 with one sentence on stderr for a manifest or a picture that won't do."""
    arguments = parse_arguments(argv)
    return exit_code(lambda: run(arguments))


if __name__ == "__main__":
    sys.exit(main())
