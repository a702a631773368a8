"""A person as meshes: head, hair, wear, posed."""

from dataclasses import dataclass

import numpy as np

from datasets.people import hair, wear
from datasets.people.details import Details
from datasets.people.factors import Factors
from datasets.people.fields import Array, rotation, step
from datasets.people.head import HeadModel, head_model
from datasets.people.mesh import Mesh

PIVOT = np.array([0.0, 0.085, -0.115], np.float32)  # where the head turns


@dataclass(frozen=True)
class Person:
    """Meshes in the world and the points that alignment needs."""

    factors: Factors
    details: Details
    head: Mesh  # of head_model().faces; painted by head_model().template
    meshes: list[Mesh]  # everything else but hair; the last `extras` are details
    extras: int
    strands: dict[str, hair.Strands]  # hair, beard
    eyes: Array  # 2×3, centres of the eyes' openings, negative x first
    eyeballs: Array  # 2×3
    mouth: Array  # 3, midway between the corners
    gaze: Array  # 3, direction in which the eyes look, in the template's frame
    turn: Array  # 3×3, the head's rotation


def assemble(factors: Factors, camera: Array, details: Details | None = None) -> Person:
    """The person, looking near the point `camera`."""
    model = head_model()
    rest = model.vertices(factors)
    head = Mesh(rest, model.faces, "head")
    normals = head.normals()
    strands = {
        "hair": hair.scalp_hair(model, rest, normals, factors), "beard": hair.beard_hair(model, rest, normals, factors),
        "brows": hair.brow_hair(model, rest, normals, factors),
    }  # fmt: skip
    meshes = wear.teeth(rest, model, factors.mouth_open)
    if factors.glasses:
        meshes += wear.glasses(rest, model, factors)
    if factors.hat:
        meshes += wear.hat(rest, factors)
    details = details or Details()
    extras = details.meshes(rest, model)
    meshes += extras
    turn = rotation(factors.yaw, factors.pitch, factors.roll)

    def posed(points: Array, follow: Array | float = 1.0) -> Array:
        moved = (points - PIVOT) @ turn.T + PIVOT
        return (points + np.asarray(follow)[..., None] * (moved - points)).astype(np.float32)

    head.vertices = posed(rest, step(-0.215, -0.105, model.template[:, 2]))
    for mesh in meshes:
        mesh.vertices = posed(mesh.vertices)
    grown = {}
    for name, lines in strands.items():
        if lines is not None:
            follow = 0.35 + 0.65 * step(-0.26, -0.09, lines.points[..., 2])
            if factors.hat and name == "hair":
                lines = _under_hat(lines, rest)
            grown[name] = hair.Strands(posed(lines.points, follow), lines.width, lines.random)
    lids = [head.vertices[_lids(model, side)] for side in (0, 1)]
    eyes = np.stack([(lid.min(axis=0) + lid.max(axis=0)) / 2 for lid in lids])
    balls = np.stack([model.eyeball(head.vertices, side) for side in (0, 1)])
    lips = model.masks[:, 0] > 0.5
    left = np.where(lips, model.template[:, 0], 1).argmin()
    right = np.where(lips, model.template[:, 0], -1).argmax()
    mouth = (head.vertices[left] + head.vertices[right]) / 2
    look = camera - balls.mean(axis=0)
    look = rotation(factors.gaze_x, factors.gaze_y, 0) @ (look / np.linalg.norm(look))
    return Person(factors, details, head, meshes, len(extras), grown, eyes, balls, mouth, turn.T @ look, turn)


def _lids(model: HeadModel, side: int) -> Array:
    """Which vertices are an eye's lids."""
    return (model.masks[:, 1] > 0.3) & (np.sign(model.template[:, 0]) == (-1, 1)[side])


def _under_hat(lines: hair.Strands, rest: Array) -> hair.Strands:
    """Hair above a hat's band lies flat on the head."""
    surface, points = hair.RadialMap(rest, ears=False), lines.points
    reach, radius = surface(points)
    over = step(0.035, 0.055, points[..., 2])
    excess = np.maximum(radius - reach - 0.002, 0) * over
    direction = (points - hair.CENTRE) / np.maximum(radius, 1e-6)[..., None]
    return hair.Strands((points - direction * excess[..., None]).astype(np.float32), lines.width, lines.random)
