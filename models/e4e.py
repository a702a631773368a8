"""e4e (arXiv 2102.02766): an image to W+, the latents in which edits are well behaved."""

import math
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arguments.domain import DomainConfig
from models.irse import IRBody
from models.stylegan2.layers import EqualLinear

T = TypeVar("T")


class StyleHead(nn.Module):
    """log2(map size) convs of stride 2, each with leaky ReLU, then a linear layer: one map to one style."""

    def __init__(self, in_channels: int, style_dim: int, map_size: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i in range(int(math.log2(map_size))):
            layers += [nn.Conv2d(style_dim if i else in_channels, style_dim, 3, 2, padding=1), nn.LeakyReLU()]
        self.convs = nn.Sequential(*layers)
        self.linear = EqualLinear(style_dim, style_dim)

    def forward(self, x: Tensor) -> Tensor:  # B×C×S×S → B×D
        return self.linear(self.convs(x).flatten(1))


class E4E(IRBody):
    """IR-SE body, feature pyramid of three maps, one head per style."""

    def __init__(self, domain: DomainConfig) -> None:
        config = domain.e4e
        super().__init__(config.widths, config.blocks, squeeze_excite=True)
        self.size = domain.encoder_size
        *_, fine, middle, coarse = config.widths
        self.latlayer1 = nn.Conv2d(middle, coarse, 1)
        self.latlayer2 = nn.Conv2d(fine, coarse, 1)
        self.first_middle, self.first_fine = config.coarse_styles, config.middle_styles
        self.styles = nn.ModuleList(
            StyleHead(coarse, domain.generator.style_dim, domain.encoder_size // self._pick(i, 16, 8, 4))
            for i in range(domain.generator.n_styles)
        )

    def _pick(self, style: int, coarse: T, middle: T, fine: T) -> T:
        return coarse if style < self.first_middle else middle if style < self.first_fine else fine

    def forward(self, x: Tensor) -> Tensor:
        """x B×3×S×S in [-1, 1] → offsets B×n_styles×D; latent_avg is not added. Style 0 is the base of all others."""
        _, fine, middle, coarse = self.stages(x)
        middle = self._upsample(coarse, middle) + self.latlayer1(middle)
        fine = self._upsample(middle, fine) + self.latlayer2(fine)
        heads = [head(self._pick(i, coarse, middle, fine)) for i, head in enumerate(self.styles)]
        return torch.stack([heads[0], *(heads[0] + offset for offset in heads[1:])], dim=1)

    @staticmethod
    def _upsample(x: Tensor, like: Tensor) -> Tensor:
        return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=True)
