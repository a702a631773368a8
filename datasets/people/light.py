"""The light on a scene: a key light with shadow, and an open sky with occlusion."""

import cv2
import numpy as np

from datasets.people.factors import Factors
from datasets.people.fields import Array, normalise
from datasets.people.rays import Scene

_SKY_REACH = 0.25  # metres: what is farther away darkens nothing
_SKY_RAYS = 8  # a 2×2 block of samples looks into all of them
# A ray starts so far from the surface, metres, that it does not meet the triangle it leaves.
_SHADOW_BIAS, _SKY_BIAS = 1.2e-3, 1.0e-3
_GRAIN = 4  # samples, the side of the square over which the answers of rays are averaged


class Light:
    """Key light and sky of a person's factors, and what in the scene keeps them off.

    direction: 3, towards the key light. key, sky: 3, their colours in linear light.
    """

    def __init__(self, factors: Factors, scene: Scene) -> None:
        f = factors
        azimuth, elevation = np.radians([f.light_azimuth, f.light_elevation])
        direction = [np.sin(azimuth) * np.cos(elevation), -np.cos(azimuth) * np.cos(elevation), np.sin(elevation)]
        self.direction = np.array(direction, np.float32)
        warm = 0.16 * f.light_warmth
        # More contrast is more of the key light and less of the sky, so that pictures stay about as bright.
        self.key = np.array([1 + warm, 1, 1 - 1.2 * warm], np.float32) * (1.25 + 1.05 * f.light_contrast)
        self.sky = np.array([1.0 - 0.4 * warm, 1.0, 1.0 + 0.4 * warm], np.float32) * (0.95 - 0.60 * f.light_contrast)
        self._scene = scene
        aside = normalise(np.cross(self.direction, np.array([0, 0, 1], np.float32)))
        above = np.cross(aside, self.direction)
        spread = 0.13 - 0.08 * f.light_contrast  # of the key light's face: a soft light is a large one
        corners = np.array([(-1, -0.5), (0.5, -1), (-0.5, 1), (1, 0.5)], np.float32) * spread
        self._key_rays = normalise(self.direction + corners[:, :1] * aside + corners[:, 1:] * above).astype(np.float32)
        rng = np.random.default_rng(7)
        self._sky_rays = normalise(rng.standard_normal((_SKY_RAYS, 3)).astype(np.float32))

    def shadow(self, points: Array, normals: Array, chosen: Array, samples: int) -> Array:
        """The share of the key light that reaches, N; each of a 2×2 block of samples looks at a quarter of the light.

        points, normals: N×3, of the samples `chosen` (N) of a picture of samples×samples.
        """
        towards = self._key_rays[_block(chosen, samples)]
        lit = ~self._scene.blocked(points + normals * _SHADOW_BIAS, towards)
        return _smoothed(lit.astype(np.float32), chosen, samples)

    def openness(self, points: Array, normals: Array, chosen: Array, samples: int) -> Array:
        """The share of the sky that is seen, N; each of a 2×2 block of samples looks into its own directions."""
        block = _block(chosen, samples)
        origins = points + normals * _SKY_BIAS
        total = np.zeros(len(points), np.float32)
        for k in range(_SKY_RAYS // 4):
            # A random direction added to a slightly longer normal never points below the surface.
            towards = normalise(normals * 1.02 + self._sky_rays[(block + 4 * k) % _SKY_RAYS])
            total += ~self._scene.blocked(origins, towards, _SKY_REACH)
        return _smoothed(total / (_SKY_RAYS // 4), chosen, samples)


def _block(chosen: Array, samples: int) -> Array:
    """Which of a 2×2 block of samples each is, 0 to 3."""
    return (chosen % samples % 2) + 2 * (chosen // samples % 2)


def _smoothed(values: Array, chosen: Array, samples: int) -> Array:
    """Values N, each the mean of the samples around it that are chosen, too: few rays leave no grain."""
    grid = np.zeros((2, samples * samples), np.float32)
    grid[0, chosen], grid[1, chosen] = values, 1
    planes = grid.reshape(2, samples, samples)
    total, count = (cv2.boxFilter(plane, -1, (_GRAIN, _GRAIN), normalize=False) for plane in planes)
    return total.ravel()[chosen] / count.ravel()[chosen]
