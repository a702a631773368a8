"""Frozen networks made fast: BatchNorm folded into the convs, channels_last, weights in the layout that runs best.

What is computed stays the same; tests/models/test_frozen.py and the goldens hold it to that. All is decided when a
network is made ready: a forward changes nothing in it, so that copies and compiled graphs of it are right.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.backbone import IResNetBlock
from models.e4e import StyleHead
from models.irse import IRBlock
from models.sfe import FusionBlock
from models.stylegan2.layers import EqualLinear, StyledConv, ToRGB, full_precision
from models.stylegan2.ops import (
    blur_bias_act,
    fused_bias_act,
    upfirdn2d,
    winograd_conv,
    winograd_fits,
    winograd_weight,
)

M = TypeVar("M", bound=nn.Module)


class SizedConv(nn.Module, ABC):
    """A conv that is laid out for the size of what it reads."""

    @abstractmethod
    def make_ready(self, x: Tensor, winograd: bool, frugal: bool) -> None:
        """Choose how to compute for inputs of x's size; see `optimize`."""


def optimize(module: M, *inputs: Tensor | list[Tensor], winograd: bool = True, frugal: bool = False) -> M:
    """Replace the parts of a frozen module by fast equals; returns the module.

    Args:
        inputs: of the module's forward, with batch size 0: they say for which sizes it is made ready. It runs on others
            too, if less fast.
        winograd: take Winograd's convs where they are faster; they are for float32 on the CPU.
        frugal: for networks that run once an image. Winograd's weights are four times as big as the plain ones; they
            are then made at every use, which costs about a fifth of the conv's time, and not kept.
    """
    module = _fast(module)  # type: ignore[assignment]
    for conv, x in _conv_inputs(module, inputs):
        conv.make_ready(x, winograd, frugal)
    return module


def _conv_inputs(module: nn.Module, inputs: tuple) -> list[tuple[SizedConv, Tensor]]:
    """The module's convs with what each reads when the module reads `inputs`."""
    found: list[tuple[SizedConv, Tensor]] = []
    convs = [part for part in module.modules() if isinstance(part, SizedConv)]
    hooks = [conv.register_forward_pre_hook(lambda conv, given: found.append((conv, given[0]))) for conv in convs]
    with torch.inference_mode():
        module(*inputs)
    for hook in hooks:
        hook.remove()
    return found


def _fast(module: nn.Module) -> nn.Module:
    if isinstance(module, FusionBlock):
        return FrozenResidual(module.body, nn.Identity())
    if isinstance(module, IResNetBlock):
        return FrozenResidual(module.branch(), _fast(module.downsample))
    if isinstance(module, IRBlock):
        return FrozenResidual(module.res_layer, _fast(module.shortcut_layer))
    if isinstance(module, EqualLinear):
        return FrozenLinear(module)
    if isinstance(module, StyleHead):
        module.convs = nn.Sequential(*(HeadConv(x) if isinstance(x, nn.Conv2d) else x for x in module.convs))
    if isinstance(module, StyledConv):
        return FrozenStyledConv(module)
    if isinstance(module, ToRGB):
        return FrozenToRGB(module)
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


class FrozenConv(SizedConv):
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
        self.stride, self.padding, self.size = conv.stride, conv.padding, conv.kernel_size
        self.register_buffer("weight", conv.weight)
        self.register_buffer("bias", conv.bias)
        scale, shift = (None, None) if before is None else _scale_and_shift(before)
        self.register_buffer("scale", scale)
        self.register_buffer("shift", shift)
        self.register_buffer("slope", None)
        self.winograd = self.frugal = False

    def fold(self, after: nn.BatchNorm2d) -> None:
        """Take in a BN that follows."""
        scale, shift = _scale_and_shift(after)
        self.weight = self.weight * scale[:, None, None, None]
        self.bias = shift if self.bias is None else self.bias * scale + shift

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        if self.winograd:
            weight = winograd_weight(self.weight) if self.frugal else self.weight
            return winograd_conv(x, weight, self.bias, self.scale, self.shift, self.slope, residual)
        if self.scale is not None and self.shift is not None:
            x = torch.addcmul(self.shift[:, None, None], x, self.scale[:, None, None])
        x = F.conv2d(x, self.weight, self.bias, self.stride, self.padding)
        if self.slope is not None:
            x = F.prelu(x, self.slope)
        return x if residual is None else x + residual

    def make_ready(self, x: Tensor, winograd: bool, frugal: bool) -> None:
        plain = self.size == (3, 3) and self.stride == (1, 1) and self.padding == (1, 1)
        self.winograd, self.frugal = winograd and plain and winograd_pays(x, len(self.weight)), frugal
        if not self.winograd:
            self.weight = self.weight.contiguous(memory_format=torch.channels_last)
        elif not frugal:
            self.weight = winograd_weight(self.weight)


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


class FrozenLinear(nn.Module):
    """An EqualLinear whose weight and bias are scaled once."""

    weight: Tensor
    bias: Tensor

    def __init__(self, layer: EqualLinear) -> None:
        super().__init__()
        self.register_buffer("weight", layer.weight * layer.scale)
        self.register_buffer("bias", layer.bias * layer.lr_mul)
        self.activation = layer.activation

    def forward(self, x: Tensor) -> Tensor:
        with full_precision(x):  # few numbers, and styles want all their digits
            x = F.linear(x.float(), self.weight, self.bias)
        return F.leaky_relu(x, 0.2) * math.sqrt(2) if self.activation else x


