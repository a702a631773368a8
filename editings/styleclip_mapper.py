"""StyleCLIP's latent mappers (Patashnik et al., arXiv 2103.17249): a trained network per direction."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from configs.paths import weight_file
from editings.edit import Edit, WFamily
from editings.files import wrong_content
from editings.mapping import input_dim, mapping_network
from models.weights import read_tensors


class LevelsMapper(nn.Module):
    """A network for each of the coarse, medium and fine styles; a level without one is not moved.

    Args:
        tensors: the state dict of the file `path`.
        levels: name in the file -> (first style, last style + 1); None is the end.
        dim: numbers of a style.
    """

    def __init__(
        self, tensors: Mapping[str, Tensor], levels: Mapping[str, tuple[int, int | None]], dim: int, path: Path
    ) -> None:
        super().__init__()
        self.spans = {}
        self.networks = nn.ModuleDict()
        for level, (first, last) in levels.items():
            prefix = f"mapper.{level}_mapping.mapping"
            if any(key.startswith(prefix) for key in tensors):
                self.spans[level] = slice(first, last)
                self.networks[level] = network = mapping_network(tensors, prefix, path)
                if input_dim(network) != dim:
                    raise wrong_content(path, f"a mapper of {input_dim(network)} features", f"{dim} features")
        if not self.spans:
            raise wrong_content(path, "no mapper", f"mapper.{{{','.join(levels)}}}_mapping.mapping.*")

    def forward(self, w: Tensor) -> Tensor:
        """w B×n_styles×D → its move, B×n_styles×D."""
        move = torch.zeros_like(w)
        for level, network in self.networks.items():
            move[:, self.spans[level]] = network(w[:, self.spans[level]])
        return move


class MapperEdit:
    """p · mapper(w)."""

    def __init__(self, mapper: LevelsMapper) -> None:
        self.mapper = mapper

    def __call__(self, latent: Tensor, power: Tensor, image: Tensor | None) -> Tensor:
        return power[:, None, None] * self.mapper(latent)


class StyleCLIPMapper(WFamily):
    """w + p · mapper(w). Files: `{folder}/{name}.pt` with the networks under `state_dict`."""

    def files(self, name: str) -> list[Path]:
        return [weight_file(self.spec["folder"]) / f"{name}.pt"]

    def edit(self, name: str, like: Tensor) -> Edit[Tensor]:
        (path,) = self.files(name)
        mapper = LevelsMapper(read_tensors(path, root="state_dict"), self.spec["levels"], like.shape[-1], path)
        return MapperEdit(mapper.to(like))
