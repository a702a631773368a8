"""InterfaceGAN (Shen et al., arXiv 1907.10786): one direction in w for all styles."""

from torch import Tensor

from editings.edit import Edit, LinearW, WFamily
from editings.files import check_shape, read_tensor


class InterfaceGAN(WFamily):
    """w + p/2 · d. Files: `.pt`, d is 1×D."""

    def edit(self, name: str, like: Tensor) -> Edit[Tensor]:
        path = self.resources.folder / self.spec["directions"][name]["file"]
        direction = check_shape(path, read_tensor(path), 1, like.shape[-1])
        return LinearW(direction.to(like) / 2)
