"""Boundaries of the Feature-Style encoder (Yao et al., arXiv 2202.02183): another direction for each style."""

from pathlib import Path

import numpy as np
from torch import Tensor

from editings.edit import Edit, LinearW, WFamily
from editings.files import check_shape, read_array
from utils.files import atomic_path


class FSBoundaries(WFamily):
    """flatten(w) + p · boundary. Files: `.npy`, 1×(n_styles·D)."""

    def edit(self, name: str, like: Tensor) -> Edit[Tensor]:
        path = self.resources.folder / self.spec["directions"][name]["file"]
        boundary = check_shape(path, read_array(path), 1, like[0].numel())
        return LinearW(boundary.reshape(like.shape[1:]).to(like))

    @staticmethod
    def save(move: Tensor, path: Path) -> None:
        """Write a direction file. move: n_styles×D, added to w by power 1."""
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.save(file, move.reshape(1, -1).numpy())
