"""MoCo-v2 features (arXiv 2003.04297): similarity of two images of any domain, as an identity loss beyond faces."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import resnet50

from configs.paths import weight_file
from models.weights import load_frozen, read_tensors


class MocoLoss(nn.Module):
    """1 − cosine of the MoCo-v2 ResNet-50 features, averaged over the batch."""

    def __init__(self, path: Path | None = None) -> None:
        """`path`: `{state_dict: {module.encoder_q.…}}`; the published file's fc, encoder_k and queue are not used."""
        super().__init__()
        path = path or weight_file("moco")
        tensors = read_tensors(path, "state_dict", "module.encoder_q.")
        self.net = load_frozen(_without_head, tensors, str(path), ignored=("fc.",))

    def embed(self, x: Tensor) -> Tensor:
        """x B×3×H×W in [-1, 1] → B×2048 of length 1.

        ImageNet's mean and std are not applied, unlike in MoCo's training.
        """
        return F.normalize(self.net(F.interpolate(x, size=224, mode="nearest")))

    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        """Two B×3×H×W in [-1, 1] → one number; the gradient reaches `fake` only."""
        with torch.no_grad():
            target = self.embed(real)
        return (1 - (self.embed(fake) * target).sum(1)).mean()


def _without_head() -> nn.Module:
    net = resnet50(weights=None)
    net.fc = nn.Identity()
    return net
