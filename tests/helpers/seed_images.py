"""Small pictures in every format and variant that `mriqa.images` reads, and some it must not, made on the spot."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable

import numpy as np
import pillow_jxl  # noqa: F401  # tells Pillow of JPEG XL
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo
from pillow_heif import register_heif_opener

register_heif_opener()

WIDTH, HEIGHT = 48, 40


def picture(mode: str = "RGB", number: int = 0) -> Image.Image:
    """A gradient with noise, so that neither compression nor its failure is trivial."""
    draw = np.random.default_rng(number)
    ramp_HW1 = np.add.outer(np.arange(HEIGHT), np.arange(WIDTH))[..., None] * 2
    pixels_HWC = (ramp_HW1 + draw.integers(0, 60, (HEIGHT, WIDTH, 3))).astype(np.uint8)
    rgb = Image.fromarray(pixels_HWC)
    if mode == "I;16":
        return Image.fromarray(pixels_HWC[..., 0].astype(np.uint16) * 257)
    if mode == "F":
        return Image.fromarray(pixels_HWC[..., 0].astype(np.float32))
    if mode in ("RGBA", "LA"):
        image = rgb.convert(mode)
        image.putalpha(Image.fromarray(pixels_HWC[..., 1]))
        return image
    if mode == "LAB":
        lab = ImageCms.profileToProfile(
            rgb, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
        )
        del lab.info["icc_profile"]  # it says when it was made
        return lab
    return rgb.quantize(32) if mode == "P" else rgb.convert(mode)


def encoded(form: str, mode: str = "RGB", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture(mode).save(buffer, form, **options)
    return buffer.getvalue()


def _more() -> dict[str, object]:
    """Two more pictures, new ones each time: Pillow leaves the last format's settings in them."""
    return {"save_all": True, "append_images": [picture(number=1), picture(number=2)]}


def seed_files() -> dict[str, bytes]:
    """Name to file; a name begins with its format."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010E], exif[0x8298] = 6, "a picture", "nobody"
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    icc = icc[:24] + bytes(12) + icc[36:]  # without the time at which it was made
    both = {"exif": exif.tobytes(), "icc_profile": icc}
    text = PngInfo()
    text.add_text("short", "words")
    text.add_text("long", "many words " * 200, zip=True)
    text.add_itxt("other", "Wörter " * 100, "de", zip=True)
    jpeg = {
        "baseline": encoded("JPEG"),
        "progressive": encoded("JPEG", progressive=True, quality=95),
        "grey": encoded("JPEG", "L"),
        "cmyk": encoded("JPEG", "CMYK"),
        "restarts": encoded("JPEG", restart_marker_rows=1, subsampling=2),
        "optimised": encoded("JPEG", optimize=True, subsampling=0, quality=100),
        "metadata": encoded("JPEG", comment=b"remark", xmp=b"<x:xmpmeta/>", **both),
        "mpf": encoded("MPO", **_more()),
        "motion": encoded("JPEG") + b"\0\0\0\x18ftypmp42" + bytes(range(256)),
    }
    png = {
        **{mode: encoded("PNG", mode) for mode in ("1", "L", "P", "LA", "RGB", "RGBA", "I;16")},
        "transparent colour": encoded("PNG", transparency=(1, 2, 3)),
        "transparent palette": encoded("PNG", "P", transparency=bytes(range(0, 256, 8))),
        "metadata": encoded("PNG", pnginfo=text, dpi=(72, 72), **both),
        "animated": encoded("PNG", **_more()),
        "interlaced": interlaced_png(),
        "48 bits": png_of(16, 2, np.random.default_rng(0).bytes(HEIGHT * WIDTH * 6)),
    }
    gif = {
        "still": encoded("GIF", "P"),
        "animated": encoded("GIF", comment=b"remark", **_more()),
        "transparent": encoded("GIF", "P", transparency=3, interlace=0),
    }
    webp = {
        "lossy": encoded("WEBP", quality=80),
        "lossless": encoded("WEBP", lossless=True, **both),
        "alpha": encoded("WEBP", "RGBA"),
        "animated": encoded("WEBP", **_more()),
    }
    bmp = {mode: encoded("BMP", mode) for mode in ("1", "L", "P", "RGB", "RGBA")}
    tiff = {
        **{mode: encoded("TIFF", mode) for mode in ("1", "L", "P", "LA", "RGBA", "CMYK", "LAB", "I;16", "F")},
        **{
            kind: encoded("TIFF", compression=kind, strip_size=1000)
            for kind in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg", "lzma", "zstd")
        },
        "fax": encoded("TIFF", "1", compression="group4"),
        "predictor": encoded("TIFF", compression="tiff_lzw", tiffinfo={317: 2}),
        "big": encoded("TIFF", big_tiff=True),
        "pages": encoded("TIFF", **_more()),
        "metadata": encoded("TIFF", **both),
        "tiles": tiled_tiff(b"<"),
        "tiles, big-endian": tiled_tiff(b">"),
    }
    rest = {
        "AVIF lossy": encoded("AVIF", speed=10, max_threads=1),
        "AVIF alpha": encoded("AVIF", "RGBA", speed=10, max_threads=1, **both),
        "AVIF animated": _timeless(encoded("AVIF", speed=10, max_threads=1, **_more())),
        "PPM colour": encoded("PPM"),
        "PPM 16 bits": b"P5\n%d %d\n65535\n" % (WIDTH, HEIGHT) + picture("I;16").tobytes(),
        "PPM bits": encoded("PPM", "1"),
        "PPM plain": b"P2\n# remark\n8 8 255\n" + b" ".join(b"%d" % value for value in range(64)),
        "TGA colour": encoded("TGA"),
        "TGA runs": encoded("TGA", "RGBA", compression="tga_rle"),
        "TGA palette": encoded("TGA", "P"),
        "HEIF lossy": encoded("HEIF", quality=80),
        "HEIF alpha": encoded("HEIF", "RGBA", **both),
        "HEIF 10 bits": encoded("HEIF", "I;16"),
        "HEIF several": encoded("HEIF", **_more()),
        "ICO": encoded("ICO", "RGBA", sizes=[(WIDTH, HEIGHT), (16, 16)]),
        "ICO bitmap": encoded("ICO", "RGBA", sizes=[(WIDTH, HEIGHT)], bitmap_format="bmp"),
        "JPEG2000 lossless": encoded("JPEG2000"),
        "JPEG2000 lossy": encoded("JPEG2000", irreversible=True, quality_layers=[20, 5], progression="RPCL"),
        "JPEG2000 stream": encoded("JPEG2000", no_jp2=True),
        "JPEG2000 tiles": encoded("JPEG2000", "RGBA", tile_size=(16, 16)),
        "JPEG2000 16 bits": encoded("JPEG2000", "I;16"),
        "JXL lossy": encoded("JXL"),
        "JXL lossless": encoded("JXL", lossless=True, use_container=True, exif=both["exif"]),
        "JXL alpha": encoded("JXL", "RGBA", effort=1),
        "JXL 16 bits": encoded("JXL", "I;16", lossless=True),
        "JXL of a JPEG": jxl_of(jpeg["baseline"]),
        "EPS": encoded("EPS"),
        "PCX": encoded("PCX"),
        "SVG": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><script>1</script></svg>',
    }
    families = {"JPEG": jpeg, "PNG": png, "GIF": gif, "WEBP": webp, "BMP": bmp, "TIFF": tiff}
    named = {f"{family} {kind}": data for family, kinds in families.items() for kind, data in kinds.items()}
    return {**named, **rest}


def jxl_of(jpeg: bytes) -> bytes:
    """A JPEG inside JPEG XL, which gives it back bit by bit."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(jpeg)).save(buffer, "JXL", lossless_jpeg=True)
    return buffer.getvalue()


