"""The custom ops in plain PyTorch: their definition, and what runs where the compiled kernels cannot.

Half and bfloat16 inputs are computed in float32 and rounded once, as the compiled kernels do.
"""

import functools
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")
Ints = Sequence[int]  # factors: (x, y); pads: (left, right, top, bottom)


def _in_own_precision(op: Callable[P, R]) -> Callable[P, R]:
    """Switches autocast off for the convs and matrix products in an op; it has no effect on compiled kernels either."""

    @functools.wraps(op)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        x = args[0]
        assert isinstance(x, Tensor)
        with torch.autocast(x.device.type, enabled=False):
            return op(*args, **kwargs)

    return run


@_in_own_precision
def upfirdn2d(x: Tensor, kernel: Tensor, up: Ints, down: Ints, pad: Ints, gain: float) -> Tensor:
    """See `ops.upfirdn2d`; `up` and `down` are (x, y) pairs here."""
    batch, channels, height, width = x.shape
    up_x, up_y = up
    y = x.to(compute_dtype(x.dtype))
    if up_x > 1 or up_y > 1:  # each pixel is followed by up − 1 zeros
        y = F.pad(y[:, :, :, None, :, None], (0, up_x - 1, 0, 0, 0, up_y - 1))  # B×C×H×up_y×W×up_x
        y = y.reshape(batch, channels, height * up_y, width * up_x)
    y = F.pad(y, tuple(pad))
    # conv2d correlates, so the kernel is flipped; a depth-wise conv is a conv of B·C one-channel images
    weight = (kernel.to(y.dtype).flip(0, 1) * gain)[None, None]
    if y.numel():
        y = F.conv2d(y.reshape(batch * channels, 1, *y.shape[2:]), weight, stride=(down[1], down[0]))
        y = y.reshape(batch, channels, *y.shape[2:])
    else:
        y = y.new_zeros(batch, channels, *output_size((height, width), kernel, up, down, pad))
    return y.to(x.dtype).contiguous(memory_format=memory_format(x))


def fused_bias_act(
    x: Tensor,
    bias: Tensor | None,
    noise: Tensor | None,
    noise_weight: Tensor | None,
    scale: Tensor | None,
    slope: float,
    gain: float,
) -> Tensor:
    """See `ops.fused_bias_act`."""
    y = x.to(compute_dtype(x.dtype))
    if scale is not None:
        y = y * scale.to(y.dtype).reshape(*scale.shape, *[1] * (x.dim() - 2))
    if noise is not None and noise_weight is not None:
        y = y + noise.to(y.dtype) * noise_weight.to(y.dtype)
    if bias is not None:
        y = y + bias.to(y.dtype).reshape(-1, *[1] * (x.dim() - 2))
    y = F.leaky_relu(y, slope) * gain
    return y.to(x.dtype).contiguous(memory_format=memory_format(x))


def blur_bias_act(
    x: Tensor,
    kernel: Tensor,
    pad: Ints,
    bias: Tensor | None,
    noise: Tensor | None,
    noise_weight: Tensor | None,
    scale: Tensor | None,
    blur_gain: float,
    slope: float,
    gain: float,
) -> Tensor:
    """See `ops.blur_bias_act`."""
    blurred = upfirdn2d(x.to(compute_dtype(x.dtype)), kernel, (1, 1), (1, 1), pad, blur_gain)
    y = fused_bias_act(blurred, bias, noise, noise_weight, scale, slope, gain)
    return y.to(x.dtype).contiguous(memory_format=memory_format(x))


def act_grad(grad: Tensor, y: Tensor, slope: float, gain: float) -> Tensor:
    """The gradient at the leaky ReLU's input from that at its output y, whose sign is the input's."""
    result = grad.to(compute_dtype(y.dtype)) * gain
    result = torch.where(y > 0, result, result * slope)
    return result.to(y.dtype).contiguous(memory_format=memory_format(y))


PANEL = 32  # output channels side by side in a transformed weight, as winograd.cpp reads them
# F(4×4, 3×3) of Lavin & Gray (arXiv 1509.09308): y = Aᵀ[(G w Gᵀ) ⊙ (Bᵀ x B)]A
WINOGRAD_G = ((6, 0, 0), (-4, -4, -4), (-4, 4, -4), (1, 2, 4), (1, -2, 4), (0, 0, 24))  # times 1/24
WINOGRAD_B = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
WINOGRAD_A = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))


