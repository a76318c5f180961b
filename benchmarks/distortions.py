"""Distortions: images per second of every function and of random compositions, batched, one by one, and elsewhere.

    python benchmarks/distortions.py                       # 32 images of 224 px, one core and two; some minutes
    python benchmarks/distortions.py --quick               # 4 images of 64 px
    python benchmarks/distortions.py --device cuda         # on an accelerator
    python benchmarks/distortions.py --only jpeg compositions --threads 1 --json distortions.json

The claims, each at one core and at two:

- a batch through `distort` beside its images one by one, severities and seeds alike, for every distortion there is;
- the tiny-batches of pretraining beside the same chains of distortions, one image at a time;

and at one core, on CPUs, both beside the plain calls of scikit-image, SciPy, Pillow, NumPy, or OpenCV where it is
installed: one image at a time, floats (H, W, 3) in and out, as those libraries have them and laid out as they want
them, with ours' kernels and borders. `mean_difference` says how far the results are from ours; noise and places are
drawn anew and not compared. What no library has (colour shift, tone curves, copied patches, Otsu's criterion at many
levels) has no such claim, and in chains of plain calls is ours for one image.

Costs are milliseconds an image: processor time at one core, time by the clock elsewhere.

Legend: B images, H W pixels, C channels.
"""

from __future__ import annotations

import importlib.util
import io
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from skimage import color, data, filters, util
from timing import Claim, in_turn, machine, parser, write
from torch import Tensor

from mriqa.distortions import DISTORTIONS, distort
from mriqa.distortions.blur import disk_kernels, line_kernels
from mriqa.distortions.draws import ImageSeeds
from mriqa.pretrain.compositions import Compositions, CompositionSettings, draw_compositions
from mriqa.pretrain.distortion_types import DISTORTION_NAMES, distort_at
from mriqa.pretrain.trajectories import distorted_images

Plain = Callable[[np.ndarray, float], np.ndarray]
REFERENCES, GROUPS, LEVELS = 3, 4, 5
COMPOSITIONS = "compositions"
DRAWN_ANEW = ("motion_blur", "white_noise", "white_noise_color_component", "impulse_noise", "multiplicative_noise",
          "jitter", "color_block")  # fmt: skip


def crops(count: int, side: int) -> Tensor:
    """(B, 3, H, W) in [0, 1] out of a photograph that comes with scikit-image."""
    picture = torch.from_numpy(data.astronaut()).permute(2, 0, 1).float() / 255
    generator = torch.Generator().manual_seed(0)
    places = [torch.randint(length - side + 1, (count,), generator=generator).tolist() for length in (512, 512)]
    return torch.stack([picture[:, top : top + side, left : left + side] for top, left in zip(*places, strict=True)])


def _gaussian(image: np.ndarray, sigma: float) -> np.ndarray:
    return filters.gaussian(image, sigma, mode="nearest", truncate=2, channel_axis=-1)


def _filtered(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    return np.stack([ndimage.correlate(image[..., c], kernel, mode="nearest") for c in range(3)], axis=-1)


def _disk(radius: float) -> np.ndarray:
    return disk_kernels(torch.tensor([max(radius, 0.5)]))[0].numpy()


def _line(length: float) -> np.ndarray:
    return line_kernels(torch.tensor([length]), torch.tensor([0.7]))[0].numpy()


def _saturated_hsv(image: np.ndarray, factor: float) -> np.ndarray:
    hsv = color.rgb2hsv(image)
    hsv[..., 1] = np.clip(hsv[..., 1] * factor, 0, 1)
    return color.hsv2rgb(hsv)


def _saturated_lab(image: np.ndarray, factor: float) -> np.ndarray:
    lab = color.rgb2lab(image)
    lab[..., 1:] *= factor
    return np.clip(color.lab2rgb(lab), 0, 1)


def _diffused(image: np.ndarray, amount: float) -> np.ndarray:
    lab = color.rgb2lab(image)
    sigma = min(1.5 * amount + 2, 3.5 * amount)
    lab[..., 1:] = filters.gaussian(lab[..., 1:], sigma, mode="nearest", truncate=2, channel_axis=-1) * max(amount, 1)
    return np.clip(color.lab2rgb(lab), 0, 1)


def _sharpened(image: np.ndarray, amount: float) -> np.ndarray:
    lab = color.rgb2lab(image)
    blurred = filters.gaussian(lab[..., 0], 3, mode="nearest", truncate=2)
    lab[..., 0] += amount * (lab[..., 0] - blurred)
    return np.clip(color.lab2rgb(lab), 0, 1)


def _picture(image: np.ndarray) -> Image.Image:
    return Image.fromarray((image * 255).round().astype(np.uint8))


def _array(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("RGB"), dtype=np.float32) / 255


def _recoded(image: np.ndarray, **options: Any) -> np.ndarray:
    buffer = io.BytesIO()
    _picture(image).save(buffer, **options)
    return _array(Image.open(buffer))


def _jpeg(image: np.ndarray, quality: float) -> np.ndarray:
    return _recoded(image, format="JPEG", quality=max(round(quality), 1), subsampling="4:2:0")


def _jpeg2000(image: np.ndarray, ratio: float) -> np.ndarray:
    resolutions = min(6, 1 + int(np.log2(min(image.shape[:2]))))
    return _recoded(image, format="JPEG2000", quality_mode="rates", quality_layers=[ratio],
                    num_resolutions=resolutions, irreversible=True)  # fmt: skip


def _palette(image: np.ndarray, colours: float) -> np.ndarray:
    picture = _picture(image)
    palette = picture.quantize(max(round(colours), 1), method=Image.Quantize.FASTOCTREE)
    return _array(picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG))


