"""Loop subdivision of triangle meshes (C. Loop, Smooth Subdivision Surfaces Based on Triangles, 1987)."""

import numpy as np
from numpy.typing import NDArray


class Subdivision:
    """One step for a mesh with borders: every edge gets a vertex in its middle, and every triangle becomes four."""

    def __init__(self, faces: NDArray, count: int) -> None:
        """faces F×3 of `count` vertices."""
        sides = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
        opposite = np.concatenate([faces[:, 2], faces[:, 0], faces[:, 1]])
        self.edges, where, uses = np.unique(sides, axis=0, return_inverse=True, return_counts=True)
        where = where.ravel()
        middle = where.reshape(3, -1).T + count
        self.faces = np.concatenate([
            np.stack([faces[:, 0], middle[:, 0], middle[:, 2]], 1),
            np.stack([middle[:, 0], faces[:, 1], middle[:, 1]], 1),
            np.stack([middle[:, 2], middle[:, 1], faces[:, 2]], 1), middle,
        ])  # fmt: skip
        self.inner = uses == 2
        order = np.argsort(where, kind="stable")
        first = np.concatenate([[0], np.cumsum(uses)[:-1]])
        self.wings = np.stack([opposite[order[first]], opposite[order[np.minimum(first + 1, len(order) - 1)]]], axis=1)
        self.count = count
        border = np.zeros(count, bool)
        border[self.edges[~self.inner].ravel()] = True
        self.border = border

    def __call__(self, values: NDArray) -> NDArray:
        """values ...×V×C → ...×(V + edges)×C, smoothed."""
        if values.ndim == 3:
            return np.stack([self(value) for value in values])
        a, b = values[self.edges[:, 0]], values[self.edges[:, 1]]
        wings = values[self.wings[:, 0]] + values[self.wings[:, 1]]
        # Loop's weights: 3/8 and 1/8 for a new vertex, β for an old one by the number of its edges.
        odd = np.where(self.inner[:, None], 0.375 * (a + b) + 0.125 * wings, 0.5 * (a + b))
        total, degree = np.zeros_like(values), np.zeros(self.count)
        for start, end in ((0, 1), (1, 0)):
            np.add.at(total, self.edges[:, start], values[self.edges[:, end]])
            np.add.at(degree, self.edges[:, start], 1)
        beta = (0.625 - (0.375 + 0.25 * np.cos(2 * np.pi / degree)) ** 2)[:, None]
        even = np.where(self.border[:, None], values, (1 - beta) * values + beta * total / degree[:, None])
        return np.concatenate([even, odd])

    def linear(self, values: NDArray) -> NDArray:
        """The same without smoothing."""
        return np.concatenate([values, values[self.edges].mean(axis=1)])

    def labels(self, values: NDArray) -> NDArray:
        """Of whole numbers: an edge has its first vertex's."""
        return np.concatenate([values, values[self.edges[:, 0]]])
