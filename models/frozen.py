"""Frozen networks made fast: BatchNorm folded into the convs, channels_last, weights in the layout that runs best.

What is computed stays the same; tests/models/test_frozen.py and the goldens hold it to that.
"""

from collections.abc import Iterable
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.e4e import StyleHead
from models.inverter import FusionBlock
from models.iresnet import IResNetBlock
from models.irse import IRBlock
from utils.memory import is_mapped, release

M = TypeVar("M", bound=nn.Module)


def optimize(module: M) -> M:
    """Replace the parts of a frozen module by fast equals; returns the module."""
    return _fast(module)  # type: ignore[return-value]


def _fast(module: nn.Module) -> nn.Module:
    if isinstance(module, FusionBlock):
        return FrozenResidual(module.body, nn.Identity())
    if isinstance(module, IResNetBlock):
        return FrozenResidual(module.branch(), _fast(module.downsample))
    if isinstance(module, IRBlock):
        return FrozenResidual(module.res_layer, _fast(module.shortcut_layer))
    if isinstance(module, StyleHead):
        return FrozenStyleHead(module)
    if isinstance(module, nn.Sequential) and any(isinstance(layer, nn.BatchNorm2d) for layer in module):
        return nn.Sequential(*_fold(module))
    for name, child in module.named_children():
        setattr(module, name, _fast(child))
    return module


def _fold(layers: Iterable[nn.Module]) -> list[nn.Module]:
    """Convs with the BN and PReLU around them taken in; other layers stay as they are."""
    result: list[nn.Module] = []
    before: nn.BatchNorm2d | None = None
    for layer in layers:
        last = result[-1] if result else None
        if isinstance(layer, nn.Conv2d):
            result.append(FrozenConv(layer, before))
            before = None
        elif isinstance(layer, nn.BatchNorm2d) and isinstance(last, FrozenConv) and last.slope is None:
            last.fold(layer)
        elif isinstance(layer, nn.BatchNorm2d):
            before = layer
        elif isinstance(layer, nn.PReLU) and isinstance(last, FrozenConv):
            last.slope = layer.weight
        else:
            result.append(layer)
    return result


class FrozenConv(nn.Module):
    """[BN,] conv [, BN] [, PReLU] [, + residual].

    The BN behind the conv is folded into weight and bias. Of the BN in front a scale and a shift per channel remain:
    the conv's zero padding comes after it, so its shift cannot move behind the conv.
    """

    weight: Tensor
    bias: Tensor | None
    scale: Tensor | None
    shift: Tensor | None
    slope: Tensor | None

    def __init__(self, conv: nn.Conv2d, before: nn.BatchNorm2d | None) -> None:
        super().__init__()
        self.stride, self.padding = conv.stride, conv.padding
        self.register_buffer("weight", conv.weight.contiguous(memory_format=torch.channels_last))
        self.register_buffer("bias", conv.bias)
        scale, shift = (None, None) if before is None else _scale_and_shift(before)
        self.register_buffer("scale", scale)
        self.register_buffer("shift", shift)
        self.register_buffer("slope", None)

    def fold(self, after: nn.BatchNorm2d) -> None:
        """Take in a BN that follows."""
        scale, shift = _scale_and_shift(after)
        self.weight = self.weight * scale[:, None, None, None]
        self.bias = shift if self.bias is None else self.bias * scale + shift

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        if self.scale is not None and self.shift is not None:
            x = torch.addcmul(self.shift[:, None, None], x, self.scale[:, None, None])
        x = F.conv2d(x, self.weight, self.bias, self.stride, self.padding)
        if self.slope is not None:
            x = F.prelu(x, self.slope)
        return x if residual is None else x + residual


class FrozenResidual(nn.Module):
    """branch(x) + shortcut(x)."""

    def __init__(self, branch: Iterable[nn.Module], shortcut: nn.Module) -> None:
        super().__init__()
        self.branch = nn.ModuleList(_fold(branch))
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.shortcut(x)
        *layers, last = self.branch
        for layer in layers:
            x = layer(x)
        return last(x, shortcut) if isinstance(last, FrozenConv) else last(x) + shortcut


class FrozenStyleHead(nn.Module):
    """A StyleHead that reads its weights as they are stored.

    There are many of them (0.9 GB in the published e4e) for small maps, so that reading them is much of the work. They
    are used where the file is mapped, and given back after every picture.
    """

    SMALL = 8  # px; from here down a matrix product beats a convolution, which would first reorder the weights

    def __init__(self, head: StyleHead) -> None:
        super().__init__()
        self.convs, self.linear = head.convs, head.linear
        self.mapped = all(is_mapped(layer.weight) for layer in head.convs if isinstance(layer, nn.Conv2d))

    def forward(self, x: Tensor) -> Tensor:  # B×C×S×S → B×D
        for layer in self.convs:
            if isinstance(layer, nn.Conv2d) and x.shape[-1] <= self.SMALL:
                x = self._matrix_product(x, layer)
            else:
                x = layer(x)
            if self.mapped and isinstance(layer, nn.Conv2d) and x.device.type == "cpu":
                release(layer.weight)
        return self.linear(x.flatten(1))

    @staticmethod
    def _matrix_product(x: Tensor, conv: nn.Conv2d) -> Tensor:
        """conv(x), for 3×3 with stride 2 and padding 1."""
        columns = F.unfold(x, 3, padding=1, stride=2).transpose(1, 2)  # B×S²/4×9C
        y = F.linear(columns, conv.weight.flatten(1), conv.bias)
        return y.transpose(1, 2).unflatten(2, (x.shape[-1] // 2, -1))  # channels_last


def _scale_and_shift(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """BatchNorm in eval mode as x·scale + shift."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale
