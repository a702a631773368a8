"""Metrics of pixels and of perception: l2, lpips, msssim."""

from typing import ClassVar

import torch
from torch import Tensor

from metrics.base import AT_256, AT_1024, PairMetric, signed, unit


class L2(PairMetric):
    """Mean squared difference in [-1, 1] at 256 px."""

    view = AT_256
    columns: ClassVar = {"l2": False}

    def measure(self, real: Tensor, fake: Tensor) -> Tensor:
        difference = signed(real, self.device) - signed(fake, self.device)
        return difference.square().mean(dim=(1, 2, 3))[:, None]


class LPIPS(PairMetric):
    """LPIPS v0.1 (arXiv 1801.03924) on AlexNet at 256 px."""

    view = AT_256
    columns: ClassVar = {"lpips": False}

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        from criteria.lpips_loss import LPIPSLoss

        self.network = LPIPSLoss("alex").to(device)

    def measure(self, real: Tensor, fake: Tensor) -> Tensor:
        return self.network.distances(signed(fake, self.device), signed(real, self.device))[:, None]


class MSSSIM(PairMetric):
    """Multi-scale structural similarity (Wang et al., 2003) at 1024 px in [0, 1]; window 11, σ 1.5."""

    view = AT_1024
    columns: ClassVar = {"msssim": True}

    def measure(self, real: Tensor, fake: Tensor) -> Tensor:
        from piq import multi_scale_ssim

        return multi_scale_ssim(unit(fake, self.device), unit(real, self.device), reduction="none")[:, None]
