"""The Inverter's backbone: iresnet stages (ArcFace, arXiv 1801.07698) that give style offsets and a content map."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arguments.domain import DomainConfig


def conv3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)


class Projection(nn.Conv2d):
    """A strided 1×1 conv, as one without stride of every so-manyth pixel.

    oneDNN's weight gradient of the strided one writes beyond its memory in channels_last with 8 channels (torch 2.14).
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x[..., :: self.stride[0], :: self.stride[1]], self.weight)


class IResNetBlock(nn.Module):
    """BN, conv3, BN, PReLU, conv3 with the stride, BN, plus the identity or a strided 1×1 conv with BN."""

    def __init__(self, in_channels: int, channels: int, stride: int, project: bool) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = conv3(in_channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)
        self.prelu = nn.PReLU(channels)
        self.conv2 = conv3(channels, channels, stride)
        self.bn3 = nn.BatchNorm2d(channels)
        self.downsample = nn.Sequential(
            Projection(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
        ) if project else nn.Identity()  # fmt: skip

    def branch(self) -> tuple[nn.Module, ...]:
        """The layers of the residual branch."""
        return self.bn1, self.conv1, self.bn2, self.prelu, self.conv2, self.bn3

    def forward(self, x: Tensor) -> Tensor:
        identity = self.downsample(x)
        for layer in self.branch():
            x = layer(x)
        return x + identity


class Backbone(nn.Module):
    """Feature-Style-like backbone (arXiv 2202.02183): one image to W+ offsets and predicted features."""

    POOL = 3  # each stage is pooled to 3×3 for the style heads

    def __init__(self, domain: DomainConfig) -> None:
        super().__init__()
        stem, *widths = domain.inverter.widths
        self.conv = nn.Sequential(conv3(3, stem), nn.BatchNorm2d(stem), nn.PReLU(stem))
        plan = zip([stem, *widths], widths, domain.inverter.blocks, domain.inverter.strides, strict=False)
        self.block_1, self.block_2, self.block_3, self.block_4 = (self._stage(*stage) for stage in plan)
        content, feature = widths[2], domain.feature_channels
        self.content_layer = nn.Sequential(
            nn.BatchNorm2d(content), conv3(content, feature), nn.BatchNorm2d(feature), nn.PReLU(feature),
            conv3(feature, feature), nn.BatchNorm2d(feature),
        )  # fmt: skip
        self.styles = nn.ModuleList(
            nn.Linear(sum(widths) * self.POOL**2, domain.generator.style_dim) for _ in range(domain.generator.n_styles)
        )

    @staticmethod
    def _stage(in_channels: int, channels: int, count: int, stride: int) -> nn.Sequential:
        rest = (IResNetBlock(channels, channels, 1, project=False) for _ in range(count - 1))
        return nn.Sequential(IResNetBlock(in_channels, channels, stride, project=True), *rest)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x B×3×S×S in [-1, 1] → offsets B×n_styles×D (latent_avg not added), content B×C×h×w (published: S/4)."""
        x1 = self.block_1(self.conv(x))
        x2 = self.block_2(x1)
        x3 = self.block_3(x2)
        x4 = self.block_4(x3)
        pooled = torch.cat([F.adaptive_avg_pool2d(stage, self.POOL).flatten(1) for stage in (x1, x2, x3, x4)], dim=1)
        return torch.stack([head(pooled) for head in self.styles], dim=1), self.content_layer(x3)
