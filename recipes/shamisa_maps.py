"""What do frozen features of distorted pictures look like? The t-SNE and UMAP figures of SHAMISA (arXiv 2603.13669).

    python recipes/shamisa_maps.py --kind tsne --encoders shamisa:outputs/shamisa/model --manifest kadid.jsonl
    python recipes/shamisa_maps.py --kind umap --encoders shamisa:outputs/shamisa/model lite0 --images kadis/ref_imgs

tsne (figures 3, 7 and 8): each picture of a manifest that names distortions, its features averaged over five crops at
two sizes. Writes tsne_families.png, tsne_levels.png (where the manifest has levels) and tsne_FAMILY.png for each
family. umap (figure 4): pristine pictures in 35 versions, five strengths of Gaussian blur, five of white noise, and
both; one centre crop each at full size, as the paper shows its own. Writes umap.png. Needs the extra mriqa[plots].
Both write the places as places.json.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mriqa.distortions import DISTORTIONS
from mriqa.distortions.blur import gaussian_blur
from mriqa.distortions.noise import white_noise
from mriqa.errors import SettingsError
from mriqa.features.crop_features import CROP, CropEncoder, crop_features, load_crop_encoder, load_single_crop_encoder
from mriqa.files import write_json
from mriqa.images import load_image
from mriqa.manifest import read_manifest
from mriqa.manifest.formats import stream_records
from mriqa.pretrain.feature_maps import (
    BLUR_SIGMAS,
    NOISE_VARIANCES,
    blur_noise_grid,
    plot_blur_noise,
    plot_labelled,
    tsne_map,
    umap_map,
)
from mriqa.pretrain.tiny_batches import find_pictures, pixels
from mriqa.progress import with_progress
from mriqa.training.launching import exit_code, parse
from mriqa.views import ViewSettings, enlarged, views

KINDS = ("tsne", "umap")


@dataclass
class MapOptions:
    """Options of the maps."""

    encoders: list[str] = field(metadata={"help": "Of mriqa.features; one panel each."})
    kind: str = field(default="tsne", metadata={"help": "tsne or umap."})
    manifest: str | None = field(default=None, metadata={"help": "For tsne: rated pictures with their distortion."})
    images: list[str] = field(
        default_factory=list, metadata={"help": "For umap: pristine pictures; folders, manifests, files, or wheels."}
    )
    pictures: int = field(default=1000, metadata={"help": "For umap: how many of them, by the seed."})
    crop: int = field(default=CROP, metadata={"help": "Side of the crops in pixels."})
    seed: int = field(default=123, metadata={"help": "Of the choice of pictures, and of the noise."})
    output: str = field(default="outputs/shamisa_maps", metadata={"help": "Folder to write to."})
    cache: str = field(default="outputs/features", metadata={"help": "Folder of the features of tsne."})
    device: str | None = field(default=None, metadata={"help": "Of the encoders (else the accelerator or the CPU)."})

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise SettingsError(f"--kind is one of {', '.join(KINDS)}, not {self.kind!r}.")
        if self.kind == "tsne" and self.manifest is None:
            raise SettingsError("--kind tsne needs a --manifest.")
        if self.kind == "umap" and not self.images:
            raise SettingsError("--kind umap needs pristine --images.")
        if self.pictures < 1:
            raise SettingsError(f"--pictures must be at least 1, not {self.pictures}.")


def tsne(options: MapOptions) -> None:
    """The maps of a manifest. Raises SettingsError where it names no distortions."""
    assert options.manifest is not None  # checked above
    rows = read_manifest(options.manifest)
    labels = {}
    for record in stream_records(Path(options.manifest)):
        labels[str(record.row.get("id") or record.row.get("image"))] = record.row
    chosen = [row for row in rows if labels.get(row.id, {}).get("distortion")]
    if not chosen:
        raise SettingsError(f"No row of {options.manifest} names its distortion.")
    names = [str(labels[row.id]["distortion"]) for row in chosen]
    families = [DISTORTIONS[name].category if name in DISTORTIONS else name for name in names]
    levels = [str(labels[row.id].get("level")) for row in chosen]
    places = {}
    for name in options.encoders:
        encoder = load_crop_encoder(name, crop=options.crop, device=options.device)
        features_NVF = crop_features([row.image for row in chosen], encoder, cache=options.cache)
        places[name] = tsne_map(features_NVF.mean(axis=1))
    folder = Path(options.output)
    plot_labelled({name: (own, families) for name, own in places.items()}, folder / "tsne_families.png")
    if set(levels) != {"None"}:
        plot_labelled({name: (own, levels) for name, own in places.items()}, folder / "tsne_levels.png")
    for family in sorted(set(families)):
        inside = [place for place, own in enumerate(families) if own == family]
        panels = {name: (own[inside], [names[place] for place in inside]) for name, own in places.items()}
        plot_labelled(panels, folder / f"tsne_{family}.png")
    keep(options, places, {"distortion": names, "level": levels, "id": [row.id for row in chosen]})


def umap(options: MapOptions) -> None:
    """The maps of blur and noise."""
    pool = find_pictures(options.images)
    drawn = np.random.default_rng(options.seed).permutation(len(pool))[: options.pictures]
    levels = blur_noise_grid()
    places = {}
    for name in options.encoders:
        encoder = CropEncoder(load_single_crop_encoder(name, options.device), places=1)
        parts = []
        for place in with_progress(drawn, len(drawn), f"Features ({name})"):
            picture = enlarged(load_image(pool[place]), options.crop)
            (crop,) = views(picture, ViewSettings(crop=options.crop))
            parts.append(encoder.rows(blurred_and_noisy(crop, levels, options.seed + int(place)))[:, 0])
        places[name] = umap_map(np.concatenate(parts))
    panels = {name: (own, levels * len(drawn)) for name, own in places.items()}
    plot_blur_noise(panels, Path(options.output) / "umap.png")
    keep(options, places, {"pictures": [str(pool[place]) for place in drawn], "levels": levels})


def blurred_and_noisy(picture: Image.Image, levels: Sequence[tuple[int, int]], seed: int) -> list[Image.Image]:
    """A picture's versions: first blurred, then with noise, each to its level, 0 being none."""
    sigma_B = torch.tensor([0.0, *BLUR_SIGMAS])[[blur for blur, _ in levels]]
    variance_B = torch.tensor([0.0, *NOISE_VARIANCES])[[noise for _, noise in levels]]
    images = pixels(picture).expand(len(levels), -1, -1, -1)
    images = white_noise(gaussian_blur(images, sigma_B), variance_B, torch.Generator().manual_seed(seed))
    bytes_BHWC = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return [Image.fromarray(each) for each in bytes_BHWC]


def keep(options: MapOptions, places: dict[str, np.ndarray], labels: dict[str, list]) -> None:
    """Write the places, and what is there."""
    folder = Path(options.output)
    write_json({"places": places, **labels, "settings": asdict(options)}, folder / "places.json")
    print(f"Wrote {folder}.")


def parse_arguments(argv: Sequence[str] | None = None) -> MapOptions:
    """Options from the command line and a YAML file. Raises SettingsError for what cannot be right."""
    (options,) = parse((MapOptions,), __doc__, argv)
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Command line entry: 0 when done, 2 with one sentence on stderr for settings or data that won't do."""

    def run() -> None:
        options = parse_arguments(argv)
        (tsne if options.kind == "tsne" else umap)(options)

    return exit_code(run)


if __name__ == "__main__":
    sys.exit(main())
