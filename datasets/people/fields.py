"""Small numeric helpers of the renderer: soft steps, noise, palettes, rotations."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]  # of float32, unless a docstring says otherwise

# Colours of paint, prints and earrings, linear light.
BRIGHT = np.array([(0.6, 0.04, 0.04), (0.05, 0.12, 0.5), (0.7, 0.5, 0.05), (0.75, 0.75, 0.72), (0.02, 0.02, 0.02),
                   (0.06, 0.35, 0.12), (0.5, 0.1, 0.4)], np.float32)  # fmt: skip
TILE = 512  # texels of a noise tile


def step(low: float | Array, high: float | Array, x: Array) -> Array:
    """0 below `low`, 1 above `high`, smooth between; `low` may be the larger one."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def bump(x: Array, centre: float | Array, width: float) -> Array:
    """A Gaussian of height 1."""
    return np.exp(-np.square((x - centre) / width))


@cache
def noise_tile(seed: int, low: float, high: float, stretch: float = 1.0) -> Array:
    """Periodic noise, TILE×TILE, mean 0 and deviation 1, of `low` to `high` waves a tile; stretched along rows."""
    rng = np.random.default_rng(seed)
    spectrum = np.fft.fft2(rng.standard_normal((TILE, TILE)))
    y, x = np.meshgrid(np.fft.fftfreq(TILE) * TILE, np.fft.fftfreq(TILE) * TILE, indexing="ij")
    frequency = np.hypot(y * stretch, x)
    spectrum *= np.where((frequency >= low) & (frequency <= high), 1 / np.maximum(frequency, 1), 0)
    tile = np.fft.ifft2(spectrum).real
    return (tile / tile.std()).astype(np.float32)


def noise(tile: Array, x: Array, y: Array) -> Array:
    """The tile at x and y in tiles, bilinear, periodic."""
    x, y = (x % 1) * TILE, (y % 1) * TILE
    x0, y0 = x.astype(np.int32), y.astype(np.int32)
    a, b = (x - x0).astype(np.float32), (y - y0).astype(np.float32)
    x0, y0 = x0 % TILE, y0 % TILE
    x1, row, next_row = (x0 + 1) % TILE, y0 * TILE, (y0 + 1) % TILE * TILE
    texels = tile.ravel()  # one index a texel is gathered twice as fast as two
    near = texels[row + x0] * (1 - a) + texels[row + x1] * a
    far = texels[next_row + x0] * (1 - a) + texels[next_row + x1] * a
    return near * (1 - b) + far * b


def palette(colours: Sequence[Sequence[float]], at: float) -> Array:
    """The colour at 0 to 1 along a row of colours, linear light."""
    table = np.asarray(colours, np.float32)
    places = np.linspace(0, 1, len(table))
    return np.array([np.interp(at, places, table[:, c]) for c in range(3)], np.float32)


def dot(a: Array, b: Array) -> Array:
    """Products of rows ...×3, ... numbers. Three whole columns are added faster than many rows of three."""
    return a[..., 0] * b[..., 0] + a[..., 1] * b[..., 1] + a[..., 2] * b[..., 2]


def normalise(vectors: Array) -> Array:
    """Rows ...×3 of length 1."""
    return vectors / np.maximum(np.sqrt(dot(vectors, vectors)), 1e-9)[..., None]


def rotation(yaw: float, pitch: float, roll: float) -> Array:
    """3×3 from degrees: yaw to the image's right, pitch up, roll to the image's right."""
    y, p, r = np.radians([yaw, pitch, roll])
    turn = np.array([[np.cos(y), -np.sin(y), 0], [np.sin(y), np.cos(y), 0], [0, 0, 1]])
    nod = np.array([[1, 0, 0], [0, np.cos(p), np.sin(p)], [0, -np.sin(p), np.cos(p)]])
    tilt = np.array([[np.cos(r), 0, np.sin(r)], [0, 1, 0], [-np.sin(r), 0, np.cos(r)]])
    return (tilt @ nod @ turn).astype(np.float32)