def _noisy_ycbcr(image: np.ndarray, variance: float) -> np.ndarray:
    ycbcr = color.rgb2ycbcr(image)
    ycbcr += 255 * np.sqrt(variance) * np.random.default_rng().standard_normal(ycbcr.shape)
    return np.clip(color.ycbcr2rgb(ycbcr), 0, 1)


def _pixelated(image: np.ndarray, strength: float) -> np.ndarray:
    picture, scale = _picture(image), 0.95 - strength**0.6
    small = picture.resize(
        (round(picture.width * scale), round(picture.height * scale)), Image.Resampling.NEAREST
    )  # fmt: skip
    return _array(small.resize(picture.size, Image.Resampling.NEAREST))


def _jittered(image: np.ndarray, amount: float) -> np.ndarray:
    height, width, _ = image.shape
    rows, columns = np.mgrid[:height, :width]
    for _ in range(5):
        offsets = amount * np.random.default_rng().standard_normal((2, height, width))
        places = [rows + offsets[0], columns + offsets[1]]
        channels = [ndimage.map_coordinates(image[..., c], places, order=1, mode="nearest") for c in range(3)]
        image = np.stack(channels, axis=-1)
    return image


def _blocks(image: np.ndarray, count: float) -> np.ndarray:
    image, draw = image.copy(), np.random.default_rng()
    for _ in range(round(count)):
        top, left = (draw.integers(length - 32 + 1) for length in image.shape[:2])
        image[top : top + 32, left : left + 32] = draw.random(3)
    return image


def _opencv() -> dict[tuple[str, str], Plain]:
    """What OpenCV has, where it is installed; it is no dependency of ours."""
    if importlib.util.find_spec("cv2") is None:
        return {}
    import cv2

    cv2.setNumThreads(1)

    def gaussian(image: np.ndarray, sigma: float) -> np.ndarray:
        side = 2 * max(1, int(np.ceil(2 * sigma))) + 1
        return cv2.GaussianBlur(image, (side, side), sigma, borderType=cv2.BORDER_REPLICATE)

    def through(kernel_of: Callable[[float], np.ndarray]) -> Plain:
        return lambda image, value: cv2.filter2D(image, -1, kernel_of(value), borderType=cv2.BORDER_REPLICATE)

    return {
        ("gaussian_blur", "OpenCV"): gaussian,
        ("lens_blur", "OpenCV"): through(_disk),
        ("motion_blur", "OpenCV"): through(_line),
    }


def plain_calls() -> dict[tuple[str, str], Plain]:
    """(distortion, library) to what the library does to one image (H, W, 3), given the distortion's parameter."""
    return {
        ("gaussian_blur", "scikit-image"): _gaussian,
        ("lens_blur", "SciPy"): lambda image, radius: _filtered(image, _disk(radius)),
        ("motion_blur", "SciPy"): lambda image, length: _filtered(image, _line(length)),
        ("color_diffusion", "scikit-image"): _diffused,
        ("color_saturation_hsv", "scikit-image"): _saturated_hsv,
        ("color_saturation_lab", "scikit-image"): _saturated_lab,
        ("color_quantization", "Pillow"): _palette,
        ("jpeg", "Pillow"): _jpeg,
        ("jpeg2000", "Pillow"): _jpeg2000,
        ("white_noise", "scikit-image"): lambda image, variance: util.random_noise(image, "gaussian", var=variance),
        ("white_noise_color_component", "scikit-image"): _noisy_ycbcr,
        ("impulse_noise", "scikit-image"): lambda image, density: util.random_noise(image, "s&p", amount=density),
        ("multiplicative_noise", "scikit-image"): lambda image, variance: util.random_noise(
            image, "speckle", var=variance
        ),
        ("mean_shift", "NumPy"): lambda image, shift: np.clip(image + np.float32(shift), 0, 1),
        ("nonlinear_contrast", "NumPy"): lambda image, slope: np.clip(
            np.float32(0.5) + np.float32(2 * slope) * (image - np.float32(0.5)), 0, 1
        ),
        ("high_sharpen", "scikit-image"): _sharpened,
        ("pixelate", "Pillow"): _pixelated,
        ("jitter", "SciPy"): _jittered,
        ("color_block", "NumPy"): _blocks,
        **_opencv(),
    }


class Clock:
    """Milliseconds an image of some work, in so many threads, on a device."""

    def __init__(self, threads: int, device: str):
        self.threads, self.device = threads, device
        by_process = threads == 1 and device == "cpu"  # whatever else the machine does
        self.now = time.process_time if by_process else time.perf_counter

    def measure(self, work: Callable[[], Any], images: int) -> list[float]:
        torch.set_num_threads(self.threads)
        start = self.now()
        work()
        if self.device != "cpu":
            torch.accelerator.synchronize()
        return [1e3 * (self.now() - start) / images]

    def claim(
        self, name: str, ours: Callable[[], Any], baseline: Callable[[], Any], baseline_name: str, images: int,
        rounds: int, **settings: Any,
    ) -> Claim:  # fmt: skip
        """Both sides in turn, after a warm-up."""
        for work in (ours, baseline):
            self.measure(work, images)
        own, other = in_turn(
            lambda: self.measure(ours, images), lambda: self.measure(baseline, images), rounds
        )  # fmt: skip
        speeds = {"images": images, "images_per_second": 1e3 / own, "baseline_images_per_second": 1e3 / other}
        return Claim(name, own, other, baseline_name, "ms", {**speeds, **settings, **machine(), "device": self.device})


def one_by_one(images: Tensor, name: str, severity_B: Tensor, seeds: Sequence[int]) -> Tensor:
    """`distort`, one image at a time."""
    return torch.cat([
        distort(images[place : place + 1], name, severity_B[place], torch.Generator(images.device).manual_seed(seed))
        for place, seed in enumerate(seeds)
    ])  # fmt: skip


def chains(references: Tensor, compositions: Compositions) -> Tensor:
    """What `distorted_images` makes, every function on one image at a time from the reference on."""
    images = []
    levels = compositions.severity_CLM.shape[1]
    for reference in range(len(references)):
        for group, count in enumerate(compositions.counts.tolist()):
            for level in range(levels):
                image = references[reference : reference + 1]
                for place in range(count):
                    name = DISTORTION_NAMES[int(compositions.names_CM[group, place])]
                    seeds = ImageSeeds([int(compositions.seeds_RCM[reference, group, place])], image.device)
                    severity = compositions.severity_CLM[group, level, place][None].to(image.device)
                    image = distort_at(image, name, severity, seeds)
                images.append(image)
    return torch.cat(images)


def plain_chains(references: Tensor, compositions: Compositions, plain: dict[str, Plain]) -> list[np.ndarray]:
    """As `chains`, by plain calls where there are some."""
    images = []
    arrays = [image.permute(1, 2, 0).contiguous().numpy() for image in references]
    severity_CLM = 0.2 + 0.8 * compositions.severity_CLM
    for image in arrays:
        for names_M, severity_LM in zip(compositions.names_CM.tolist(), severity_CLM):
            for severity_M in severity_LM:
                made = image
                for name, severity in zip((DISTORTION_NAMES[each] for each in names_M if each >= 0), severity_M):
                    if name in plain:
                        made = plain[name](made, float(DISTORTIONS[name].parameter(severity)))
                    else:
                        own = torch.from_numpy(made).permute(2, 0, 1)[None].float().clamp(0, 1)
                        made = distort(own, name, severity)[0].permute(1, 2, 0).contiguous().numpy()
                images.append(made)
    return images


