"""The test that compiled kernels must pass on a device before they are used: tiny tensors, against plain PyTorch.

It catches a miscompiled library, one for another processor, a driver that runs kernels wrongly, and mistakes in our own
arithmetic that show only on a kind of GPU that we do not have.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from models.stylegan2.ops import native

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 1e-3, torch.bfloat16: 8e-3}  # of the maximum
WINOGRAD_TOLERANCE = 1e-4  # its sums cancel
SHAPES = ((2, 24, 6, 39), (2, 3, 5, 7))  # whole vectors of channels, or of pixels; neither
LAYOUTS = (torch.contiguous_format, torch.channels_last)

Call = tuple[str, tuple[Any, ...]]


class Mismatch(RuntimeError):
    """A kernel's result differs from plain PyTorch's."""


@contextmanager
def _quietly() -> Iterator[None]:
    """Without gradients, and on one thread: synchronising threads would take longer than the whole test."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            yield
    finally:
        torch.set_num_threads(threads)


@_quietly()
def check(ops: Any, device: torch.device, dtype: torch.dtype) -> None:
    """Runs each op of `ops` (signatures as in `native`) in each layout. Raises Mismatch, or what an op raises."""
    for shape in SHAPES:
        for name, arguments in _calls(shape, dtype):
            wanted = _run(native, name, arguments, torch.device("cpu"), torch.float64)
            for layout in LAYOUTS:
                result = _run(ops, name, arguments, device, layout=layout)
                what = f"{name} of {dtype}, {layout}, {'×'.join(map(str, shape))}"
                if result.dtype != dtype or not result.is_contiguous(memory_format=layout):
                    raise Mismatch(f"{what}: the result has {result.dtype} and strides {result.stride()}")
                _compare(what, result, wanted, TOLERANCE[dtype])


@_quietly()
def check_winograd(ops: Any) -> None:
    """The same for the Winograd convs, which are compiled only for the CPU."""
    x, weight, slopes = _wave(2, 16, 9, 6), _wave(64, 16, 3, 3), _wave(64, phase=1)
    scale, noise, strength = _wave(2, 16, phase=2), _wave(1, 1, 9, 6), _wave(1, phase=3)
    residual = _wave(2, 64, 9, 6, phase=4)
    around = (slopes, scale, _wave(16, phase=5), _wave(2, 64, phase=6), noise, strength, slopes, residual, 1.4)
    for name, transform, rest in (
        ("winograd_conv", "winograd_weight", around), ("winograd_up", "winograd_up_weight", (scale,)),
    ):  # fmt: skip
        wanted, result = (
            _run(ops_, name, (x, _run(ops_, transform, (weight,), cpu, t), *rest), cpu, t)
            for ops_, cpu, t in ((native, x.device, torch.float64), (ops, x.device, torch.float32))
        )
        _compare(name, result, wanted, WINOGRAD_TOLERANCE)
    weights, biases = [weight, weight.flip(0)], [slopes, slopes * 2]
    plain = native.winograd_down(x, weights, biases, 0.2)
    for a, b in zip(ops.winograd_down(x, weights, biases, 0.2), plain, strict=True):
        _compare("winograd_down", a, b.double(), WINOGRAD_TOLERANCE)


def _calls(shape: tuple[int, ...], dtype: torch.dtype) -> Iterator[Call]:
    """Names of ops with arguments on the CPU; the images among them, B×C×H×W, have the type in question."""
    x, gradient = _wave(*shape).to(dtype), _wave(*shape, phase=1).to(dtype)
    filter_4, filter_any = _wave(4, 4), _wave(3, 2)  # not symmetric: flips show
    bias, scale = _wave(shape[1], phase=2), _wave(*shape[:2], phase=3)
    noise, strength = _wave(shape[0], 1, *shape[2:], phase=4), _wave(1, phase=5)
    yield "upfirdn2d", (x, filter_4, (2, 2), (1, 1), (2, 1, 2, 1), 4.0)
    yield "upfirdn2d", (x, filter_4, (1, 1), (2, 2), (1, 1, 1, 1), 1.0)
    yield "upfirdn2d", (x, filter_any, (2, 1), (1, 2), (1, -1, 3, 0), 1.5)
    yield "blur_bias_act", (x, filter_4, (1, 2, 2, 1), bias, noise, strength, scale, 4.0, 0.2, 1.4)
    yield "fused_bias_act", (x, bias, noise[:1], strength, scale, 0.2, 1.4)
    yield "fused_bias_act", (x, None, None, None, None, 1.0, 1.0)
    yield "act_grad", (gradient, x, 0.2, 1.4)


def _run(
    ops: Any,
    name: str,
    arguments: tuple[Any, ...],
    device: torch.device,
    dtype: torch.dtype | None = None,
    layout: torch.memory_format = torch.preserve_format,
) -> Tensor:
    def moved(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return value.to(device, dtype, memory_format=layout if value.dim() == 4 else torch.preserve_format)

    return getattr(ops, name)(*map(moved, arguments))


def _compare(what: str, result: Tensor, wanted: Tensor, tolerance: float) -> None:
    error = (result.cpu().double() - wanted).abs().max().item() / max(1.0, wanted.abs().max().item())
    if not error <= tolerance:  # NaN does not match either
        raise Mismatch(f"{what}: off by {error:.1e} of the maximum, at most {tolerance:.0e} is rounding")


def _wave(*shape: int, phase: float = 0.0) -> Tensor:
    """Numbers from −1 to 1, float32 on the CPU. Not random: PyTorch's random numbers are the caller's."""
    count = torch.Size(shape).numel()
    return torch.sin(torch.arange(count, dtype=torch.float64, device="cpu") * 0.7 + phase).float().reshape(shape)