class FrozenStyledConv(SizedConv):
    """A StyledConv that keeps what depends on its weight alone, and is one pass where Winograd pays."""

    weight: Tensor
    energy: Tensor
    kernel: Tensor
    slope: Tensor

    def __init__(self, layer: StyledConv) -> None:
        super().__init__()
        self.conv = nn.Module()  # Generator.affine looks for the modulation here
        self.conv.modulation = FrozenLinear(layer.conv.modulation)
        self.up, self.scale = layer.conv.up, layer.conv.scale
        weight = layer.conv.weight[0]  # out×in
        self.register_buffer("weight", weight.transpose(0, 1) if self.up else weight)
        self.register_buffer("energy", (weight * self.scale).square().sum(dim=(2, 3)))  # out×in
        self.register_buffer("kernel", layer.kernel)
        self.bias, self.noise_weight = layer.activate.bias, layer.noise.weight
        self.register_buffer("slope", torch.full_like(self.bias, 0.2))
        self.winograd = False

    def forward(self, x: Tensor, style: Tensor, noise: Tensor) -> Tensor:
        """As StyledConv.forward."""
        with full_precision(x):  # the squares overflow float16
            demodulation = torch.rsqrt(style.square() @ self.energy.t() + 1e-8)
        style = style * self.scale
        if self.winograd:
            return winograd_conv(
                x, self.weight, self.bias, style, prelu=self.slope, out_scale=demodulation, noise=noise,
                noise_weight=self.noise_weight, gain=math.sqrt(2),
            )  # fmt: skip
        x = x * style[:, :, None, None].to(x.dtype)
        if not self.up:
            x = F.conv2d(x, self.weight, padding=1)
            return fused_bias_act(x, self.bias, noise, self.noise_weight, demodulation)
        x = F.conv_transpose2d(x, self.weight, stride=2)
        return blur_bias_act(x, self.kernel, (1, 1, 1, 1), self.bias, noise, self.noise_weight, demodulation)

    def make_ready(self, x: Tensor, winograd: bool, frugal: bool) -> None:
        self.winograd = winograd and not self.up and winograd_pays(x, len(self.weight))
        if self.winograd:  # used too often to be frugal
            self.weight = winograd_weight(self.weight)
        else:
            self.weight = self.weight.contiguous(memory_format=torch.channels_last)


class FrozenToRGB(nn.Module):
    """A ToRGB that scales its few weights by the style, image by image, and not the many activations."""

    weight: Tensor
    kernel: Tensor
    bias: Tensor

    def __init__(self, layer: ToRGB) -> None:
        super().__init__()
        self.conv = nn.Module()  # Generator.affine looks for the modulation here
        self.conv.modulation = FrozenLinear(layer.conv.modulation)
        self.register_buffer("weight", layer.conv.weight[0].flatten(1) * layer.conv.scale)  # 3×C
        self.register_buffer("kernel", layer.kernel)
        self.register_buffer("bias", layer.bias.flatten())

    def forward(self, x: Tensor, style: Tensor, skip: Tensor | None = None) -> Tensor:
        """As ToRGB.forward."""
        weight = self.weight * style[:, None]  # B×3×C
        pixels = x.permute(0, 2, 3, 1).flatten(1, 2)  # B×HW×C, as channels_last has them
        rgb = (pixels @ weight.transpose(1, 2).to(x.dtype) + self.bias.to(x.dtype)).transpose(1, 2)
        rgb = rgb.unflatten(2, x.shape[2:]).contiguous()
        return rgb if skip is None else rgb + upfirdn2d(skip, self.kernel, up=2, pad=(2, 1, 2, 1))


class HeadConv(SizedConv):
    """A 3×3 conv with stride 2 and padding 1 of a StyleHead, as a matrix product where the map is small.

    There are many of them (0.9 GB in the published e4e), so that reading their weights is much of the work. The matrix
    product reads them as they are stored; a convolution would first reorder them.
    """

    SMALL = 8  # px

    weight: Tensor
    bias: Tensor | None

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.register_buffer("weight", conv.weight)
        self.register_buffer("bias", conv.bias)
        self.small = False

    def forward(self, x: Tensor) -> Tensor:
        if not self.small:
            return F.conv2d(x, self.weight, self.bias, stride=2, padding=1)
        columns = F.unfold(x, 3, padding=1, stride=2).transpose(1, 2)  # B×S²/4×9C
        y = F.linear(columns, self.weight.flatten(1), self.bias)
        return y.transpose(1, 2).unflatten(2, (x.shape[-1] // 2, -1))  # channels_last

    def make_ready(self, x: Tensor, winograd: bool, frugal: bool) -> None:
        self.small = x.shape[-1] <= self.SMALL


def winograd_pays(x: Tensor, out_channels: int) -> bool:
    """Whether a 3×3 conv of x (B×C×H×W) is faster by Winograd, and worth weights four times as big.

    With few tiles of 4×4 px, reading those weights would be most of the work.
    """
    channels, pixels = x.shape[1], x.shape[-2] * x.shape[-1]
    return pixels / 16 >= channels / 8 and winograd_fits(channels, out_channels)


def _scale_and_shift(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """BatchNorm in eval mode as x·scale + shift."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale
