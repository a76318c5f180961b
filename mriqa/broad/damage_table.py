"""All damages by name, and the kinds that they make up.

A kind is what people would call it, whoever made it: blur by our engine and blur by Pillow are one kind, so that a kind
that is held out is really unseen.
"""

from __future__ import annotations

from mriqa.broad.damage import Damage, Spoil
from mriqa.broad.damages import (
    camera_chains,
    codecs,
    colour_casts,
    engine,
    exposure,
    grain,
    lost_resolution,
    softness,
    tones,
)
from mriqa.distortions import DISTORTIONS, LABELLED

KIND_OF_LABELLED = {
    "motion_blur": "motion",
    "pixelate": "lost resolution",
    "quantization": "few tones",
    "high_sharpen": "sharpening",
    "brighten": "exposure",
    "darken": "exposure",
    "color_saturation_hsv": "saturation",
    "color_saturation_lab": "saturation",
}
"""Where it isn't the distortion's category."""


def _labelled(name: str) -> Damage:
    category = DISTORTIONS[name].category
    return Damage(name, KIND_OF_LABELLED.get(name, category), engine.labelled(name), category == "color", name)


def _of_kind(kind: str, *functions: Spoil, needs_colour: bool = False) -> list[Damage]:
    return [Damage(function.__name__, kind, function, needs_colour) for function in functions]


LABELLED_DAMAGES = tuple(_labelled(name) for name in LABELLED)
COMPOSITION = Damage("composition", "composition", engine.composition)
CODECS = (
    *_of_kind("compression", codecs.jpeg_file, codecs.jpeg_again, codecs.webp_file, codecs.jpeg2000_file),
    *_of_kind("compression", *([codecs.avif_file] if codecs.HAS_AVIF else [])),
    *_of_kind("small file", codecs.small_file),
)
OTHER_DAMAGES = (
    *_of_kind("lost resolution", lost_resolution.lost_resolution, lost_resolution.blocky),
    *_of_kind("upscaled", lost_resolution.upscaled),
    *_of_kind("exposure", exposure.dark, exposure.dark_light, exposure.dark_gamma),
    *_of_kind("exposure", exposure.over_exposed, exposure.over_exposed_light),
    *_of_kind("contrast", tones.low_contrast, tones.washed_out, tones.high_contrast),
    *_of_kind("few tones", tones.posterised, tones.small_palette),
    *_of_kind("color", colour_casts.colour_cast),
    *_of_kind("saturation", colour_casts.over_saturated, colour_casts.desaturated, needs_colour=True),
    *_of_kind("blur", softness.soft, softness.box_blur),
    *_of_kind("motion", softness.motion, softness.shake),
    *_of_kind("sharpening", softness.over_sharpened),
    *_of_kind("noise", grain.colour_noise, grain.grey_noise, grain.coarse_noise),
    *_of_kind("noise", grain.sensor_noise, grain.salt_and_pepper),
    *_of_kind("denoised", grain.denoised_median, grain.denoised_flat, grain.denoised_patches),
    *_of_kind("chain", camera_chains.snapshot, camera_chains.shared_again, camera_chains.night_shot),
    *_of_kind("chain", camera_chains.old_scan, camera_chains.enlarged_jpeg),
)
DAMAGES = {damage.name: damage for damage in (*LABELLED_DAMAGES, COMPOSITION, *CODECS, *OTHER_DAMAGES)}
KINDS = tuple(dict.fromkeys(damage.kind for damage in DAMAGES.values()))
