"""ViT-Face (arXiv 2103.14803): a vision transformer with overlapping patches that recognises faces."""

import re
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from configs.paths import weight_file
from models.weights import load_frozen, read_tensors

_SIZE, _PATCH, _STRIDE, _PAD = 112, 12, 8, 4  # pixels; 14×14 patches
_WIDTH, _HEADS, _HIDDEN, _DEPTH = 512, 8, 2048, 20

# The published file counts the layers of its nested wrappers; these are the names of the parts.
_NAMES = {
    "0.fn.norm": "norm1",
    "0.fn.fn.to_qkv": "qkv",
    "0.fn.fn.to_out.0": "out",
    "1.fn.norm": "norm2",
    "1.fn.fn.net.0": "mlp.0",
    "1.fn.fn.net.3": "mlp.2",
}


class IDViTLoss(nn.Module):
    """10,000 times the mean squared difference of the ViT-Face embeddings."""

    SCALE = 10_000

    def __init__(self, path: Path | None = None) -> None:
        """`path`: the tensors of the published file; its `loss.weight`, a training head, is not used."""
        super().__init__()
        path = path or weight_file("vit_path")
        tensors = {_our_name(key): value for key, value in read_tensors(path).items()}
        self.net = load_frozen(ViTFace, tensors, str(path), ignored=("loss.",))

    def embed(self, x: Tensor) -> Tensor:
        """x B×3×H×W → B×512. In [-1, 1] for the loss; the metric's convention is [0, 1]."""
        return self.net(F.adaptive_avg_pool2d(x, _SIZE))

    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        """Two B×3×H×W in [-1, 1] → one number; the gradient reaches `fake` only."""
        with torch.no_grad():
            target = self.embed(real)
        return self.SCALE * F.mse_loss(self.embed(fake), target)


class ViTFace(nn.Module):
    """B×3×112×112 → B×512."""

    def __init__(self) -> None:
        super().__init__()
        patches = ((_SIZE + 2 * _PAD - _PATCH) // _STRIDE + 1) ** 2
        self.pos_embedding = nn.Parameter(torch.zeros(1, 1 + patches, _WIDTH))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, _WIDTH))
        self.patch_to_embedding = nn.Linear(3 * _PATCH**2, _WIDTH)
        self.layers = nn.Sequential(*(Block() for _ in range(_DEPTH)))
        self.norm = nn.LayerNorm(_WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        patches = F.unfold(x, _PATCH, stride=_STRIDE, padding=_PAD).mT  # B×196×432
        tokens = torch.cat([self.cls_token.expand(len(x), -1, -1), self.patch_to_embedding(patches)], 1)
        return self.norm(self.layers(tokens + self.pos_embedding)[:, 0])


class Block(nn.Module):
    """Pre-norm attention and MLP. Attention is scaled by the model's width, not the head's, as it was trained."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(_WIDTH)
        self.qkv = nn.Linear(_WIDTH, 3 * _WIDTH, bias=False)
        self.out = nn.Linear(_WIDTH, _WIDTH)
        self.norm2 = nn.LayerNorm(_WIDTH)
        self.mlp = nn.Sequential(nn.Linear(_WIDTH, _HIDDEN), nn.GELU(), nn.Linear(_HIDDEN, _WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, n, 3, _HEADS, -1).permute(2, 0, 3, 1, 4)  # each B×heads×N×64
        attended = F.scaled_dot_product_attention(q, k, v, scale=_WIDTH**-0.5)
        x = x + self.out(attended.transpose(1, 2).reshape(b, n, _WIDTH))
        return x + self.mlp(self.norm2(x))


def _our_name(key: str) -> str:
    match = re.fullmatch(r"transformer\.layers\.(\d+)\.(.*)\.(weight|bias)", key)
    if match:
        layer, part, kind = match.groups()
        return f"layers.{layer}.{_NAMES.get(part, part)}.{kind}"
    return key.replace("mlp_head.0.", "norm.")