def of_compositions(clock: Clock, side: int, count: int, rounds: int, plain: dict[str, Plain]) -> list[Claim]:
    """Tiny-batches of three references, four compositions and five levels."""
    generator = torch.Generator().manual_seed(0)
    drawn = [draw_compositions(CompositionSettings(), REFERENCES, generator) for _ in range(count)]
    references = crops(REFERENCES, side).to(clock.device)
    differences = [
        (distorted_images(references, each).flatten(0, 2) - chains(references, each)).abs().mean() for each in drawn
    ]
    images = count * REFERENCES * GROUPS * LEVELS
    settings = {"pixels": side, "tiny_batches": count}

    def ours() -> list[Tensor]:
        return [distorted_images(references, each) for each in drawn]

    def claim(name: str, baseline: Callable[[], Any], beside: str, **more: Any) -> Claim:
        return clock.claim(
            f"distortions/{COMPOSITIONS}/{name}", ours, baseline, beside, images, rounds, **settings, **more
        )

    claims = [
        claim(
            f"{clock.threads} threads",
            lambda: [chains(references, each) for each in drawn],
            "the functions one image at a time",
            mean_difference=float(torch.stack(differences).max()),
        )
    ]
    if clock.threads == 1 and clock.device == "cpu":
        beside = "plain calls one image at a time, ours where there is none"
        claims.append(claim("plain", lambda: [plain_chains(references, each, plain) for each in drawn], beside))
    return claims


def of_function(name: str, clock: Clock, images: Tensor, plain: dict[str, Plain], rounds: int) -> list[Claim]:
    """A batch beside its images one by one, and beside the plain calls at one core."""
    count = len(images)
    generator = torch.Generator().manual_seed(0)
    severity_B = (0.2 + 0.8 * torch.rand(count, generator=generator)).to(clock.device)
    images = images.to(clock.device)
    seeds = list(range(count))

    def ours() -> Tensor:
        return distort(images, name, severity_B, ImageSeeds(seeds, clock.device))

    alone = one_by_one(images, name, severity_B, seeds)
    settings: dict[str, Any] = {"pixels": images.shape[-1]}
    claims = [
        clock.claim(
            f"distortions/{name}/{clock.threads} threads",
            ours,
            lambda: one_by_one(images, name, severity_B, seeds),
            "one image at a time",
            count,
            rounds,
            mean_difference=float((ours() - alone).abs().mean()),
            **settings,
        )
    ]
    if clock.threads > 1 or clock.device != "cpu":
        return claims
    arrays = [image.permute(1, 2, 0).contiguous().numpy() for image in images]
    parameters = DISTORTIONS[name].parameter(severity_B).tolist()
    for library, call in plain.items():

        def baseline(call: Plain = call) -> list[np.ndarray]:
            return [call(array, value) for array, value in zip(arrays, parameters, strict=True)]

        if name not in DRAWN_ANEW:
            pairs = zip(baseline(), ours().permute(0, 2, 3, 1).numpy(), strict=True)
            settings["mean_difference"] = float(np.mean([np.abs(theirs - own).mean() for theirs, own in pairs]))
        beside = f"{library}, one image at a time"
        claims.append(clock.claim(f"distortions/{name}/{library}", ours, baseline, beside, count, rounds, **settings))
    return claims


def main(argv: Sequence[str] | None = None) -> int:
    """Command line entry."""
    options = parser(__doc__)
    names = [*DISTORTIONS, COMPOSITIONS]
    options.add_argument("--device", default="cpu", help="where ours run: cpu, cuda, …")
    options.add_argument("--only", nargs="+", choices=names, metavar="NAME", default=names, help="measure these")
    options.add_argument("--threads", nargs="+", type=int, default=[1, 2], metavar="N", help="on a CPU (default 1 2)")
    arguments = options.parse_args(argv)
    warnings.filterwarnings("ignore", "Conversion from CIE-LAB")  # scikit-image about colours outside the gamut
    quick = arguments.quick
    images = crops(4, 64) if quick else crops(32, 224)
    rounds = 1 if quick else 5
    plain: dict[str, dict[str, Plain]] = {}
    for (name, library), call in plain_calls().items():
        plain.setdefault(name, {})[library] = call
    fastest = {name: list(calls.values())[-1] for name, calls in plain.items()}  # OpenCV's stand last
    claims = []
    for threads in arguments.threads if arguments.device == "cpu" else (1,):
        clock = Clock(threads, arguments.device)
        torch.set_num_threads(threads)
        for name in (own for own in arguments.only if own != COMPOSITIONS):
            claims += of_function(name, clock, images, plain.get(name, {}), rounds)
            print(claims[-1], flush=True)
        if COMPOSITIONS in arguments.only:
            claims += of_compositions(clock, images.shape[-1], 1 if quick else 8, 1 if quick else 3, fastest)
            print(claims[-1], flush=True)
    write(claims, arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