def _timeless(avif: bytes) -> bytes:
    """With zeros where the headers of the film (version 1) and its track say when it was made, in 16 bytes each."""
    for header in (b"mvhd", b"tkhd", b"mdhd"):
        start = avif.index(header) + 8
        avif = avif[:start] + bytes(16) + avif[start + 16 :]
    return avif


def png_file(chunks: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A PNG of these chunks, each with the checksum it must have."""
    parts = (struct.pack(">I", len(d)) + name + d + struct.pack(">I", zlib.crc32(name + d)) for name, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def png_of(
    bits: int, colour: int, pixels: bytes, interlace: int = 0, width: int = WIDTH, height: int = HEIGHT
) -> bytes:
    """A PNG of rows without filter (if not interlaced: `pixels` then has its filter bytes)."""
    size = len(pixels) // height
    rows = pixels if interlace else b"".join(b"\0" + pixels[n * size : (n + 1) * size] for n in range(height))
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlace)
    return png_file([(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")])


def interlaced_png() -> bytes:
    """Adam7, PNG section 8.2: first row and column, and step of each of the seven passes."""
    grey_HW = np.asarray(picture("L"))
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    rows = [b"\0" + row.tobytes() for y, x, down, right in passes for row in grey_HW[y::down, x::right]]
    return png_of(8, 0, b"".join(rows), interlace=1)


def tiled_tiff(order: bytes) -> bytes:
    """Grey tiles of 32 × 32 without compression, TIFF 6.0 section 15; Pillow writes only strips."""
    down, right = -(-HEIGHT // 32), -(-WIDTH // 32)
    grey_HW = np.zeros((down * 32, right * 32), np.uint8)
    grey_HW[:HEIGHT, :WIDTH] = np.asarray(picture("L"))
    tiles = [grey_HW[y * 32 :, x * 32 :][:32, :32].tobytes() for y in range(down) for x in range(right)]
    tags = {256: WIDTH, 257: HEIGHT, 258: 8, 259: 1, 262: 1, 277: 1, 322: 32, 323: 32}
    sign = order.decode()
    places, first = 8 + 2 + 12 * 10 + 4, 8 + 2 + 12 * 10 + 4 + 8 * len(tiles)
    entries = b"".join(struct.pack(f"{sign}HHII", tag, 4, 1, value) for tag, value in tags.items())
    entries += struct.pack(f"{sign}HHII", 324, 4, len(tiles), places)
    entries += struct.pack(f"{sign}HHII", 325, 4, len(tiles), places + 4 * len(tiles))
    offsets = struct.pack(f"{sign}{len(tiles)}I", *(first + 1024 * n for n in range(len(tiles))))
    sizes = struct.pack(f"{sign}{len(tiles)}I", *[1024] * len(tiles))
    header = (b"II" if order == b"<" else b"MM") + struct.pack(f"{sign}HIH", 42, 8, 10)
    return header + entries + bytes(4) + offsets + sizes + b"".join(tiles)
