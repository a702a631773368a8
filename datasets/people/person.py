"""A person as meshes: head, hair, wear, posed."""

from dataclasses import dataclass, replace

import numpy as np

from datasets.people import wear
from datasets.people.details import Details
from datasets.people.facial_hair import beard_hair, brow_hair
from datasets.people.factors import Factors
from datasets.people.fields import Array, rotation, step
from datasets.people.hair import scalp_hair
from datasets.people.head import EYELIDS, LIPS, HeadModel, head_model
from datasets.people.mesh import Mesh
from datasets.people.radial import CENTRE, RadialMap
from datasets.people.strands import Strands

HAIRS = ("hair", "beard", "brows")

PIVOT = np.array([0.0, 0.085, -0.115], np.float32)  # where the head turns


@dataclass(frozen=True)
class Person:
    """Meshes in the world and the points that alignment needs."""

    factors: Factors
    details: Details
    head: Mesh  # of head_model().faces; painted by head_model().template
    meshes: list[Mesh]  # everything else but hair
    strands: dict[str, Strands]  # by HAIRS, those that the person has
    eyes: Array  # 2×3, centres of the eyes' openings, negative x first
    eyeballs: Array  # 2×3
    mouth: Array  # 3, midway between the corners
    gaze: Array  # 3, direction in which the eyes look, in the template's frame
    turn: Array  # 3×3, the head's rotation


def assemble(factors: Factors, camera: Array, details: Details | None = None) -> Person:
    """The person, looking near the point `camera` (3, metres)."""
    model, details = head_model(), details or Details()
    rest = model.vertices(factors)
    head = Mesh(rest, model.faces, "head")
    strands = _strands(model, rest, head.normals(), factors)
    meshes = wear.teeth(rest, model, factors.mouth_open)
    if factors.glasses:
        meshes += wear.glasses(rest, model, factors)
    if factors.hat:
        meshes += wear.hat(rest, factors)
    meshes += details.meshes(rest, model)
    turn = rotation(factors.yaw, factors.pitch, factors.roll)

    # The shoulders stay, the neck follows by and by, and so does hair that lies on them.
    head.vertices = _posed(rest, turn, step(-0.215, -0.105, model.template[:, 2]))
    for mesh in meshes:
        mesh.vertices = _posed(mesh.vertices, turn)
    grown = {}
    for name, lines in strands.items():
        follow = 0.35 + 0.65 * step(-0.26, -0.09, lines.points[..., 2])
        grown[name] = replace(lines, points=_posed(lines.points, turn, follow))
    balls = np.stack([model.eyeball(head.vertices, side) for side in (0, 1)])
    look = camera - balls.mean(axis=0)
    look = rotation(factors.gaze_x, factors.gaze_y, 0) @ (look / np.linalg.norm(look))
    return Person(
        factors, details, head, meshes, grown, _eyes(model, head.vertices), balls, _mouth(model, head.vertices),
        turn.T @ look, turn,
    )  # fmt: skip


def _posed(points: Array, turn: Array, follow: Array | float = 1.0) -> Array:
    """Points ...×3 turned about PIVOT; `follow` (...): 1 all the way, 0 not at all."""
    moved = (points - PIVOT) @ turn.T + PIVOT
    return (points + np.asarray(follow)[..., None] * (moved - points)).astype(np.float32)


def _strands(model: HeadModel, rest: Array, normals: Array, factors: Factors) -> dict[str, Strands]:
    """By HAIRS, those that the person has."""
    scalp = scalp_hair(model, rest, normals, factors)
    if scalp is not None and factors.hat:
        scalp = _under_hat(scalp, rest)
    grown = (scalp, beard_hair(model, rest, normals, factors), brow_hair(model, rest, normals, factors))
    return {name: strands for name, strands in zip(HAIRS, grown, strict=True) if strands is not None}


def _eyes(model: HeadModel, vertices: Array) -> Array:
    """The middles of the boxes round the lids, 2×3."""
    lids = [vertices[_lids(model, side)] for side in (0, 1)]
    return np.stack([(lid.min(axis=0) + lid.max(axis=0)) / 2 for lid in lids])


def _mouth(model: HeadModel, vertices: Array) -> Array:
    """Midway between the corners of the lips, 3."""
    lips = model.masks[:, LIPS] > 0.5
    left = np.where(lips, model.template[:, 0], 1).argmin()
    right = np.where(lips, model.template[:, 0], -1).argmax()
    return (vertices[left] + vertices[right]) / 2


def _lids(model: HeadModel, side: int) -> Array:
    """Which vertices are an eye's lids."""
    return (model.masks[:, EYELIDS] > 0.3) & (np.sign(model.template[:, 0]) == (-1, 1)[side])


def _under_hat(lines: Strands, rest: Array) -> Strands:
    """Hair above a hat's band lies flat on the head."""
    surface, points = RadialMap(rest, ears=False), lines.points
    reach, radius = surface(points)
    over = step(0.035, 0.055, points[..., 2])
    excess = np.maximum(radius - reach - 0.002, 0) * over
    direction = (points - CENTRE) / np.maximum(radius, 1e-6)[..., None]
    return replace(lines, points=(points - direction * excess[..., None]).astype(np.float32))
