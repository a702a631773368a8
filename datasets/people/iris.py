"""Eyeballs: white with veins, iris, pupil, and the shadow of the lashes."""

import numpy as np

from datasets.people.factors import Factors
from datasets.people.fields import Array, bump, noise, noise_tile, normalise, palette, step
from datasets.people.paint import Paint, mix, plain

# Linear light, from dark brown to light blue.
IRIS_COLOURS = [(0.045, 0.022, 0.012), (0.10, 0.05, 0.02), (0.15, 0.11, 0.045), (0.13, 0.16, 0.10), (0.14, 0.20, 0.26),
                (0.25, 0.34, 0.42)]  # fmt: skip
IRIS, PUPIL = 28.0, 10.5  # degrees from the gaze to their edges


def paint_eye(local: Array, f: Factors, gaze: Array) -> Paint:
    """local: template coordinates from the eyeball's centre, N×3; gaze: where it looks, in the same frame."""
    out = normalise(local)
    angle = np.degrees(np.arccos(np.clip(out @ gaze, -1, 1)))
    # Directions round the gaze, for the iris' rays.
    across = normalise(np.cross(gaze, np.array([0, 0, 1.0], np.float32)))
    turn = np.arctan2(out @ np.cross(across, gaze), out @ across)
    rays = noise(noise_tile(11, 8, 40, 0.2), turn / (2 * np.pi), angle / 90)
    white = np.array([0.50, 0.47, 0.44], np.float32) * (1 - 0.12 * step(30, 65, angle)[:, None])
    veins = np.clip(noise(noise_tile(12, 20, 60), out[:, 0] * 1.5, out[:, 2] * 1.5) - 1.1, 0, 1) * step(28, 50, angle)
    white = mix(white, np.array([0.55, 0.20, 0.17], np.float32), 0.35 * veins)
    iris = 0.8 * palette(IRIS_COLOURS, f.iris) * (1 + 0.25 * rays + 0.9 * bump(angle, 14, 4))[:, None]
    iris = iris * (1 - 0.75 * step(21.5, 26, angle))[:, None]
    colour = mix(white, iris, step(IRIS, IRIS - 2, angle))
    colour = mix(colour, np.full(3, 0.006, np.float32), step(PUPIL, PUPIL - 1.5, angle))
    # The upper lid and its lashes keep light from the upper third.
    colour = colour * (1 - 0.45 * step(0.10, 0.55, out[:, 2]))[:, None]
    return plain(colour, 0.7, 220, scatter=0.3)
