"""GANSpace (Härkönen et al., arXiv 2004.02546): principal components of w, applied to a range of styles."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from editings.edit import Edit, WFamily
from editings.files import check_shape, wrong_content
from models.weights import read_tensors
from utils.errors import UserError


@dataclass(frozen=True)
class ComponentEdit:
    """Set the image's coordinate along a component to p, in standard deviations, for the styles first … last − 1."""

    mean: Tensor  # D
    component: Tensor  # D
    std: Tensor  # scalar
    first: int
    last: int

    def __call__(self, latent: Tensor, power: Tensor, image: Tensor | None) -> Tensor:
        coordinate = (latent[:, 0] - self.mean) @ self.component / self.std  # B; style 0 represents the image
        move = torch.zeros_like(latent)
        move[:, self.first : self.last] = ((power - coordinate) * self.std)[:, None, None] * self.component
        return move


class GANSpace(WFamily):
    """Add (p − k)·comp·std to styles a … b−1, with k = ⟨w₀ − mean, comp⟩ / std.

    File: `.pt` with `mean` 1×D, `comp` N×1×D and `std` N, for all the family's directions.
    """

    @cached_property
    def _components(self) -> dict[str, Tensor]:
        return read_tensors(self.resources.folder / self.spec["file"])

    def edit(self, name: str, like: Tensor) -> Edit[Tensor]:
        entry = self.spec["directions"][name]
        index, (first, last) = entry["component"], entry["styles"]
        n_styles, dim = like.shape[1:]
        if not 0 <= first < last <= n_styles:
            raise UserError(f"editings.ganspace '{name}': styles {first}..{last}, but the generator has {n_styles}")
        path = self.resources.folder / self.spec["file"]
        if missing := {"mean", "comp", "std"} - self._components.keys():
            raise wrong_content(path, f"no {', '.join(sorted(missing))}", "mean, comp and std")
        count = len(self._components["std"])
        if not 0 <= index < count:
            raise wrong_content(path, f"{count} components", f"component {index} for '{name}'")
        mean = check_shape(path, self._components["mean"], 1, dim)
        components = check_shape(path, self._components["comp"], count, 1, dim)
        std = self._components["std"][index]
        return ComponentEdit(mean[0].to(like), components[index, 0].to(like), std.to(like), first, last)
