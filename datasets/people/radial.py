"""How far the head reaches in every direction: what lies on it (hair, hats, bands) is placed by that."""

import numpy as np

from datasets.people.fields import Array
from datasets.people.head import EARS, head_model

CENTRE = np.array([0.0, 0.07, 0.03], np.float32)  # of the skull, from the point between the eyes
_BINS = (48, 32)  # azimuth, height


class RadialMap:
    """How far the head's surface lies from CENTRE in every direction."""

    def __init__(self, vertices: Array, ears: bool = True) -> None:
        """vertices V×3 of the head model; without `ears` the map runs below them."""
        used = vertices[:, 2] > -0.12
        if not ears:
            used &= head_model().masks[:, EARS] < 0.2
        azimuth, height, radius = self._spherical(vertices[used])
        grid = np.zeros(_BINS, np.float32)
        i = (azimuth * _BINS[0]).astype(int) % _BINS[0]
        j = np.clip((height * _BINS[1]).astype(int), 0, _BINS[1] - 1)
        np.maximum.at(grid, (i, j), radius)
        for _ in range(_BINS[1]):  # directions without a vertex take their neighbours'
            empty = grid == 0
            if not empty.any():
                break
            near = np.stack([np.roll(grid, 1, 0), np.roll(grid, -1, 0), np.pad(grid, ((0, 0), (1, 0)))[:, :-1],
                             np.pad(grid, ((0, 0), (0, 1)))[:, 1:]])  # fmt: skip
            grid = np.where(empty, near.max(axis=0), grid)
        self.grid = grid

    @staticmethod
    def _spherical(points: Array) -> tuple[Array, Array, Array]:
        local = points - CENTRE
        radius = np.linalg.norm(local, axis=-1)
        azimuth = np.arctan2(local[..., 0], -local[..., 1]) / (2 * np.pi) % 1
        return azimuth, np.arccos(np.clip(local[..., 2] / np.maximum(radius, 1e-6), -1, 1)) / np.pi, radius

    def __call__(self, points: Array) -> tuple[Array, Array]:
        """Radius of the surface in the points' directions, and the points' own, of points ...×3."""
        azimuth, height, radius = self._spherical(points)
        x, y = azimuth * _BINS[0] - 0.5, np.clip(height * _BINS[1] - 0.5, 0, _BINS[1] - 1.001)
        x0, y0 = np.floor(x).astype(int), y.astype(int)
        a, b = x - x0, y - y0
        x0, x1 = x0 % _BINS[0], (x0 + 1) % _BINS[0]
        grid = self.grid
        surface = (grid[x0, y0] * (1 - a) + grid[x1, y0] * a) * (1 - b)
        return surface + (grid[x0, y0 + 1] * (1 - a) + grid[x1, y0 + 1] * a) * b, radius
