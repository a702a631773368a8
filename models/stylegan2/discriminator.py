"""StyleGAN2 discriminator, resnet architecture, with the key layout of NVIDIA's `.pkl` files."""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arguments.domain import GeneratorConfig
from models.stylegan2.layers import EqualLinear, blur_kernel, normal
from models.stylegan2.ops import fused_bias_act, upfirdn2d
from models.stylegan2.ops.native import memory_format


class EqualConv(nn.Module):
    """Equalised convolution with bias and leaky ReLU, or without if `linear`; `down` low-passes and halves the size."""

    kernel: Tensor

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, down: bool = False, linear: bool = False,
        clamp: float | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.weight = nn.Parameter(normal(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = None if linear else nn.Parameter(torch.zeros(out_channels))
        self.register_buffer("kernel", blur_kernel(), persistent=False)
        self.down = down
        self.clamp = clamp
        self.scale = 1 / math.sqrt(in_channels * kernel_size**2)

    def forward(self, x: Tensor, gain: float = 1.0) -> Tensor:
        """x B×in×H×W → B×out×H×W, or half of that if `down`; the result, and so the clamp, is multiplied by `gain`."""
        weight, size = self.weight * self.scale, self.weight.shape[-1]
        if self.down and size == 1:
            x = F.conv2d(upfirdn2d(x, self.kernel, down=2, pad=(1, 1, 1, 1)), weight)
        elif self.down:
            x = F.conv2d(upfirdn2d(x, self.kernel, pad=(2, 2, 2, 2)), weight, stride=2)
        else:
            x = F.conv2d(x, weight, padding=size // 2)
        if self.bias is None:
            return x * gain
        x = fused_bias_act(x, self.bias, gain=math.sqrt(2) * gain)
        return x if self.clamp is None else x.clamp(-self.clamp * gain, self.clamp * gain)


class DiscriminatorBlock(nn.Module):
    """Halve the resolution; the first block also reads RGB."""

    def __init__(self, in_channels: int, out_channels: int, from_rgb: bool, clamp: float | None) -> None:
        super().__init__()
        if from_rgb:
            self.fromrgb = EqualConv(3, in_channels, 1, clamp=clamp)
        self.conv0 = EqualConv(in_channels, in_channels, 3, clamp=clamp)
        self.conv1 = EqualConv(in_channels, out_channels, 3, down=True, clamp=clamp)
        self.skip = EqualConv(in_channels, out_channels, 1, down=True, linear=True)

    def forward(self, x: Tensor) -> Tensor:
        if hasattr(self, "fromrgb"):
            x = self.fromrgb(x)
        return self.skip(x, gain=math.sqrt(0.5)) + self.conv1(self.conv0(x), gain=math.sqrt(0.5))


def minibatch_std(x: Tensor, group_size: int | None) -> Tensor:
    """Append one channel with the standard deviation within each group (arXiv 1710.10196); groups are interleaved.

    `group_size` None takes the whole batch. Raises ValueError for a batch that the group does not divide.
    """
    n, c, h, w = x.shape
    group = n if group_size is None else min(group_size, n)
    if n % group:
        raise ValueError(f"a batch of {n} does not split into groups of {group} for the minibatch statistic")
    y = x.reshape(group, n // group, c, h, w)
    y = (y - y.mean(dim=0)).square().mean(dim=0).add(1e-8).sqrt().mean(dim=(1, 2, 3))  # one number a group
    return torch.cat([x, y.reshape(1, -1, 1, 1, 1).expand(group, -1, 1, h, w).reshape(n, 1, h, w)], dim=1)


class DiscriminatorEpilogue(nn.Module):
    """4×4 features to one logit."""

    def __init__(self, channels: int, group_size: int | None, clamp: float | None) -> None:
        super().__init__()
        self.conv = EqualConv(channels + 1, channels, 3, clamp=clamp)
        self.fc = EqualLinear(channels * 16, channels, activation=True)
        self.out = EqualLinear(channels, 1)
        self.group_size = group_size

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.fc(self.conv(minibatch_std(x, self.group_size)).flatten(1)))


class Discriminator(nn.Module):
    """x B×3×size×size in [-1, 1] → logits B×1.

    Its channels are the generator's. `group_size` (None: the whole batch) and `clamp` (None: off) come from the file.
    """

    def __init__(self, config: GeneratorConfig, group_size: int | None = 4, clamp: float | None = None) -> None:
        super().__init__()
        sizes = config.resolutions[::-1]
        for high, low in pairwise(sizes):
            block = DiscriminatorBlock(config.channels[high], config.channels[low], high == config.size, clamp)
            setattr(self, f"b{high}", block)
        self.b4 = DiscriminatorEpilogue(config.channels[4], group_size, clamp)

    def forward(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=memory_format(self.b4.conv.weight))  # else every map would be converted
        for block in self.children():
            x = block(x)
        return x
