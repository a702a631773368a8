"""The ops as PyTorch knows them: torch.ops.sfe.*, with shapes for the compiler and derivatives of any order.

The CPU's compiled kernels are registered when backend.py loads them. Until then an op is one of the Python functions
here: it has the kernels loaded, which the dispatcher calls from then on, or has plain PyTorch compute the result.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from models.stylegan2.ops import backend, native

Ints = Sequence[int]


def kernels(x: Tensor) -> Any:
    """The ops for a tensor like x: torch.ops.sfe, or `native`, with the same signatures.

    A tracing compiler always gets torch.ops.sfe, as a graph may run where kernels can be built. Otherwise plain PyTorch
    is called directly: for an op in Python, PyTorch would import its compiler, which takes a second.
    """
    if backend.only_plain():
        return native
    return torch.ops.sfe if torch.compiler.is_compiling() or backend.ops_for(x) is not native else native


@torch.library.custom_op(
    "sfe::upfirdn2d",
    mutates_args=(),
    schema="(Tensor x, Tensor kernel, int[] up, int[] down, int[] pad, float gain) -> Tensor",
)
def upfirdn2d(x: Tensor, kernel: Tensor, up: Ints, down: Ints, pad: Ints, gain: float) -> Tensor:
    return backend.ops_for(x).upfirdn2d(x, kernel, up, down, pad, gain)


@torch.library.custom_op(
    "sfe::fused_bias_act",
    mutates_args=(),
    schema="(Tensor x, Tensor? bias, Tensor? noise, Tensor? noise_weight, Tensor? scale, float slope, float gain)"
    " -> Tensor",
)
def fused_bias_act(
    x: Tensor,
    bias: Tensor | None,
    noise: Tensor | None,
    noise_weight: Tensor | None,
    scale: Tensor | None,
    slope: float,
    gain: float,
) -> Tensor:
    return backend.ops_for(x).fused_bias_act(x, bias, noise, noise_weight, scale, slope, gain)


@torch.library.custom_op(
    "sfe::blur_bias_act",
    mutates_args=(),
    schema="(Tensor x, Tensor kernel, int[] pad, Tensor? bias, Tensor? noise, Tensor? noise_weight, Tensor? scale,"
    " float blur_gain, float slope, float gain) -> Tensor",
)
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
    return backend.ops_for(x).blur_bias_act(x, kernel, pad, bias, noise, noise_weight, scale, blur_gain, slope, gain)


@torch.library.custom_op(
    "sfe::act_grad", mutates_args=(), schema="(Tensor grad, Tensor y, float slope, float gain) -> Tensor"
)
def act_grad(grad: Tensor, y: Tensor, slope: float, gain: float) -> Tensor:
    """The gradient at the activation's input from that at its output y, whose sign is the input's."""
    return backend.ops_for(y).act_grad(grad, y, slope, gain)


@torch.library.custom_op("sfe::winograd_weight", mutates_args=(), schema="(Tensor weight) -> Tensor")
def winograd_weight(weight: Tensor) -> Tensor:
    return _winograd_ops(weight).winograd_weight(weight)


@torch.library.custom_op(
    "sfe::winograd_conv",
    mutates_args=(),
    schema="(Tensor x, Tensor weight, Tensor? bias, Tensor? in_scale, Tensor? in_shift, Tensor? out_scale,"
    " Tensor? noise, Tensor? noise_weight, Tensor? prelu, Tensor? residual, float gain) -> Tensor",
)
def winograd_conv(x: Tensor, weight: Tensor, *rest: Any) -> Tensor:
    return _winograd_ops(x).winograd_conv(x, weight, *rest)


@torch.library.custom_op("sfe::winograd_up_weight", mutates_args=(), schema="(Tensor weight) -> Tensor")
def winograd_up_weight(weight: Tensor) -> Tensor:
    return _winograd_ops(weight).winograd_up_weight(weight)


@torch.library.custom_op(
    "sfe::winograd_up", mutates_args=(), schema="(Tensor x, Tensor weight, Tensor? in_scale) -> Tensor"
)
def winograd_up(x: Tensor, weight: Tensor, in_scale: Tensor | None) -> Tensor:
    return _winograd_ops(x).winograd_up(x, weight, in_scale)


@torch.library.custom_op(
    "sfe::winograd_down",
    mutates_args=(),
    schema="(Tensor x, Tensor[] weights, Tensor[] biases, float slope) -> Tensor[]",
)
def winograd_down(x: Tensor, weights: list[Tensor], biases: list[Tensor], slope: float) -> list[Tensor]:
    return _winograd_ops(x).winograd_down(x, weights, biases, slope)


def _winograd_ops(x: Tensor) -> Any:
    return backend.ops_for(x) if x.device.type == "cpu" else native


def _on_cuda(name: str) -> Callable[..., Tensor]:
    return lambda x, *rest: getattr(backend.ops_for(x), name)(x, *rest)


# Registered with the dispatcher directly: a custom_op's wrapper would slow down each call
_cuda = torch.library.Library("sfe", "IMPL")
for _name in ("upfirdn2d", "fused_bias_act", "blur_bias_act", "act_grad"):
    _cuda.impl(_name, _on_cuda(_name), "CUDA")


@upfirdn2d.register_fake
def _(x: Tensor, kernel: Tensor, up: Ints, down: Ints, pad: Ints, gain: float) -> Tensor:
    size = (*x.shape[:2], *native.output_size(x.shape[2:], kernel, up, down, pad))
    return torch.empty(size, dtype=x.dtype, device=x.device, memory_format=native.memory_format(x))


@fused_bias_act.register_fake
def _(x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x, memory_format=native.memory_format(x))


@blur_bias_act.register_fake
def _(x: Tensor, kernel: Tensor, pad: Ints, *_: Any) -> Tensor:
    return torch.ops.sfe.upfirdn2d(x, kernel, (1, 1), (1, 1), pad, 1.0)


@act_grad.register_fake
def _(grad: Tensor, y: Tensor, slope: float, gain: float) -> Tensor:
    return torch.empty_like(y, memory_format=native.memory_format(y))


@winograd_weight.register_fake
def _(weight: Tensor) -> Tensor:
    return weight.new_empty(36, weight.shape[0] // native.PANEL, weight.shape[1], native.PANEL)


@winograd_conv.register_fake
def _(x: Tensor, weight: Tensor, *_: Any) -> Tensor:
    size = (x.shape[0], weight.shape[1] * native.PANEL, *x.shape[2:])
    return torch.empty(size, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


@winograd_up_weight.register_fake
def _(weight: Tensor) -> Tensor:
    return weight.new_empty(36, weight.shape[0] // native.PANEL, weight.shape[1], native.PANEL)


@winograd_up.register_fake
def _(x: Tensor, weight: Tensor, in_scale: Tensor | None) -> Tensor:
    size = (x.shape[0], weight.shape[1] * native.PANEL, 2 * x.shape[2] + 1, 2 * x.shape[3] + 1)
    return torch.empty(size, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


@winograd_down.register_fake
def _(x: Tensor, weights: list[Tensor], biases: list[Tensor], slope: float) -> list[Tensor]:
    height, width = (size // 2 + size % 2 for size in x.shape[2:])
    sizes = [(x.shape[0], weight.shape[0], height, width) for weight in weights]
    return [torch.empty(s, dtype=x.dtype, device=x.device, memory_format=torch.channels_last) for s in sizes]


# Derivatives. Each is made of ops that have derivatives themselves, so R1 and path length (second order) work too.


def _upfirdn2d_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, kernel, ctx.up, ctx.down, ctx.pad, ctx.gain = inputs
    ctx.save_for_backward(kernel)
    ctx.sizes = x.shape[2:], output.shape[2:]


def _upfirdn2d_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    (kernel,) = ctx.saved_tensors
    return _upfirdn2d_adjoint(grad, kernel, ctx.up, ctx.down, ctx.pad, ctx.gain, *ctx.sizes), *[None] * 5


def _upfirdn2d_adjoint(
    grad: Tensor, kernel: Tensor, up: Ints, down: Ints, pad: Ints, gain: float, size: Ints, out_size: Ints
) -> Tensor:
    """The transpose of `upfirdn2d` from an image of `size` (height, width) to one of `out_size`."""
    pads = []
    for axis, before in ((1, pad[0]), (0, pad[2])):  # x, then y
        after = size[axis] * up[1 - axis] - out_size[axis] * down[1 - axis] + before - up[1 - axis] + 1
        pads += [kernel.shape[axis] - before - 1, after]
    return torch.ops.sfe.upfirdn2d(grad, kernel.flip(0, 1), down, up, pads, gain)


def _fused_bias_act_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, bias, noise, noise_weight, scale, ctx.slope, ctx.gain = inputs
    x = x if scale is not None and ctx.needs_input_grad[4] else None  # nothing else's derivative reads it
    ctx.save_for_backward(output, x, bias, noise, noise_weight, scale)


def _fused_bias_act_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    y, x, bias, noise, noise_weight, scale = ctx.saved_tensors
    grad = torch.ops.sfe.act_grad(grad, y, ctx.slope, ctx.gain)
    grad_x, *grads = _affine_backward(grad, x, bias, noise, noise_weight, scale, ctx.needs_input_grad[1:5])
    return grad_x, *grads, None, None


def _blur_bias_act_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, kernel, ctx.pad, bias, noise, noise_weight, scale, ctx.blur_gain, ctx.slope, ctx.gain = inputs
    ctx.sizes = x.shape[2:], output.shape[2:]
    x = x if scale is not None and ctx.needs_input_grad[6] else None
    ctx.save_for_backward(output, x, kernel, bias, noise, noise_weight, scale)


def _blur_bias_act_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    y, x, kernel, bias, noise, noise_weight, scale = ctx.saved_tensors
    grad = torch.ops.sfe.act_grad(grad, y, ctx.slope, ctx.gain)
    one = (1, 1)
    blurred = None if x is None else torch.ops.sfe.upfirdn2d(x, kernel, one, one, ctx.pad, ctx.blur_gain)
    grad_x, *grads = _affine_backward(grad, blurred, bias, noise, noise_weight, scale, ctx.needs_input_grad[3:7])
    grad_x = _upfirdn2d_adjoint(grad_x, kernel, one, one, ctx.pad, ctx.blur_gain, *ctx.sizes)
    return grad_x, None, None, *grads, None, None, None


def _affine_backward(
    grad: Tensor,
    x: Tensor | None,
    bias: Tensor | None,
    noise: Tensor | None,
    noise_weight: Tensor | None,
    scale: Tensor | None,
    needed: Sequence[bool],
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of x · scale + noise · noise_weight + bias in x, bias, noise, noise_weight and scale."""
    grad_bias = grad_noise = grad_weight = grad_scale = None
    pixels = list(range(2, grad.dim()))
    if bias is not None and needed[0]:
        grad_bias = grad.sum([0, *pixels]).to(bias.dtype)
    if noise is not None and noise_weight is not None and (needed[1] or needed[2]):
        summed = grad.sum(1, keepdim=True)
        summed = summed.sum(0, keepdim=True) if noise.shape[0] < grad.shape[0] else summed
        grad_noise = (summed * noise_weight).to(noise.dtype) if needed[1] else None
        grad_weight = (summed * noise).sum().reshape(noise_weight.shape).to(noise_weight.dtype) if needed[2] else None
    if scale is None:
        return grad, grad_bias, grad_noise, grad_weight, None
    if x is not None and needed[3]:
        grad_scale = ((grad * x).sum(pixels) if pixels else grad * x).to(scale.dtype)
    grad_x = torch.ops.sfe.fused_bias_act(grad, None, None, None, scale, 1.0, 1.0)  # grad · scale, in one pass
    return grad_x, grad_bias, grad_noise, grad_weight, grad_scale


def _act_grad_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, y, ctx.slope, ctx.gain = inputs
    ctx.save_for_backward(y)


def _act_grad_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    (y,) = ctx.saved_tensors  # piecewise linear: nothing flows through the sign of y
    return torch.ops.sfe.act_grad(grad, y, ctx.slope, ctx.gain), None, None, None


upfirdn2d.register_autograd(_upfirdn2d_backward, setup_context=_upfirdn2d_setup)
fused_bias_act.register_autograd(_fused_bias_act_backward, setup_context=_fused_bias_act_setup)
blur_bias_act.register_autograd(_blur_bias_act_backward, setup_context=_blur_bias_act_setup)
act_grad.register_autograd(_act_grad_backward, setup_context=_act_grad_setup)
