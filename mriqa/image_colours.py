"""Any picture's pixels as 8-bit sRGB: profiles, 16 bits, transparency, palettes and inks.

A picture with an ICC profile is converted through it (the ICC specification, ICC.1:2022), by the rendering intent that
the profile names, so a wide-gamut photograph has the colours that its maker saw. Most profiles are sRGB's own, and are
left out: they would only round. A profile that is broken, or not of the picture's kind, is passed over, as browsers do.

Legend: H W pixels.
"""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

MOST_PROFILE_BYTES = 4 * 2**20  # a printer's with its tables has two million
# Kinds of pixels that a profile of each colour space is for, and as what they are converted.
_SPACES = {"RGB": "RGB ", "L": "GRAY", "CMYK": "CMYK"}
_PROBE = Image.fromarray(np.indices((6, 6, 6), dtype=np.uint8).reshape(3, 6, 36).transpose(1, 2, 0) * np.uint8(51))


class ColourError(ValueError):
    """Pixels that can't be seen, as the rest of a sentence that begins with the image.

    Never reaches a person by itself: mriqa.images puts the image's name before it.
    """


def to_srgb(image: Image.Image) -> Image.Image:
    """The picture in mode RGB, without profile, transparency laid over white.

    Raises ColourError for floating-point pixels, and for integers of more than 16 bits.
    """
    profile = image.info.get("icc_profile")
    if image.mode == "F":
        raise ColourError("has floating-point pixels, for which no white level is defined; save it with 8 or 16 bits.")
    if image.mode.startswith("I"):
        image = _from_16_bits(image)
    elif image.has_transparency_data:
        image = image.convert("LA" if image.mode in ("L", "LA") else "RGBA")
    elif image.mode == "P":
        image = image.convert("RGB")
    alpha = image.getchannel("A") if image.mode in ("RGBA", "LA") else None
    colours = image.convert(image.mode.removesuffix("A")) if alpha is not None else image
    rgb = _through_profile(colours, profile).convert("RGB")
    if alpha is not None:
        rgb.putalpha(alpha)
        rgb = Image.alpha_composite(Image.new("RGBA", rgb.size, "white"), rgb).convert("RGB")
    rgb.info.pop("icc_profile", None)
    return rgb


def _from_16_bits(image: Image.Image) -> Image.Image:
    """Grey values 0..65535 to 0..255, rounded. Pillow's own conversion would clip everything above 255 to white."""
    grey_HW = np.asarray(image).astype(np.int64)
    if grey_HW.min() < 0 or grey_HW.max() > 65535:
        raise ColourError("has integer pixels of more than 16 bits, for which no white level is defined.")
    return Image.fromarray(((grey_HW * 255 + 32767) // 65535).astype(np.uint8))


def _through_profile(image: Image.Image, profile: bytes | None) -> Image.Image:
    """The picture in sRGB, or as it is where its profile can't be used or changes nothing."""
    if not profile or len(profile) > MOST_PROFILE_BYTES or image.mode not in _SPACES:
        return image
    transform = _transform(profile, image.mode)
    if transform is None:
        return image
    return ImageCms.applyTransform(image, transform) or image


@lru_cache(maxsize=8)  # pictures of one camera have one profile
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From the profile's colours to sRGB; None for a profile of other pixels, a broken one, and one like sRGB."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space != _SPACES[mode]:
            return None
        intent = ImageCms.Intent(ImageCms.getDefaultIntent(source))
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB", intent)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    if mode == "RGB":
        moved = np.asarray(ImageCms.applyTransform(_PROBE, transform)).astype(int) - np.asarray(_PROBE)
        if np.abs(moved).max() <= 1:
            return None
    return transform
