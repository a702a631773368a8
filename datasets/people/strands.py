"""Strands of hair: where they grow, and the ribbons that they are drawn as."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from datasets.people.fields import Array, normalise
from datasets.people.head import SKIN, head_model
from datasets.people.mesh import Faces, grid_faces


@dataclass(frozen=True)
class Strands:
    """N strands of S + 1 points."""

    points: Array  # N×(S+1)×3, metres
    width: Array  # N, metres
    random: Array  # N×4, uniform numbers of each strand


@dataclass(frozen=True)
class Roots:
    """N places on the head's mesh, the same for every person."""

    corners: Faces  # N×3, the triangles' vertices
    weights: Array  # N×3, barycentric
    random: Array  # N×4, uniform numbers in [0, 1)

    def at(self, values: Array) -> Array:
        """Values V×C of the mesh's vertices, there: N×C."""
        return np.einsum("nk,nkc->nc", self.weights, values[self.corners])

    def where(self, kept: Array) -> "Roots":
        """Those of the mask N."""
        return Roots(self.corners[kept], self.weights[kept], self.random[kept])


@cache
def roots(count: int, seed: int, region: Callable[[Array, Array], Array]) -> Roots:
    """`count` roots, evenly on the skin where `region` holds.

    region: (F×3 centres of triangles in template coordinates, F×3×5 masks of their corners) → F, bool.
    """
    model = head_model()
    corners = model.template[model.faces]
    inside = region(corners.mean(axis=1), model.masks[model.faces]) & (model.parts[model.faces] == SKIN).all(axis=1)
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) * inside
    rng = np.random.default_rng(seed)
    chosen = np.searchsorted(np.cumsum(area) / area.sum(), (np.arange(count) + rng.random(count)) / count)
    chosen = np.minimum(chosen, len(area) - 1)
    u = rng.random((count, 2))
    u = np.where(u.sum(axis=1, keepdims=True) > 1, 1 - u, u)
    weights = np.concatenate([1 - u.sum(axis=1, keepdims=True), u], axis=1)
    return Roots(model.faces[chosen], weights.astype(np.float32), rng.random((count, 4)).astype(np.float32))


def along_surface(vectors: Array, normals: Array) -> Array:
    """Vectors N×3 without their part along the normals N×3, of length 1."""
    return normalise(vectors - (vectors * normals).sum(axis=1, keepdims=True) * normals)


def ribbons(strands: Strands, eye: Array) -> tuple[Array, Faces, Array]:
    """Strands as ribbons that face the point `eye`: vertices, triangles, values.

    The values, V×6: along the strand 0 to 1, across it 0 or 1, the strand's random number, its tangent.
    """
    line = strands.points
    count, steps = line.shape[:2]
    tangent = normalise(np.gradient(line, axis=1))
    across = normalise(np.cross(tangent, line - eye))
    along = np.linspace(0, 1, steps, dtype=np.float32)
    taper = strands.width[:, None] * (1 - 0.75 * along**3)[None] / 2
    sides = np.stack([line - across * taper[..., None], line + across * taper[..., None]], axis=2)  # N×S×2×3
    base = (np.arange(count, dtype=np.int32) * 2 * steps)[:, None, None]
    faces = (base + _ribbon_faces(steps)[None]).reshape(-1, 3)
    values = np.empty((count, steps, 2, 6), np.float32)
    values[..., 0] = along[None, :, None]
    values[..., 1] = (0.0, 1.0)
    values[..., 2] = strands.random[:, None, None, 3]
    values[..., 3:] = tangent[:, :, None]
    return sides.reshape(-1, 3).astype(np.float32), faces.astype(np.int32), values.reshape(-1, 6)


@cache
def _ribbon_faces(steps: int) -> Faces:
    """Triangles of one ribbon of `steps` pairs of points."""
    return grid_faces(steps, 2)
