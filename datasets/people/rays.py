"""Rays cast at meshes by Intel's Embree."""

from collections.abc import Sequence

import numpy as np

from datasets.people.fields import Array
from datasets.people.mesh import Mesh
from utils.errors import UserError


class Scene:
    """Meshes that rays may meet. Raises UserError if `embreex` is missing."""

    def __init__(self, meshes: Sequence[Mesh]) -> None:
        try:
            from embreex.mesh_construction import TriangleMesh
            from embreex.rtcore_scene import EmbreeScene
        except ImportError as error:
            raise UserError(f"people are drawn by the package {error.name}: pip install -e '.[people]'") from error
        self._scene = EmbreeScene()
        # Embree reads the meshes as long as the scene lives.
        self._meshes = [
            TriangleMesh(
                self._scene, np.ascontiguousarray(mesh.vertices, np.float32), np.ascontiguousarray(mesh.faces, np.int32)
            )
            for mesh in meshes
        ]

    def first_hits(self, origins: Array, directions: Array) -> dict[str, Array]:
        """What each ray N×3 meets first: geomID (which mesh), primID (which triangle, -1: nothing), u and v (where in
        it), tfar (distance in lengths of the direction), Ng (N×3, the triangle's normal, of any length)."""
        return self._scene.run(origins, directions, output=1)

    def blocked(self, origins: Array, directions: Array, reach: float = np.inf) -> Array:
        """Whether each ray N×3 meets anything within `reach`: N, bool."""
        origins, directions = origins.astype(np.float32), directions.astype(np.float32)
        distances = np.full(len(origins), reach, np.float32)
        return self._scene.run(origins, directions, dists=distances, query="OCCLUDED") >= 0
