"""ICC profiles of the kind "matrix and curve" (ICC.1:2022, sections 8.3 and 10), and what their colours are in sRGB."""

from __future__ import annotations

import struct

import numpy as np

# Chromaticities of red, green and blue; white is D65 in all three.
DISPLAY_P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
ADOBE_RGB = ((0.640, 0.330), (0.210, 0.710), (0.150, 0.060))
SRGB = ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060))
D65, D50 = (0.3127, 0.3290), np.array([0.9642, 1.0, 0.8249])
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def to_xyz(primaries: tuple[tuple[float, float], ...]) -> np.ndarray:
    """The matrix (3, 3) from linear RGB to CIE XYZ under D65."""
    xyz = np.array([[x / y, 1, (1 - x - y) / y] for x, y in (*primaries, D65)]).T
    return xyz[:, :3] * np.linalg.solve(xyz[:, :3], xyz[:, 3])


def profile(primaries: tuple[tuple[float, float], ...], gamma: float | None = 2.2) -> bytes:
    """A display's profile with these primaries and this gamma; None is sRGB's curve."""
    white = to_xyz(primaries).sum(axis=1)
    adapt = np.linalg.inv(BRADFORD) @ np.diag((BRADFORD @ D50) / (BRADFORD @ white)) @ BRADFORD
    columns = (adapt @ to_xyz(primaries)).T
    if gamma is None:
        numbers = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
        curve = b"para" + struct.pack(">IHH5i", 0, 3, 0, *map(_fixed, numbers))
    else:
        curve = b"curv" + struct.pack(">IIHH", 0, 1, round(gamma * 256), 0)
    xyz = [b"XYZ " + struct.pack(">I3i", 0, *map(_fixed, column)) for column in (*columns, D50)]
    parts = dict(zip((b"rXYZ", b"gXYZ", b"bXYZ", b"wtpt"), xyz))
    parts |= {b"desc": b"desc" + struct.pack(">II", 0, 5) + b"test\0" + bytes(79), b"cprt": b"text" + bytes(8)}
    parts |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    return _packed(b"RGB ", parts)


def grey_profile(gamma: float) -> bytes:
    """A grey scale of this gamma."""
    white = b"XYZ " + struct.pack(">I3i", 0, *map(_fixed, D50))
    parts = {b"kTRC": b"curv" + struct.pack(">IIHH", 0, 1, round(gamma * 256), 0), b"wtpt": white}
    return _packed(b"GRAY", parts | {b"desc": b"desc" + struct.pack(">II", 0, 5) + b"test\0" + bytes(79)})


def _fixed(value: float) -> int:
    return round(value * 65536)


def _packed(space: bytes, parts: dict[bytes, bytes]) -> bytes:
    table, body = struct.pack(">I", len(parts)), b""
    for name, content in parts.items():
        table += name + struct.pack(">II", 132 + 12 * len(parts) + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    head = struct.pack(">I4sI4s4s4s", 132 + 12 * len(parts) + len(body), b"", 0x02400000, b"mntr", space, b"XYZ ")
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", *map(_fixed, D50)) + bytes(48)
    return head + table + body


def in_srgb(
    colour: tuple[int, int, int], primaries: tuple[tuple[float, float], ...], gamma: float | None = 2.2
) -> np.ndarray:
    """What a colour (0..255 each) is in sRGB, 0..255, clipped; worked out in float64 by IEC 61966-2-1."""
    value = np.array(colour) / 255
    linear = value**gamma if gamma else np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.linalg.solve(to_xyz(SRGB), to_xyz(primaries) @ linear), 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
