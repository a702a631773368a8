"""3×3 convs of inference by Winograd's F(4×4, 3×3): a quarter of the multiplications, for float32 on the CPU.

Transform a layer's weight once (it grows fourfold), then call `winograd_conv` in place of the conv and what surrounds
it. Sums differ from the direct conv's by about 1e-5 of the largest output.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from models.stylegan2.ops import library, native, register


def winograd_fits(in_channels: int, out_channels: int, up: bool = False) -> bool:
    """Whether `winograd_conv` takes such a layer here and runs on compiled kernels (which it builds on first use)."""
    fits = in_channels % 16 == 0 and out_channels % (16 if up else native.PANEL) == 0
    return fits and library.load("cpu")


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
    I or B×I (BN; the style of a modulated conv). out_scale: B×O (its demodulation). noise: 1×1 or B×1 pictures, with
    noise_weight of one number. prelu: O slopes of the negative side. residual: of the result's shape. The conv's zero
    padding comes after in_shift. up: the weight is an up-conv's, the result has twice the size.
    Returns B×O×H×W in channels_last. For inference: it has no derivative.
    """
    return register.kernels(x).winograd_conv(
        x, weight, 2 if up else 1, bias, in_scale, in_shift, out_scale, noise, noise_weight, prelu, residual, gain
    )
