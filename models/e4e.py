"""e4e (arXiv 2102.02766): an image to W+, the latents in which edits are well behaved."""

import math
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arguments.domain import DomainConfig
from models.irse import IRBody
from models.stylegan2.layers import EqualLinear


class StyleHead(nn.Module):
    """log2(map size) convs of stride 2, each with leaky ReLU, then a linear layer: one map to one style."""

    def __init__(self, in_channels: int, width: int, style_dim: int, map_size: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i in range(int(math.log2(map_size))):
            layers += [nn.Conv2d(width if i else in_channels, width, 3, 2, padding=1), nn.LeakyReLU()]
        self.convs = nn.Sequential(*layers)
        self.linear = EqualLinear(width, style_dim)

    def forward(self, x: Tensor) -> Tensor:  # B×C×S×S → B×D
        return self.linear(self.convs(x).flatten(1))


class StyleHeads(nn.ModuleList):
    """One head for each style, in order: the first `counts[0]` read the first map, and so on."""

    def __init__(self, heads: Iterable[StyleHead], counts: Sequence[int]) -> None:
        super().__init__(heads)
        self.counts = counts

    def forward(self, *maps: Tensor) -> Tensor:
        """Maps B×C×S×S of different sizes S → B×n_styles×D."""
        read = [x for x, count in zip(maps, self.counts, strict=True) for _ in range(count)]
        return torch.stack([head(x) for head, x in zip(self, read, strict=True)], dim=1)


class E4E(IRBody):
    """IR-SE body, feature pyramid of three maps, one head per style."""

    def __init__(self, domain: DomainConfig) -> None:
        config = domain.e4e
        super().__init__(config.widths, config.blocks, squeeze_excite=True)
        self.size = domain.encoder_size
        *_, fine, middle, coarse = config.widths
        self.latlayer1 = nn.Conv2d(middle, coarse, 1)
        self.latlayer2 = nn.Conv2d(fine, coarse, 1)
        coarse_and_middle, n_styles = config.middle_styles, domain.generator.n_styles
        style_dim = domain.generator.style_dim
        counts = (config.coarse_styles, coarse_and_middle - config.coarse_styles, n_styles - coarse_and_middle)
        sizes = (domain.encoder_size // factor for factor in (16, 8, 4))
        heads = (
            StyleHead(coarse, config.head_width or style_dim, style_dim, size)
            for size, count in zip(sizes, counts, strict=True)
            for _ in range(count)
        )
        self.styles = StyleHeads(heads, counts)

    def forward(self, x: Tensor) -> Tensor:
        """x B×3×S×S in [-1, 1] → offsets B×n_styles×D; latent_avg is not added. Style 0 is the base of all others."""
        _, fine, middle, coarse = self.stages(x)
        middle = self._upsample(coarse, middle) + self.latlayer1(middle)
        fine = self._upsample(middle, fine) + self.latlayer2(fine)
        styles = self.styles(coarse, middle, fine)
        base, offsets = styles[:, :1], styles[:, 1:]
        return torch.cat([base, base + offsets], dim=1)

    @staticmethod
    def _upsample(x: Tensor, like: Tensor) -> Tensor:
        return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=True)
