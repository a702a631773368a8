"""Where the camera stands, and which part of its image is taken."""

from dataclasses import dataclass

import numpy as np

from datasets.people.fields import Array
from datasets.people.person import Person

EYE = np.array([0.0, -1.6, 0.0], np.float32)  # the camera, metres; it looks along y


@dataclass(frozen=True)
class Window:
    """A square of the image plane at y = 0, in metres: centre and half sides, as (x, z)."""

    centre: Array
    right: Array  # from the centre to the middle of the right side
    up: Array

    def rays(self, size: int) -> Array:
        """Directions from EYE through the centres of size×size pixels, rows from the top, (size²)×3."""
        at = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1
        x, y = np.meshgrid(at, -at)
        plane = self.centre + x[..., None] * self.right + y[..., None] * self.up
        directions = np.stack([plane[..., 0], np.full_like(x, -EYE[1]), plane[..., 1]], axis=-1)
        return np.ascontiguousarray(directions.reshape(-1, 3), np.float32)

    def pixels(self, points: Array, size: int) -> Array:
        """Where points N×3 appear, N×2 as (x, y) in pixels from the upper left corner."""
        local = project(points) - self.centre
        x = local @ self.right / (self.right @ self.right)
        y = local @ self.up / (self.up @ self.up)
        return np.stack([(x + 1) / 2, (1 - y) / 2], axis=1) * size


def project(points: Array) -> Array:
    """Points N×3 on the image plane, N×2."""
    relative = points - EYE
    return relative[:, [0, 2]] / relative[:, 1:2] * -EYE[1]


def crop_window(person: Person) -> Window:
    """The square that FFHQ's rule (models/faces/alignment.py) cuts out, from the true places of eyes and mouth."""
    left, right, mouth = project(np.concatenate([person.eyes, person.mouth[None]]))
    across, down = right - left, mouth - (left + right) / 2
    x = across + np.array([-down[1], down[0]])
    x = x / np.hypot(*x) * max(np.hypot(*across) * 2.0, np.hypot(*down) * 1.8)
    return Window((left + right) / 2 + 0.1 * down, x, np.array([-x[1], x[0]]))


def photo_window(person: Person, rng: np.random.Generator) -> Window:
    """An upright square with head and shoulders, the face off its centre."""
    face = project(person.eyes).mean(axis=0)
    half = rng.uniform(0.20, 0.28)
    shift = np.array([rng.uniform(-0.3, 0.3), rng.uniform(-0.30, 0.0)]) * half
    return Window(face + shift, np.array([half, 0.0]), np.array([0.0, half]))