@_in_own_precision
def winograd_weight(weight: Tensor) -> Tensor:
    """Transforms O×I×3×3 to 36×(O/32)×I×32, the panels that winograd.cpp multiplies by."""
    out_channels, in_channels = weight.shape[:2]
    g = torch.tensor(WINOGRAD_G, dtype=weight.dtype, device=weight.device) / 24
    transformed = torch.kron(g, g) @ weight.permute(2, 3, 1, 0).reshape(9, -1)  # 36×(I·O)
    panels = transformed.reshape(36, in_channels, out_channels // PANEL, PANEL)
    return panels.transpose(1, 2).contiguous()


@_in_own_precision
def winograd_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    in_scale: Tensor | None,
    in_shift: Tensor | None,
    out_scale: Tensor | None,
    noise: Tensor | None,
    noise_weight: Tensor | None,
    prelu: Tensor | None,
    residual: Tensor | None,
    gain: float,
) -> Tensor:
    """See `ops.winograd_conv`."""
    batch, channels, height, width = x.shape
    if in_scale is not None:
        x = x * in_scale.reshape(-1, channels, 1, 1)
    if in_shift is not None:
        x = x + in_shift.reshape(1, channels, 1, 1)
    rows, columns = -(-height // 4), -(-width // 4)  # tiles of 4×4 outputs
    x = F.pad(x, (1, 4 * columns - width + 1, 1, 4 * rows - height + 1))
    tiles = batch * rows * columns
    windows = x.unfold(2, 6, 4).unfold(3, 6, 4).permute(4, 5, 0, 2, 3, 1).reshape(36, tiles, channels)
    b, a = (torch.tensor(m, dtype=x.dtype, device=x.device) for m in (WINOGRAD_B, WINOGRAD_A))
    windows = (torch.kron(b, b) @ windows.flatten(1)).reshape_as(windows)
    products = windows @ weight.transpose(1, 2).flatten(2)  # 36×tiles×O
    y = (torch.kron(a, a) @ products.flatten(1)).reshape(4, 4, batch, rows, columns, products.shape[2])
    y = y.permute(2, 5, 3, 0, 4, 1)  # B×O×(row, i)×(column, j)
    y = y.reshape(batch, products.shape[2], 4 * rows, 4 * columns)[:, :, :height, :width]
    y = fused_bias_act(y, bias, noise, noise_weight, out_scale, 1.0, 1.0)
    y = (y if prelu is None else F.prelu(y, prelu)) * gain
    return (y if residual is None else y + residual).contiguous(memory_format=torch.channels_last)


# The weights of F(4, 2) at the points 0, 1, −1, 2 and ∞ for the outer two taps, and the inner tap
WINOGRAD_UP_G = ((3, 0, 0), (-3, 0, -3), (-1, 0, 1), (1, 0, 2), (0, 0, 6), (0, 6, 0))  # times 1/6


@_in_own_precision
def winograd_up_weight(weight: Tensor) -> Tensor:
    """Transforms O×I×3×3, the weight of a transposed conv, to 36×(O/32)×I×32, as winograd_strided.cpp reads it."""
    out_channels, in_channels = weight.shape[:2]
    g = torch.tensor(WINOGRAD_UP_G, dtype=weight.dtype, device=weight.device) / 6
    transformed = torch.kron(g, g) @ weight.flip(2, 3).permute(2, 3, 1, 0).reshape(9, -1)
    panels = transformed.reshape(36, in_channels, out_channels // PANEL, PANEL)
    return panels.transpose(1, 2).contiguous()


@_in_own_precision
def winograd_up(x: Tensor, weight: Tensor, in_scale: Tensor | None) -> Tensor:
    """See `ops.winograd_up`. The transformed weights hold the taps: half of tap 0, tap 2 and tap 1 along an axis."""
    taps = weight.transpose(1, 2).flatten(2).unflatten(0, (6, 6))[[0, 5, 4]][:, [0, 5, 4]]  # 3×3×I×O, flipped
    twice = torch.tensor([2, 1, 1], dtype=weight.dtype, device=weight.device)
    taps = (taps * torch.outer(twice, twice)[..., None, None]).permute(2, 3, 0, 1).flip(2, 3)
    x = x if in_scale is None else x * in_scale[..., None, None]
    return F.conv_transpose2d(x, taps, stride=2).contiguous(memory_format=torch.channels_last)


@_in_own_precision
def winograd_down(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], slope: float) -> list[Tensor]:
    """See `ops.winograd_down`."""
    results = (F.conv2d(x, weight, bias, stride=2, padding=1) for weight, bias in zip(weights, biases, strict=True))
    return [F.leaky_relu(y, slope).contiguous(memory_format=torch.channels_last) for y in results]


def output_size(size: Ints, kernel: Tensor, up: Ints, down: Ints, pad: Ints) -> tuple[int, int]:
    """(height, width) of the result of `upfirdn2d` on a `size` = (height, width) image."""
    height = (size[0] * up[1] + pad[2] + pad[3] - kernel.shape[0]) // down[1] + 1
    width = (size[1] * up[0] + pad[0] + pad[1] - kernel.shape[1]) // down[0] + 1
    return height, width


def memory_format(x: Tensor) -> torch.memory_format:
    """channels_last if `x` has that layout, else contiguous; results keep it."""
    if x.dim() == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last):
        return torch.channels_last
    return torch.contiguous_format


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """The type of sums, and of all tensors of an op but its images."""
    return torch.float64 if dtype == torch.float64 else torch.float32
