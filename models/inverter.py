"""The two trained networks of StyleFeatureEditor: Inverter (stage 1) and Feature Editor (stage 2)."""

import torch
from torch import Tensor, nn

from arguments.domain import DomainConfig
from models.backbone import Backbone, conv3


class FusionBlock(nn.Module):
    """x + (BN, conv3, BN, PReLU, conv3, BN)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(channels), conv3(channels, channels), nn.BatchNorm2d(channels), nn.PReLU(channels),
            conv3(channels, channels), nn.BatchNorm2d(channels),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class FeatureFusion(nn.Module):
    """Two feature maps to one. As Fuser it reads [predicted, F_w], as Feature Editor [F_k, delta]."""

    def __init__(self, domain: DomainConfig) -> None:
        super().__init__()
        channels = domain.feature_channels
        # In the order of the published files: their optimizer states go by position.
        self.body = nn.Sequential(*(FusionBlock(channels) for _ in range(domain.inverter.fusion_blocks)))
        self.conv = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """a, b B×C×h×w → B×C×h×w."""
        return self.body(self.conv(torch.cat([a, b], dim=1)))


class Inverter(nn.Module):
    """Backbone and Fuser, under the published key names."""

    def __init__(self, domain: DomainConfig) -> None:
        super().__init__()
        self.fs_backbone = Backbone(domain)
        self.fuser = FeatureFusion(domain)
