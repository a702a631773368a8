"""The public ops: arguments are checked here, then the compiled kernels run, or plain PyTorch where there are none."""

import math

from torch import Tensor

from models.stylegan2.ops import cuda, native, register

SQRT2 = math.sqrt(2)


def upfirdn2d(
    x: Tensor,
    kernel: Tensor,
    up: int | tuple[int, int] = 1,
    down: int | tuple[int, int] = 1,
    pad: tuple[int, int, int, int] = (0, 0, 0, 0),
    gain: float = 1.0,
) -> Tensor:
    """Upsamples by zero insertion, pads, filters by an FIR kernel and downsamples, in one pass (StyleGAN2, NVlabs).

    x: B×C×H×W, float16, bfloat16, float32 or float64. kernel: kh×kw, applied as a true convolution (flipped). up, down:
    factors, or (x, y) pairs. pad: zeros added (left, right, top, bottom) to the upsampled image; negative numbers crop.
    gain multiplies the kernel. Returns B×C×H'×W' of x's dtype and memory format, where
    H' = (H·up + top + bottom − kh) // down + 1. Differentiable to any order.
    """
    up, down = _pair(up, "up"), _pair(down, "down")
    _check_filter(x, kernel, up, down, pad)
    # nobody learns filters, and the compiled kernels have no derivative in them
    ops = native if kernel.requires_grad else register.kernels(x)
    return ops.upfirdn2d(x, kernel, up, down, pad, gain)


def fused_bias_act(
    x: Tensor,
    bias: Tensor | None = None,
    noise: Tensor | None = None,
    noise_weight: Tensor | None = None,
    scale: Tensor | None = None,
    slope: float = 0.2,
    gain: float = SQRT2,
) -> Tensor:
    """Leaky ReLU of x · scale + noise · noise_weight + bias, times gain, in one pass.

    x: B×C or B×C×…, float16, bfloat16, float32 or float64. bias: C. noise: B×1×H×W or 1×1×H×W, with noise_weight, a
    tensor of one number. scale: B×C (the demodulation of a modulated conv with shared weights). slope: of the negative
    side, 1 for no activation. Returns x's shape, dtype and memory format. Twice differentiable in every tensor.
    """
    _check_bias_act(x, x.shape, bias, noise, noise_weight, scale, slope, gain)
    return register.kernels(x).fused_bias_act(x, bias, noise, noise_weight, scale, slope, gain)


def blur_bias_act(
    x: Tensor,
    kernel: Tensor,
    pad: tuple[int, int, int, int],
    bias: Tensor | None = None,
    noise: Tensor | None = None,
    noise_weight: Tensor | None = None,
    scale: Tensor | None = None,
    blur_gain: float = 1.0,
    slope: float = 0.2,
    gain: float = SQRT2,
) -> Tensor:
    """`fused_bias_act(upfirdn2d(x, kernel, pad=pad, gain=blur_gain), …)` in one pass: what follows an up-conv.

    Arguments as there; noise has the size of the filtered image. Twice differentiable in every tensor.
    """
    _check_filter(x, kernel, (1, 1), (1, 1), pad)
    size = native.output_size(x.shape[2:], kernel, (1, 1), (1, 1), pad)
    _check_bias_act(x, (*x.shape[:2], *size), bias, noise, noise_weight, scale, slope, gain)
    ops = native if kernel.requires_grad else register.kernels(x)
    return ops.blur_bias_act(x, kernel, pad, bias, noise, noise_weight, scale, blur_gain, slope, gain)


def _pair(factor: int | tuple[int, int], name: str) -> tuple[int, int]:
    x, y = (factor, factor) if isinstance(factor, int) else factor
    if x < 1 or y < 1:
        raise ValueError(f"{name} must be at least 1, got {factor}")
    return x, y


def _check_tensors(x: Tensor, **others: Tensor | None) -> None:
    """The kernels trust these: a wrong dtype or device would make them read arbitrary memory."""
    if x.dtype not in cuda.TYPES:
        raise ValueError(f"x is {x.dtype}; wanted float16, bfloat16, float32 or float64")
    for name, tensor in others.items():
        if tensor is not None and tensor.device != x.device:
            raise ValueError(f"{name} is on {tensor.device}, but x on {x.device}: move one of them")
        if tensor is not None and not tensor.is_floating_point():
            raise ValueError(f"{name} is {tensor.dtype}; wanted a floating type")


def _check_filter(
    x: Tensor, kernel: Tensor, up: tuple[int, int], down: tuple[int, int], pad: tuple[int, int, int, int]
) -> None:
    if x.dim() != 4 or kernel.dim() != 2:
        raise ValueError(f"wanted a B×C×H×W image and a kh×kw kernel, got {tuple(x.shape)} and {tuple(kernel.shape)}")
    _check_tensors(x, kernel=kernel)
    height, width = native.output_size(x.shape[2:], kernel, up, down, pad)
    if height < 1 or width < 1:
        raise ValueError(
            f"image {tuple(x.shape[2:])} with up {up}, pad {pad} is smaller than the kernel {tuple(kernel.shape)}"
        )


def _check_bias_act(
    x: Tensor,
    shape: tuple[int, ...],
    bias: Tensor | None,
    noise: Tensor | None,
    noise_weight: Tensor | None,
    scale: Tensor | None,
    slope: float,
    gain: float,
) -> None:
    """`shape`: that of the activation, which for `blur_bias_act` is not x's."""
    if len(shape) < 2:
        raise ValueError(f"wanted a tensor B×C×…, got {tuple(shape)}")
    _check_tensors(x, bias=bias, noise=noise, noise_weight=noise_weight, scale=scale)
    if slope < 0 or gain <= 0:  # the backward pass reads the side of the activation from the sign of its result
        raise ValueError(f"slope must not be negative and gain must be positive, got {slope} and {gain}")
    if bias is not None and bias.shape != (shape[1],):
        raise ValueError(f"bias must hold {shape[1]} numbers, got {tuple(bias.shape)}")
    if scale is not None and scale.shape != (shape[0], shape[1]):
        raise ValueError(f"scale must be {shape[0]}×{shape[1]}, got {tuple(scale.shape)}")
    if (noise is None) != (noise_weight is None):
        raise ValueError("noise and noise_weight go together")
    if noise is not None and noise_weight is not None:
        one_each = [(1, 1, *shape[2:]), (shape[0], 1, *shape[2:])]
        if len(shape) != 4 or tuple(noise.shape) not in one_each or noise_weight.numel() != 1:
            raise ValueError(
                f"noise must be {one_each[0]} or {one_each[1]} and noise_weight one number for an activation of "
                f"{tuple(shape)}, got {tuple(noise.shape)} and {tuple(noise_weight.shape)}"
            )
