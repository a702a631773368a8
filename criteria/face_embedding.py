"""Face recognition networks with an IR body: a face crop → a vector whose dot products measure identity."""

from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from models.irse import IRBody
from models.weights import load_frozen, read_tensors

_WIDTHS = [64, 64, 128, 256, 512]


class FaceEmbedding(IRBody):
    """IR or IR-SE body and the head that reads its 7×7 map (ArcFace, arXiv 1801.07698)."""

    def __init__(self, blocks: list[int], squeeze_excite: bool, affine: bool) -> None:
        """`affine`: whether the last BatchNorm has a scale and a shift."""
        super().__init__(_WIDTHS, blocks, squeeze_excite)
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(512), nn.Dropout(), nn.Flatten(), nn.Linear(512 * 7 * 7, 512),
            nn.BatchNorm1d(512, affine=affine),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """x B×3×112×112 in [-1, 1] → B×512 of length 1."""
        return F.normalize(self.output_layer(self.stages(x)[-1]))


def load_arcface(path: Path) -> FaceEmbedding:
    """IR-SE-50 of `model_ir_se50.pth`, frozen."""
    return load_frozen(lambda: FaceEmbedding([3, 4, 14, 3], True, True), read_tensors(path), str(path))


def load_curricular_face(path: Path) -> FaceEmbedding:
    """IR-101 of `CurricularFace_Backbone.pth` (arXiv 2004.00288), frozen."""
    return load_frozen(lambda: FaceEmbedding([3, 13, 30, 3], False, False), read_tensors(path), str(path))
