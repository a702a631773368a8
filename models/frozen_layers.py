"""The layers of frozen networks, which models/frozen.py puts in place of plain ones."""

import math
from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.e4e import StyleHead, StyleHeads
from models.stylegan2.layers import EqualLinear, StyledConv, ToRGB, full_precision
from models.stylegan2.ops import (
    blur_bias_act,
    fused_bias_act,
    upfirdn2d,
    winograd_conv,
    winograd_down,
    winograd_fits,
    winograd_up,
    winograd_up_weight,
    winograd_weight,
)


class SizedConv(nn.Module, ABC):
    """A conv that is optimized for the size of its input."""

    @abstractmethod
    def make_ready(self, x: Tensor, winograd: bool, layout: torch.memory_format) -> None:
        """Choose how to compute for inputs of x's size; see `optimize`."""


class FrozenConv(SizedConv):
    """[BN,] conv [, BN] [, PReLU] [, + residual].

    A BN before the conv becomes a scale and a shift per channel: the zero padding comes after it, so its shift cannot
    be moved behind the conv. A BN after it is folded into the weight, or scales the results of Winograd's conv, which
    so reads the weight as it is in the mapped file. Winograd's weights, four times as large, are made at every use and
    not kept: that takes less than a tenth of the conv's time.
    """

    weight: Tensor
    bias: Tensor | None
    scale: Tensor | None
    shift: Tensor | None
    gain: Tensor | None
    slope: Tensor | None

    def __init__(self, conv: nn.Conv2d, before: nn.BatchNorm2d | None) -> None:
        super().__init__()
        self.stride, self.padding, self.size = conv.stride, conv.padding, conv.kernel_size
        self.register_buffer("weight", conv.weight)
        self.register_buffer("bias", conv.bias)
        scale, shift = (None, None) if before is None else _scale_and_shift(before)
        self.register_buffer("scale", scale)
        self.register_buffer("shift", shift)
        self.register_buffer("gain", None)
        self.register_buffer("slope", None)
        self.winograd = False

    def fold(self, after: nn.BatchNorm2d) -> None:
        """Fold in the BN that follows."""
        scale, shift = _scale_and_shift(after)
        self.bias = shift if self.bias is None else self.bias * scale + shift
        self.gain = scale if self.gain is None else self.gain * scale

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        if self.winograd:
            gain = None if self.gain is None else self.gain.expand(len(x), -1)
            return winograd_conv(
                x, winograd_weight(self.weight), self.bias, self.scale, self.shift, self.slope, residual, out_scale=gain
            )
        if self.scale is not None and self.shift is not None:
            x = torch.addcmul(self.shift[:, None, None], x, self.scale[:, None, None])
        x = F.conv2d(x, self.weight, self.bias, self.stride, self.padding)
        if self.slope is not None:
            x = F.prelu(x, self.slope)
        return x if residual is None else x + residual

    def make_ready(self, x: Tensor, winograd: bool, layout: torch.memory_format) -> None:
        plain = self.size == (3, 3) and self.stride == (1, 1) and self.padding == (1, 1)
        self.winograd = winograd and plain and winograd_pays(x, len(self.weight))
        if not self.winograd:
            weight = self.weight if self.gain is None else self.weight * self.gain[:, None, None, None]
            self.weight, self.gain = weight.contiguous(memory_format=layout), None


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
        with full_precision(x):  # few numbers, and styles need full precision
            x = F.linear(x.float(), self.weight, self.bias)
        return F.leaky_relu(x, 0.2) * math.sqrt(2) if self.activation else x


class FrozenStyledConv(SizedConv):
    """A StyledConv that stores what depends on its weight alone, and is one pass where Winograd is faster."""

    weight: Tensor
    energy: Tensor
    kernel: Tensor
    slope: Tensor

    def __init__(self, layer: StyledConv) -> None:
        super().__init__()
        self.conv = nn.Module()  # where Generator.affine expects the modulation
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
        if self.up:
            if self.winograd:
                x = winograd_up(x, self.weight, style)
            else:
                x = F.conv_transpose2d(x * style[:, :, None, None].to(x.dtype), self.weight, stride=2)
            return blur_bias_act(x, self.kernel, (1, 1, 1, 1), self.bias, noise, self.noise_weight, demodulation)
        if self.winograd:
            return winograd_conv(
                x, self.weight, self.bias, style, prelu=self.slope, out_scale=demodulation, noise=noise,
                noise_weight=self.noise_weight, gain=math.sqrt(2),
            )  # fmt: skip
        x = F.conv2d(x * style[:, :, None, None].to(x.dtype), self.weight, padding=1)
        return fused_bias_act(x, self.bias, noise, self.noise_weight, demodulation)

    def make_ready(self, x: Tensor, winograd: bool, layout: torch.memory_format) -> None:
        self.winograd = winograd and winograd_pays(x, len(self.bias))
        if self.winograd:  # kept, as it is used several times for each image
            self.weight = winograd_up_weight(self.weight.transpose(0, 1)) if self.up else winograd_weight(self.weight)
        else:
            self.weight = self.weight.contiguous(memory_format=layout)


