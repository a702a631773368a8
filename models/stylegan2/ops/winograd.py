"""3×3 convs of inference by Winograd's F(4×4, 3×3): a quarter of the multiplications, for float32 on the CPU.

Transform a layer's weight once (it grows fourfold), then call `winograd_conv` in place of the conv and what surrounds
it. Sums differ from the direct conv's by about 1e-5 of the largest output.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from models.stylegan2.ops import backend, native, register


def winograd_fits(in_channels: int, out_channels: int, up: bool = False) -> bool:
    """Whether `winograd_conv` takes such a layer here and runs on compiled kernels (which it builds on first use)."""
    fits = in_channels % 16 == 0 and out_channels % (16 if up else native.PANEL) == 0
    return fits and backend.ops_for(torch.empty(0, device="cpu")) is not native


def winograd_weight(weight: Tensor, blur: Tensor | None = None) -> Tensor:
    """Transforms the weight O×I×3×3 of a conv with stride 1 and padding 1, for `winograd_conv`.

    With blur, a 4×4 kernel that has its gain in it, weight is instead that of a transposed conv with stride 2 (O×I×3×3,
    applied as stored) which the blur with padding 1 follows: StyleGAN2's up-conv, for `winograd_conv(…, up=True)`.
    Returns 36×(O/32)×I×32, or 36×(4·O/32)×I×32 with blur, float32. I: a multiple of 16; O: of 32, with blur of 16.
    """
    weight = weight.detach().float()
    if blur is not None:
        # conv and blur together are one 6×6 kernel; each of the four phases of the upsampled image sees 3×3 of it
        spread = F.conv_transpose2d(torch.eye(9).reshape(9, 1, 3, 3), blur.float().cpu()[None, None]).reshape(9, 36)
        kernel = (weight.flatten(2) @ spread.to(weight.device)).unflatten(2, (6, 6))
        phases = [kernel[:, :, [4 + y, 2 + y, y]][..., [4 + x, 2 + x, x]] for y in (0, 1) for x in (0, 1)]
        weight = torch.cat(phases)
    if weight.shape[0] % native.PANEL or weight.shape[1] % 16:
        raise ValueError(f"Winograd wants whole panels of channels, got a weight of {tuple(weight.shape)}")
    return register.kernels(weight).winograd_weight(weight)


def winograd_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    in_scale: Tensor | None = None,
    in_shift: Tensor | None = None,
    prelu: Tensor | None = None,
    residual: Tensor | None = None,
    *,
    out_scale: Tensor | None = None,
    noise: Tensor | None = None,
    noise_weight: Tensor | None = None,
    gain: float = 1.0,
    up: bool = False,
) -> Tensor:
    """Computes act(conv(x · in_scale + in_shift) · out_scale + noise · noise_weight + bias) · gain + residual.

    x: B×I×H×W float32, fastest in channels_last. weight: from `winograd_weight`. bias, in_shift: per channel. in_scale:
    I or B×I (BN; the style of a modulated conv). out_scale: B×O (its demodulation). noise: 1×1 or B×1 images, with
    noise_weight of one number. prelu: O slopes of the negative side. residual: of the result's shape. The conv's zero
    padding comes after in_shift. up: the weight is an up-conv's, the result has twice the size.
    Returns B×O×H×W in channels_last. For inference: it has no derivative.
    """
    if x.dim() != 4 or weight.dim() != 4:
        raise ValueError(f"x is {tuple(x.shape)}, weight {tuple(weight.shape)}; wanted B×I×H×W and winograd_weight's")
    batch, channels, height, width = x.shape
    out = weight.shape[1] * native.PANEL // (4 if up else 1)
    size = (height * 2, width * 2) if up else (height, width)
    _check(x, "x", x, x.shape)
    _check(x, "weight", weight, (36, weight.shape[1], channels, native.PANEL))
    _check(x, "bias", bias, (out,))
    _check(x, "in_scale", in_scale, (channels,), (batch, channels))
    _check(x, "in_shift", in_shift, (channels,))
    _check(x, "out_scale", out_scale, (batch, out))
    _check(x, "noise", noise, (1, 1, *size), (batch, 1, *size))
    _check(x, "noise_weight", noise_weight, (), (1,))
    _check(x, "prelu", prelu, (out,))
    _check(x, "residual", residual, (batch, out, *size))
    if (noise is None) != (noise_weight is None):
        raise ValueError("noise and noise_weight go together")
    if channels % 16 or out % 16:
        raise ValueError(f"Winograd wants a multiple of 16 channels, got {channels} and {out}")
    return register.kernels(x).winograd_conv(
        x, weight, 2 if up else 1, bias, in_scale, in_shift, out_scale, noise, noise_weight, prelu, residual, gain
    )


def _check(x: Tensor, name: str, tensor: Tensor | None, *shapes: Sequence[int]) -> None:
    """The kernels read memory as they are told it is."""
    if tensor is None:
        return
    if tensor.device != x.device or tensor.dtype != torch.float32:
        raise ValueError(f"{name} is {tensor.dtype} on {tensor.device}; wanted float32 on {x.device}, as x is")
    if tuple(tensor.shape) not in map(tuple, shapes):
        wanted = " or ".join(str(tuple(shape)) for shape in shapes)
        raise ValueError(f"{name} is {tuple(tensor.shape)}; wanted {wanted}")
