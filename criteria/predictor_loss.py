"""A perceptual distance in the features of a domain's attribute predictor, like LPIPS."""

from pathlib import Path

import torch
from torch import Tensor, nn

from models.weights import load_predictor


class PredictorLoss(nn.Module):
    """As LPIPS (arXiv 1801.03924): features of two images, normalised over channels, are compared pixel by pixel.

    The network is the predictor, and all its channels have the same weight.
    """

    def __init__(self, path: Path) -> None:
        """`path`: the predictor's file. Raises UserError if it is missing or does not fit."""
        super().__init__()
        self.predictor = load_predictor(path)

    def distances(self, fake: Tensor, real: Tensor) -> Tensor:
        """Two B×3×S×S in [-1, 1] → B distances."""
        with torch.no_grad():
            target = self.predictor.features(real)
        pairs = zip(self.predictor.features(fake), target, strict=True)
        return torch.stack([(_unit(a) - _unit(b)).square().sum(1).mean(dim=(1, 2)) for a, b in pairs]).sum(0)

    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        """Two B×3×S×S in [-1, 1] → one number."""
        return self.distances(fake, real).mean()


def _unit(maps: Tensor) -> Tensor:
    return maps * torch.rsqrt(maps.square().sum(dim=1, keepdim=True) + 1e-8)
