"""Triangle meshes and the few shapes that wear is made of."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from datasets.people.fields import Array, normalise

Faces = NDArray[np.int32]


@dataclass
class Mesh:
    """V vertices, F triangles; `material` names the paint: head, teeth, frame, lens, knit, cap, hair, beard, brows."""

    vertices: Array  # V×3, metres
    faces: Faces  # F×3
    material: str
    values: Array | None = None  # V×C, what the paint needs at every point
    colour: Array = field(default_factory=lambda: np.full(3, 0.5, np.float32))  # 3, linear light
    detail: bool = False  # one of Details' things

    def normals(self) -> Array:
        """V×3, smooth."""
        a, b, c = (self.vertices[self.faces[:, i]] for i in range(3))
        across = np.cross(b - a, c - a)
        total = np.zeros((len(self.vertices), 3))
        for axis in range(3):
            for corner in range(3):
                total[:, axis] += np.bincount(self.faces[:, corner], across[:, axis], len(self.vertices))
        return normalise(total.astype(np.float32))


def grid_faces(rows: int, columns: int, closed: bool = False) -> Faces:
    """Triangles of a grid of vertices in row order; `closed` joins the last column to the first."""
    index = np.arange(rows * columns, dtype=np.int32).reshape(rows, columns)
    right = np.roll(index, -1, axis=1)
    if not closed:
        index, right = index[:, :-1], right[:, :-1]
    quads = index[:-1], right[:-1], index[1:], right[1:]
    a, b, c, d = (quad.ravel() for quad in quads)
    return np.concatenate([np.stack([a, c, b], 1), np.stack([b, c, d], 1)])


def tube(
    path: Array, radius: float | Array, sides: int = 8, closed: bool = False, flat: float = 1.0
) -> tuple[Array, Faces]:
    """A tube round a path N×3, of one radius or N; `flat` squeezes it along its second axis."""
    forward = np.roll(path, -1, axis=0) - np.roll(path, 1, axis=0)
    if not closed:
        forward[0], forward[-1] = path[1] - path[0], path[-1] - path[-2]
    forward = normalise(forward)
    reference = np.where(np.abs(forward[:, 1:2]) > 0.9, [[0.0, 0.0, 1.0]], [[0.0, 1.0, 0.0]])
    across = normalise(np.cross(forward, reference))
    other = np.cross(forward, across)
    angle = np.linspace(0, 2 * np.pi, sides, endpoint=False)
    ring = np.cos(angle)[None, :, None] * across[:, None] + flat * np.sin(angle)[None, :, None] * other[:, None]
    points = path[:, None] + ring * np.broadcast_to(radius, len(path))[:, None, None]
    if closed:
        points = np.concatenate([points, points[:1]])
    return points.reshape(-1, 3).astype(np.float32), grid_faces(len(points), sides, closed=True)


def join(parts: list[tuple[Array, Faces]]) -> tuple[Array, Faces]:
    """One mesh of several."""
    counts = np.cumsum([0, *(len(vertices) for vertices, _ in parts)])
    faces = [part + count for (_, part), count in zip(parts, counts[:-1], strict=True)]
    return np.concatenate([vertices for vertices, _ in parts]), np.concatenate(faces).astype(np.int32)
