"""Details that are meshes, on the head that looks straight ahead: earrings, an eye patch, headphones, a scarf.

All take a person's random numbers, the head's vertices (V×3, metres) and its model.
"""

import numpy as np

from datasets.people.fields import BRIGHT, Array
from datasets.people.head import EARS, HeadModel
from datasets.people.mesh import Faces, Mesh, grid_faces, join, tube
from datasets.people.radial import CENTRE, RadialMap


def earrings(rng: np.random.Generator, vertices: Array, model: HeadModel) -> Mesh:
    """Hoops or drops at the lowest points of both ears."""
    hoop, radius = rng.random() < 0.5, rng.uniform(0.005, 0.013)
    parts = []
    for side in (-1, 1):
        lobe = (model.masks[:, EARS] > 0.5) & (side * model.template[:, 0] > 0)
        place = vertices[lobe][vertices[lobe][:, 2].argmin()] + [side * 0.002, -0.001, 0]
        angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        if hoop:
            ring = place + np.stack([0 * angle, radius * np.sin(angle), radius * (np.cos(angle) - 1)], axis=1)
            parts.append(tube(ring, 0.0012, 6, closed=True))
        else:
            drop = place + np.stack([np.zeros(9), np.zeros(9), np.linspace(0.002, -2 * radius, 9)], axis=1)
            parts.append(tube(drop, 0.45 * radius * np.sin(np.linspace(0.15, np.pi, 9)) + 0.0004, 10))
    metal = np.array([(0.55, 0.42, 0.16), (0.5, 0.5, 0.52), *BRIGHT[:2]], np.float32)
    return Mesh(*join(parts), "frame", colour=metal[rng.integers(4)])


def eye_patch(rng: np.random.Generator, vertices: Array, model: HeadModel) -> Mesh:
    """A black disc before one eye, on a band."""
    side = int(rng.integers(2))
    eye = model.eyeball(vertices, side)
    radius, angle = np.meshgrid(np.linspace(0, 1, 6), np.linspace(0, 2 * np.pi, 33), indexing="ij")
    x, z = 0.024 * radius * np.cos(angle), 0.020 * radius * np.sin(angle)
    y = eye[1] - 0.024 + 0.010 * radius**2 + 4.0 * np.square(np.abs(x) * (np.sign(x) == np.sign(eye[0])))
    disc = np.stack([eye[0] + x, y, eye[2] - 0.001 + z], axis=-1).reshape(-1, 3).astype(np.float32)
    points, faces = join([(disc, grid_faces(6, 33)), _band(vertices, eye, 0.0022)])
    return Mesh(points, faces, "frame", colour=np.full(3, 0.012, np.float32))


def _band(vertices: Array, through: Array, radius: float) -> tuple[Array, Faces]:
    """A band round the head that rises from one side to the other through a point before the face."""
    surface = RadialMap(vertices, ears=False)
    azimuth = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    tilt = 0.035 * np.sign(-through[0]) * np.sin(azimuth)
    circle = [0.1 * np.sin(azimuth), 0.07 - 0.1 * np.cos(azimuth), through[2] + 0.022 + tilt]
    points = np.stack(circle, axis=1).astype(np.float32)
    reach, distance = surface(points)
    ring = CENTRE + (points - CENTRE) * ((reach + 0.0025) / distance)[:, None]
    return tube(ring, radius, 6, closed=True)


def headphones(rng: np.random.Generator, vertices: Array, model: HeadModel) -> Mesh:
    """A bow over the head and a cup on each ear."""
    ears = model.masks[:, EARS] > 0.5
    width = np.abs(vertices[ears][:, 0]).max() + 0.006
    centre = np.array([0, vertices[ears][:, 1].mean(), vertices[ears][:, 2].mean() + 0.004])
    top = vertices[:, 2].max() + 0.016
    angle = np.linspace(0, np.pi, 41)
    arc = [(width + 0.006) * np.cos(angle), 0 * angle, (top - centre[2]) * np.sin(angle) ** 0.8]
    parts = [tube(centre + np.stack(arc, axis=1), 0.007, 8, flat=0.6)]
    for side in (-1, 1):
        out = side * np.array([width - 0.012, width - 0.010, width + 0.012, width + 0.014])
        cup = centre + np.stack([out, np.zeros(4), np.zeros(4)], axis=1)
        parts.append(tube(cup, np.array([0.001, 0.034, 0.034, 0.001]), 28))
    return Mesh(*join(parts), "frame", colour=BRIGHT[rng.integers(len(BRIGHT))])


def scarf(rng: np.random.Generator, vertices: Array, model: HeadModel) -> Mesh:
    """Three uneven turns of a thick tube round the neck."""
    neck = np.abs(vertices[:, 2] + 0.150) < 0.02
    low, high = vertices[neck].min(axis=0), vertices[neck].max(axis=0)
    middle, half = (low + high) / 2, (high - low) / 2
    angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    parts = []
    for lift, grow in ((-0.035, 0.012), (-0.018, 0.006), (-0.002, 0.010)):
        x, y = middle[0] + (half[0] + grow) * np.sin(angle), middle[1] - (half[1] + grow) * np.cos(angle)
        z = -0.160 + lift + 0.022 * (1 - np.cos(angle)) + 0.004 * np.sin(3 * angle + lift * 200)
        ring = np.stack([x, y, z], axis=1)
        parts.append(tube(ring, 0.016 + 0.003 * np.sin(5 * angle + 100 * lift), 12, closed=True))
    points, faces = join(parts)
    stripes = np.stack([np.arctan2(points[:, 0], -points[:, 1]) / (2 * np.pi), points[:, 2] * 8], axis=1)
    return Mesh(points, faces, "knit", stripes.astype(np.float32), BRIGHT[rng.integers(len(BRIGHT))])
