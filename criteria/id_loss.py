"""Identity loss: similarity of the faces of two aligned images by ArcFace."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from configs.paths import weight_file
from criteria.face_embedding import load_arcface

_SIZE = 256
_ROWS, _COLUMNS = slice(35, 223), slice(32, 220)  # the face in a 256 px crop of FFHQ's alignment


class IDLoss(nn.Module):
    """1 − cosine of the ArcFace embeddings, averaged over the batch."""

    def __init__(self, path: Path | None = None) -> None:
        super().__init__()
        self.net = load_arcface(path or weight_file("ir_se50_path"))

    def embed(self, x: Tensor) -> Tensor:
        """x B×3×H×W in [-1, 1], FFHQ's alignment → B×512 of length 1."""
        x = x if x.shape[-2:] == (_SIZE, _SIZE) else F.adaptive_avg_pool2d(x, _SIZE)
        return self.net(F.adaptive_avg_pool2d(x[:, :, _ROWS, _COLUMNS], 112))

    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        """Two B×3×H×W in [-1, 1] → one number; the gradient reaches `fake` only."""
        with torch.no_grad():
            target = self.embed(real)
        return (1 - (self.embed(fake) * target).sum(1)).mean()
