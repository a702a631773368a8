"""Building blocks of StyleGAN2 (Karras et al., arXiv 1912.04958): equalised layers and modulated convolution."""

import math
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.stylegan2.ops import blur_bias_act, fused_bias_act, upfirdn2d


def full_precision(x: Tensor) -> AbstractContextManager:
    """Autocast switched off on x's device, where it has autocast."""
    device = x.device.type
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()


def normal(*shape: int, std: float = 1.0) -> Tensor:
    """N(0, std²). Not drawn on the meta device, where PyTorch would import its compiler for it: a second."""
    x = torch.empty(shape)
    return x if x.is_meta else x.normal_(std=std)


class PixelNorm(nn.Module):
    """Divide by the root mean square over dimension 1 (for B×N×C activations those are the rows)."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-8)


class EqualLinear(nn.Module):
    """Linear layer with equalised learning rate: weight · lr_mul / √in, bias · lr_mul; leaky ReLU · √2 if wanted.

    Always in float32: it has few numbers, and styles need all their digits.
    """

    def __init__(
        self, in_dim: int, out_dim: int, lr_mul: float = 1.0, bias_init: float = 0.0, activation: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(normal(out_dim, in_dim, std=1 / lr_mul))
        self.bias = nn.Parameter(torch.full((out_dim,), bias_init / lr_mul))
        self.activation = activation
        self.lr_mul = lr_mul
        self.scale = lr_mul / math.sqrt(in_dim)

    def forward(self, x: Tensor) -> Tensor:  # …×in → …×out
        with full_precision(x):
            x = F.linear(x.to(self.weight.dtype), self.weight * self.scale, self.bias * self.lr_mul)
        return F.leaky_relu(x, 0.2) * math.sqrt(2) if self.activation else x


def blur_kernel(gain: float = 1.0) -> Tensor:
    """The [1, 3, 3, 1] low-pass filter as a 4×4 kernel that sums to `gain`; a constant, so never on the meta device."""
    line = torch.tensor([1.0, 3.0, 3.0, 1.0], device="cpu")
    return torch.outer(line, line) * (gain / 64)


class Noise(nn.Module):
    """The learned strength of the noise that a layer adds."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))


class Bias(nn.Module):
    """The bias in front of a layer's activation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))


class ModulatedConv(nn.Module):
    """Convolution whose weights are scaled by a style per input channel and, if `demodulate`, normalised per output.

    Computed with *shared* weights: the activations are scaled by the style before, and by the demodulation after; that
    is the same function as weights per sample, and much faster on every device.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, style_dim: int, up: bool = False,
        demodulate: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.weight = nn.Parameter(normal(1, out_channels, in_channels, kernel_size, kernel_size))
        self.modulation = EqualLinear(style_dim, in_channels, bias_init=1.0)
        self.up = up
        self.demodulate = demodulate
        self.scale = 1 / math.sqrt(in_channels * kernel_size**2)

    def demodulation(self, style: Tensor) -> Tensor | None:
        """style B×in → factors B×out, or None."""
        if not self.demodulate:
            return None
        with full_precision(style):  # the squares overflow float16
            energy = (self.weight[0] * self.scale).square().sum(dim=(2, 3))  # out×in
            return torch.rsqrt(style.square() @ energy.t() + 1e-8)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """x B×in×H×W, style B×in → B×out×H×W, or (2H+1)×(2W+1) if `up`; before demodulation and blur."""
        x = x * style[:, :, None, None]
        weight = self.weight[0] * self.scale
        if self.up:
            return F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
        return F.conv2d(x, weight, padding=weight.shape[-1] // 2)


class StyledConv(nn.Module):
    """Modulated 3×3 convolution (twice the resolution if `up`), noise, bias and leaky ReLU."""

    kernel: Tensor

    def __init__(self, in_channels: int, out_channels: int, style_dim: int, up: bool = False) -> None:
        super().__init__()
        self.conv = ModulatedConv(in_channels, out_channels, 3, style_dim, up)
        self.noise = Noise()
        self.activate = Bias(out_channels)
        self.register_buffer("kernel", blur_kernel(gain=4.0), persistent=False)

    def forward(self, x: Tensor, style: Tensor, noise: Tensor) -> Tensor:
        """x B×in×H×W, style B×in, noise 1×1×H'×W' or B×1×H'×W' → B×out×H'×W'."""
        scale = self.conv.demodulation(style)
        x = self.conv(x, style)
        if self.conv.up:
            return blur_bias_act(x, self.kernel, (1, 1, 1, 1), self.activate.bias, noise, self.noise.weight, scale)
        return fused_bias_act(x, self.activate.bias, noise, self.noise.weight, scale)


class ToRGB(nn.Module):
    """Modulated 1×1 convolution to RGB, added to the up-sampled image of the block before."""

    kernel: Tensor

    def __init__(self, in_channels: int, style_dim: int) -> None:
        super().__init__()
        self.conv = ModulatedConv(in_channels, 3, 1, style_dim, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))
        self.register_buffer("kernel", blur_kernel(gain=4.0), persistent=False)

    def forward(self, x: Tensor, style: Tensor, skip: Tensor | None = None) -> Tensor:
        """x B×in×H×W, style B×in, skip B×3×H/2×W/2 → B×3×H×W."""
        rgb = self.conv(x, style) + self.bias
        return rgb if skip is None else rgb + upfirdn2d(skip, self.kernel, up=2, pad=(2, 1, 2, 1))
