"""Boundaries of Feature-Style encoder's authors (Yao et al., arXiv 2202.02183): a direction of its own per style."""

from torch import Tensor

from editings.edit import Edit, LinearW, WFamily
from editings.files import check_shape, read_array


class FSBoundaries(WFamily):
    """flatten(w) + p · boundary. Files: `.npy`, 1×(n_styles·D)."""

    def edit(self, name: str, like: Tensor) -> Edit[Tensor]:
        path = self.resources.folder / self.spec["directions"][name]["file"]
        boundary = check_shape(path, read_array(path), 1, like[0].numel())
        return LinearW(boundary.reshape(like.shape[1:]).to(like))
