"""3×3 convs of inference by Winograd's algorithms, which need fewer multiplications, for float32 on the CPU.

`winograd_conv` has stride 1 and uses F(4×4, 3×3): a quarter of the multiplications. `winograd_down` has stride 2 and
`winograd_up` is the transposed conv of stride 2: both use F(4, 2) on the phases of the image, with 81 multiplications
instead of 144. Results differ from direct convs' by about 1e-5 of the largest output. None has a derivative.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from models.stylegan2.ops import backend, native, register


def winograd_fits(in_channels: int, out_channels: int) -> bool:
    """Whether a layer can use these convs here, on compiled kernels (which this builds on first use)."""
    fits = in_channels % 16 == 0 and out_channels % native.PANEL == 0
    return fits and backend.ops_for(torch.empty(0, device="cpu")) is not native


def winograd_weight(weight: Tensor) -> Tensor:
    """Transforms the weight O×I×3×3 of a conv with stride 1 and padding 1, for `winograd_conv`.

    Returns 36×(O/32)×I×32, float32. I: a multiple of 16; O: of 32.
    """
    return register.kernels(weight).winograd_weight(_whole_panels(weight.detach().float()))


def winograd_up_weight(weight: Tensor) -> Tensor:
    """Transforms the weight O×I×3×3 of a transposed conv with stride 2 for `winograd_up`; as `winograd_weight`."""
    return register.kernels(weight).winograd_up_weight(_whole_panels(weight.detach().float()))


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
) -> Tensor:
    """Computes act(conv(x · in_scale + in_shift) · out_scale + noise · noise_weight + bias) · gain + residual.

    x: B×I×H×W float32, fastest in channels_last. weight: from `winograd_weight`. bias, in_shift: per channel. in_scale:
    I or B×I (BN; the style of a modulated conv). out_scale: B×O (its demodulation). noise: 1×1 or B×1 images, with
    noise_weight of one number. prelu: O slopes of the negative side. residual: of the result's shape. The conv's zero
    padding comes after in_shift. Returns B×O×H×W in channels_last.
    """
    batch, channels, height, width = _shape(x, weight)
    out = weight.shape[1] * native.PANEL
    _check(x, "bias", bias, (out,))
    _check(x, "in_scale", in_scale, (channels,), (batch, channels))
    _check(x, "in_shift", in_shift, (channels,))
    _check(x, "out_scale", out_scale, (batch, out))
    _check(x, "noise", noise, (1, 1, height, width), (batch, 1, height, width))
    _check(x, "noise_weight", noise_weight, (), (1,))
    _check(x, "prelu", prelu, (out,))
    _check(x, "residual", residual, (batch, out, height, width))
    if (noise is None) != (noise_weight is None):
        raise ValueError("noise and noise_weight go together")
    return register.kernels(x).winograd_conv(
        x, weight, bias, in_scale, in_shift, out_scale, noise, noise_weight, prelu, residual, gain
    )


def winograd_up(x: Tensor, weight: Tensor, in_scale: Tensor | None = None) -> Tensor:
    """Computes conv_transpose2d(x · in_scale, stride=2).

    x: B×I×H×W float32, fastest in channels_last. weight: from `winograd_up_weight`. in_scale: B×I. Returns
    B×O×(2H+1)×(2W+1) in channels_last.
    """
    batch, channels, _, _ = _shape(x, weight)
    _check(x, "in_scale", in_scale, (batch, channels))
    return register.kernels(x).winograd_up(x, weight, in_scale)


def winograd_down(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], slope: float) -> list[Tensor]:
    """Computes leaky_relu(conv2d(x, weight, bias, stride=2, padding=1), slope) for each weight O×I×3×3 and bias O.

    x: B×I×H×W float32, fastest in channels_last; it is transformed once for all weights, and weights are transformed
    where they are used: no copy is kept. I: a multiple of 16; O: of 32. Returns B×O×⌈H/2⌉×⌈W/2⌉ each, channels_last.
    """
    if x.dim() != 4 or len(weights) != len(biases):
        raise ValueError(f"x is {tuple(x.shape)}, with {len(weights)} weights and {len(biases)} biases; wanted B×I×H×W")
    for weight, bias in zip(weights, biases, strict=True):
        _check(x, "weight", _whole_panels(weight), (len(weight), x.shape[1], 3, 3))
        _check(x, "bias", bias, (len(weight),))
    return register.kernels(x).winograd_down(x, list(weights), list(biases), slope)


def _whole_panels(weight: Tensor) -> Tensor:
    if weight.shape[0] % native.PANEL or weight.shape[1] % 16:
        raise ValueError(f"Winograd wants whole panels of channels, got a weight of {tuple(weight.shape)}")
    return weight


def _shape(x: Tensor, weight: Tensor) -> tuple[int, ...]:
    """The shape of x, after a check that the transformed weight fits it."""
    if x.dim() != 4 or weight.dim() != 4:
        raise ValueError(
            f"x is {tuple(x.shape)}, weight {tuple(weight.shape)}; wanted B×I×H×W and a transformed weight"
        )
    _check(x, "x", x, x.shape)
    _check(x, "weight", weight, (36, weight.shape[1], x.shape[1], native.PANEL))
    if x.shape[1] % 16:
        raise ValueError(f"Winograd wants a multiple of 16 channels, got {x.shape[1]}")
    return tuple(x.shape)


def _check(x: Tensor, name: str, tensor: Tensor | None, *shapes: Sequence[int]) -> None:
    """The kernels trust these: a wrong dtype, device or shape would make them read arbitrary memory."""
    if tensor is None:
        return
    if tensor.device != x.device or tensor.dtype != torch.float32:
        raise ValueError(f"{name} is {tensor.dtype} on {tensor.device}; wanted float32 on {x.device}, as x is")
    if tuple(tensor.shape) not in map(tuple, shapes):
        wanted = " or ".join(str(tuple(shape)) for shape in shapes)
        raise ValueError(f"{name} is {tuple(tensor.shape)}; wanted {wanted}")
