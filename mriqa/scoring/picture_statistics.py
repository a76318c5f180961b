"""Cheap statistics of a picture's pixels by which drawings, screenshots, noise and blank pages differ from photographs.

They need no model: a photograph, however spoiled, has many colours, few pixels that equal their neighbours exactly,
edges at every scale, channels that rise and fall together, and smooth parts beside rough ones. They are taken from at
most 64 tiles of 32 × 32 pixels, spread evenly over the picture at its own scale, so that large pictures cost no more.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

TILE, MOST_TILES = 32, 64
CLEAR = 32  # levels between neighbours
STATISTICS = (
    "equal_neighbours",  # share of neighbouring pixels that are exactly equal
    "close_neighbours",  # share that differ by one level of 256 at most
    "colours",  # logarithm of the number of colours, of 32,768
    "colour_entropy",  # bits
    "commonest_colour",  # its share
    "extremes",  # share of pixels near black or white
    "edges",  # logarithm of the mean difference of neighbours
    "edges_half",  # and by how much it grows at half size
    "edges_quarter",  # and once more
    "sparse_edges",  # logarithm of root mean square over mean difference: few strong edges
    "channels_agree",  # 1 where the channels' differences are equal, 0.58 where they are independent
    "uneven",  # deviation of the tiles' log contrast
    "empty_tiles",  # share of tiles whose brightness varies by four levels at most
    "layout",  # logarithm of the deviation between tiles over that between pixels: low in noise and in text
    "straight_edges",  # share of clear edges that run exactly across or down, as in windows, tables and letters
)
"""What `picture_statistics` gives, in its order."""


def picture_statistics(picture: Image.Image) -> np.ndarray:
    """The statistics (D,), D = len(STATISTICS), of a picture in mode RGB."""
    tiles_CNHW = _tiles(np.asarray(picture))
    differences = np.diff(tiles_CNHW, axis=3).reshape(3, -1), np.diff(tiles_CNHW, axis=2).reshape(3, -1)
    single = np.zeros((3, 1), dtype=np.int16)  # so that a picture of one pixel has a step, too
    steps_CM = np.concatenate([*differences, *([single] if tiles_CNHW[0].size == 1 else [])], axis=1)
    largest_M = np.abs(steps_CM).max(axis=0)
    real_CM = steps_CM.astype(np.float32)

    red, green, blue = tiles_CNHW >> 3
    codes = (red << 10) | (green << 5) | blue
    counts = np.bincount(codes.ravel())
    shares = counts[counts > 0] / codes.size

    grey_NHW = np.tensordot(np.array([0.299, 0.587, 0.114], dtype=np.float32), tiles_CNHW.astype(np.float32), 1)
    half_NHW = _halved(grey_NHW)
    edges = [_edges(grey) for grey in (grey_NHW, half_NHW, _halved(half_NHW))]
    means = [_log(float(each.mean())) for each in edges]
    grey_NP = grey_NHW.reshape(len(grey_NHW), -1)
    contrast_N = grey_NP.std(axis=1)
    return np.array([
        np.mean(largest_M == 0),
        np.mean(largest_M <= 1),
        np.log10(len(shares)),
        -np.sum(shares * np.log2(shares)),
        shares.max(),
        np.mean((grey_NHW < 8) | (grey_NHW > 247)),
        means[0],
        means[1] - means[0],
        means[2] - means[1],
        _log(float(np.sqrt(np.mean(edges[0] ** 2)))) - means[0],
        real_CM.sum(axis=0).std() / (real_CM.std(axis=1).sum() + 0.3),
        np.log(contrast_N + 0.5).std(),
        np.mean(np.ptp(grey_NP, axis=1) <= 4),
        _log(float(grey_NP.mean(axis=1).std())) - _log(float(grey_NP.std())),
        _straight(grey_NHW),
    ])  # fmt: skip


def _tiles(pixels_HWC: np.ndarray) -> np.ndarray:
    """At most 64 tiles (3, N, h, w) as int16, whose differences fit, evenly over the picture."""
    height, width = pixels_HWC.shape[:2]
    h, w = min(TILE, height), min(TILE, width)
    rows, columns = max(1, height // h), max(1, width // w)
    if rows * columns > MOST_TILES:
        shrink = (MOST_TILES / (rows * columns)) ** 0.5
        rows = min(MOST_TILES, max(1, int(rows * shrink)))
        columns = min(MOST_TILES // rows, max(1, int(columns * shrink)))
    tops = np.linspace(0, height - h, rows).round().astype(int)
    lefts = np.linspace(0, width - w, columns).round().astype(int)
    tiles = [pixels_HWC[top : top + h, left : left + w] for top in tops for left in lefts]
    return np.ascontiguousarray(np.moveaxis(np.stack(tiles), -1, 0), dtype=np.int16)


def _halved(grey_NHW: np.ndarray) -> np.ndarray:
    """Means of 2 × 2 pixels; tiles too small for that stay as they are."""
    height, width = (length // 2 * 2 for length in grey_NHW.shape[1:])
    if min(height, width) < 4:
        return grey_NHW
    even = grey_NHW[:, :height, :width]
    return (even[:, ::2, ::2] + even[:, 1::2, ::2] + even[:, ::2, 1::2] + even[:, 1::2, 1::2]) / 4


def _edges(grey_NHW: np.ndarray) -> np.ndarray:
    """Absolute differences of neighbours, across and down, as one array."""
    found = [np.abs(np.diff(grey_NHW, axis=axis)).ravel() for axis in (1, 2)]
    return np.concatenate([*found, np.zeros(1, dtype=np.float32)])


def _straight(grey_NHW: np.ndarray) -> float:
    """The share of clear edges (32 levels a pixel) along which brightness stays the same within two levels."""
    across, down = np.abs(np.diff(grey_NHW, axis=2))[:, :-1], np.abs(np.diff(grey_NHW, axis=1))[:, :, :-1]
    clear = np.maximum(across, down) > CLEAR
    return float(np.mean(np.minimum(across, down)[clear] <= 2)) if clear.any() else 0.0


def _log(value: float) -> float:
    return float(np.log(value + 0.1))