class FrozenToRGB(nn.Module):
    """A ToRGB that scales its few weights by the style, per image, instead of the many activations."""

    weight: Tensor
    kernel: Tensor
    bias: Tensor

    def __init__(self, layer: ToRGB) -> None:
        super().__init__()
        self.conv = nn.Module()  # where Generator.affine expects the modulation
        self.conv.modulation = FrozenLinear(layer.conv.modulation)
        self.register_buffer("weight", layer.conv.weight[0].flatten(1) * layer.conv.scale)  # 3×C
        self.register_buffer("kernel", layer.kernel)
        self.register_buffer("bias", layer.bias.flatten())

    def forward(self, x: Tensor, style: Tensor, skip: Tensor | None = None) -> Tensor:
        """As ToRGB.forward."""
        weight, bias = (self.weight * style[:, None]).to(x.dtype), self.bias.to(x.dtype)  # B×3×C, 3
        if x.is_contiguous(memory_format=torch.channels_last):
            pixels = x.permute(0, 2, 3, 1).flatten(1, 2)  # B×HW×C
            rgb = (pixels @ weight.transpose(1, 2) + bias).transpose(1, 2).contiguous()
        else:
            rgb = torch.baddbmm(bias[:, None], weight, x.flatten(2))  # B×3×HW
        rgb = rgb.unflatten(2, x.shape[2:])
        return rgb if skip is None else rgb + upfirdn2d(skip, self.kernel, up=2, pad=(2, 1, 2, 1))


class FrozenStyleHead(nn.Module):
    """The parts of a StyleHead."""

    def __init__(self, head: StyleHead) -> None:
        super().__init__()
        self.convs = nn.ModuleList(layer for layer in head.convs if isinstance(layer, nn.Conv2d))
        self.linear = FrozenLinear(head.linear)

    @property
    def layers(self) -> list[nn.Conv2d]:
        return [conv for conv in self.convs if isinstance(conv, nn.Conv2d)]


class FrozenStyleHeads(SizedConv):
    """StyleHeads, of which those that read one map share its transform.

    There are many convs (0.9 GB in the published e4e) for small maps, so that reading their weights is much of the
    work. Winograd and matrix products read them as they are stored; a convolution would first reorder them.
    """

    SLOPE = 0.01  # of nn.LeakyReLU
    SMALL = 8  # px; for maps up to this size a matrix product is as fast as Winograd

    def __init__(self, heads: StyleHeads) -> None:
        super().__init__()
        heads_ = (FrozenStyleHead(head) for head in heads if isinstance(head, StyleHead))
        self.counts, self.heads = heads.counts, nn.ModuleList(heads_)
        self.winograd = False

    def forward(self, *maps: Tensor) -> Tensor:
        """As StyleHeads.forward."""
        styles, first = [], 0
        for x, count in zip(maps, self.counts, strict=True):
            heads = [head for head in self.heads[first : first + count] if isinstance(head, FrozenStyleHead)]
            first += count
            convs = [conv for head in heads for conv in head.layers[:1]]  # none where the map has one pixel already
            for head, y in zip(heads, self._convs(x, convs) if convs else [x] * count, strict=True):
                for conv in head.layers[1:]:
                    (y,) = self._convs(y, [conv])
                styles.append(head.linear(y.flatten(1)))
        return torch.stack(styles, dim=1)

    def _convs(self, x: Tensor, convs: list[nn.Conv2d]) -> list[Tensor]:
        """The results of these convs, each with stride 2, padding 1 and a leaky ReLU, for x."""
        weights, biases = [conv.weight for conv in convs], [conv.bias for conv in convs if conv.bias is not None]
        if x.shape[-1] <= self.SMALL:
            columns = F.unfold(x, 3, padding=1, stride=2).transpose(1, 2)  # B×S²/4×9C
            flat = (F.linear(columns, weight.flatten(1), bias) for weight, bias in zip(weights, biases, strict=True))
            results = [y.transpose(1, 2).unflatten(2, (x.shape[-1] // 2, -1)) for y in flat]  # channels_last
        elif self.winograd:
            return winograd_down(x, weights, biases, self.SLOPE)
        else:
            results = [F.conv2d(x, *conv, stride=2, padding=1) for conv in zip(weights, biases, strict=True)]
        return [F.leaky_relu(y, self.SLOPE) for y in results]

    def make_ready(self, x: Tensor, winograd: bool, layout: torch.memory_format) -> None:
        convs = [conv for conv in self.modules() if isinstance(conv, nn.Conv2d)]
        self.winograd = winograd and all(winograd_fits(conv.in_channels, conv.out_channels) for conv in convs)


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
