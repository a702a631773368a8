"""InterfaceGAN (Shen et al., arXiv 1907.10786): one direction in w for all styles."""

from pathlib import Path

import torch
from torch import Tensor

from editings.edit import Edit, LinearW, WFamily
from editings.files import check_shape, read_tensor
from utils.files import atomic_path


class InterfaceGAN(WFamily):
    """w + p · SCALE · d. Files: `.pt`, d is 1×D."""

    SCALE = 0.5

    def edit(self, name: str, like: Tensor) -> Edit[Tensor]:
        path = self.resources.folder / self.spec["directions"][name]["file"]
        direction = check_shape(path, read_tensor(path), 1, like.shape[-1])
        return LinearW(direction.to(like) * self.SCALE)

    @classmethod
    def save(cls, move: Tensor, path: Path) -> None:
        """Write a direction file. move: D, added to w by power 1."""
        with atomic_path(path) as temporary:
            torch.save((move / cls.SCALE)[None].contiguous(), temporary)
