"""The custom ops on a GPU: outputs, layouts and the choice of a kernel, as ops.h does it for the CPU.

The kernels (kernels.cu) are compiled for one dtype and one kind of GPU by nvrtc.py; driver.py starts them.
"""

import ctypes
from typing import Protocol

import torch
from torch import Tensor

from models.stylegan2.ops import native
from models.stylegan2.ops.native import Ints

TYPES = {torch.float32: "float", torch.float16: "Half", torch.bfloat16: "BFloat16", torch.float64: "double"}
THREADS = 256  # of a block
ROWS_AT_ONCE = 65535  # CUDA's limit of a grid's second dimension; a thread computes every ROWS_AT_ONCE-th row
# Indices have 32 bits; the rest is for the last step of a grid, which goes beyond a tensor's end.
LARGEST = 2**31 - 2**25


class Launch(Protocol):
    """Starts a kernel on the current stream: its name, (x, y) of the grid and of a block, and its parameters."""

    def __call__(
        self, kernel: str, grid: tuple[int, int], block: tuple[int, int], *parameters: ctypes.Structure | ctypes.c_int
    ) -> None: ...


def _structures(real: type) -> tuple[type[ctypes.Structure], type[ctypes.Structure]]:
    """Args and ActGrad of element.h, for sums of type `real`."""
    pointer, number = ctypes.c_void_p, ctypes.c_int

    class Args(ctypes.Structure):
        _fields_ = (
            ("x", pointer), ("y", pointer), ("batch", number), ("channels", number), ("in_h", number),
            ("in_w", number), ("out_h", number), ("out_w", number), ("kernel", pointer), ("kernel_h", number),
            ("kernel_w", number), ("up_x", number), ("up_y", number), ("down_x", number), ("down_y", number),
            ("pad_x", number), ("pad_y", number), ("scale", pointer), ("bias", pointer), ("noise", pointer),
            ("noise_weight", pointer), ("noise_step", number), ("kernel_gain", real), ("slope", real), ("gain", real),
        )  # fmt: skip

    class ActGrad(ctypes.Structure):
        _fields_ = (("grad", pointer), ("y", pointer), ("result", pointer), ("slope", real), ("gain", real))

    return Args, ActGrad


_STRUCTURES = {torch.float32: _structures(ctypes.c_float), torch.float64: _structures(ctypes.c_double)}


def definitions(dtype: torch.dtype) -> dict[str, str]:
    """The macros that kernels.cu wants for a dtype."""
    args, act_grad = _STRUCTURES[native.compute_dtype(dtype)]
    sizes = {"SFE_ARGS_SIZE": str(ctypes.sizeof(args)), "SFE_ACT_GRAD_SIZE": str(ctypes.sizeof(act_grad))}
    return {"SFE_TYPE": TYPES[dtype], **sizes}


class Ops:
    """The ops for tensors of one dtype on one device, with the signatures of `native`."""

    def __init__(self, launch: Launch, dtype: torch.dtype) -> None:
        self._launch = launch
        self._real = native.compute_dtype(dtype)  # of sums, and of all tensors but x and y
        self._args, self._act_grad = _STRUCTURES[self._real]

    def upfirdn2d(self, x: Tensor, kernel: Tensor, up: Ints, down: Ints, pad: Ints, gain: float) -> Tensor:
        return self._filter(x, kernel, up, down, pad, gain, None, None, None, None, 1.0, 1.0)

    def blur_bias_act(
        self,
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
        one = (1, 1)
        return self._filter(x, kernel, one, one, pad, blur_gain, bias, noise, noise_weight, scale, slope, gain)

    def fused_bias_act(
        self,
        x: Tensor,
        bias: Tensor | None,
        noise: Tensor | None,
        noise_weight: Tensor | None,
        scale: Tensor | None,
        slope: float,
        gain: float,
    ) -> Tensor:
        x = _dense(x)
        y = torch.empty_like(x)
        if x.numel() == 0:
            return y
        images, last = (x, y), not x.is_contiguous()
        if x.dim() != 4:  # B×C is an image of one pixel, its channels innermost; B×C×… one of a single row
            images, last = (x.view(*x.shape[:2], 1, -1), y.view(*x.shape[:2], 1, -1)), x.dim() == 2
        self._rows(*images, last, None, (1, 1), (1, 1), (0,) * 4, 1.0, bias, noise, noise_weight, scale, slope, gain)
        return y

    def act_grad(self, grad: Tensor, y: Tensor, slope: float, gain: float) -> Tensor:
        y = _dense(y)
        grad = grad.contiguous(memory_format=native.memory_format(y))
        result = torch.empty_like(y)
        vector = 16 // y.element_size()
        aligned = _aligned(grad, y, result)
        for first in range(0, y.numel(), LARGEST):
            count, offset = min(LARGEST, y.numel() - first), first * y.element_size()
            pointers = (t.data_ptr() + offset for t in (grad, y, result))
            wide = aligned and count % vector == 0
            threads = count // vector if wide else count
            self._launch(
                "act_grad_vector" if wide else "act_grad",
                (_ceil(threads, THREADS), 1),
                (THREADS, 1),
                self._act_grad(*pointers, slope, gain),
                ctypes.c_int(count),
            )
        return result

    def _filter(
        self,
        x: Tensor,
        kernel: Tensor,
        up: Ints,
        down: Ints,
        pad: Ints,
        kernel_gain: float,
        bias: Tensor | None,
        noise: Tensor | None,
        noise_weight: Tensor | None,
        scale: Tensor | None,
        slope: float,
        gain: float,
    ) -> Tensor:
        x = _dense(x)
        size = native.output_size(x.shape[2:], kernel, up, down, pad)
        layout = native.memory_format(x)
        y = torch.empty(*x.shape[:2], *size, dtype=x.dtype, device=x.device, memory_format=layout)
        if y.numel():
            last = layout == torch.channels_last
            kernel = kernel.to(self._real).contiguous()
            filters = (kernel, up, down, pad, kernel_gain)
            self._rows(x, y, last, *filters, bias, noise, noise_weight, scale, slope, gain)
        return y

    def _rows(
        self,
        x: Tensor,
        y: Tensor,
        channels_last: bool,
        kernel: Tensor | None,
        up: Ints,
        down: Ints,
        pad: Ints,
        kernel_gain: float,
        bias: Tensor | None,
        noise: Tensor | None,
        noise_weight: Tensor | None,
        scale: Tensor | None,
        slope: float,
        gain: float,
    ) -> None:
        """Computes y (B×C×H'×W') from x (B×C×H×W) of the same layout, as many images at once as indices allow."""
        batch, channels, in_h, in_w = x.shape
        out_h, out_w = y.shape[2:]
        bias, noise, noise_weight, scale = (
            None if t is None else t.to(self._real).contiguous() for t in (bias, noise, noise_weight, scale)
        )
        kernel_h, kernel_w = (1, 1) if kernel is None else kernel.shape
        # windows begin outside of the image, where nothing is read, but whose index is computed
        reach = in_h + kernel_h + abs(pad[2]) + abs(pad[3])
        at_once = LARGEST // (channels * max(out_h * out_w, in_w * reach))
        if at_once == 0:
            raise ValueError(
                f"{tuple(x.shape)} to {tuple(y.shape)}: an image has too many numbers for the kernels' indices of "
                "32 bits; SFE_OPS=native does without the kernels"
            )

        vector = 16 // x.element_size()
        wide = channels_last and channels % vector == 0 and _aligned(x, y, bias, scale)
        along = out_w * channels // (vector if wide else 1) if channels_last else out_w  # threads that a row can use
        block = THREADS
        while block > 1 and block // 2 >= along:
            block //= 2
        name = f"{'planes' if not channels_last else 'channels_last_vector' if wide else 'channels_last'}_"
        name += "pointwise" if kernel is None else _filter_name(kernel, up, down)

        own_noise = noise is not None and len(noise) > 1  # for each image
        for first in range(0, batch, at_once):
            images = min(at_once, batch - first)
            rows = images * out_h * (1 if channels_last else channels)
            args = self._args(
                _pointer(x, first), _pointer(y, first), images, channels, in_h, in_w, out_h, out_w, _pointer(kernel),
                kernel_h, kernel_w, *up, *down, pad[0], pad[2], _pointer(scale, first), _pointer(bias),
                _pointer(noise, first if own_noise else 0), _pointer(noise_weight), out_h * out_w if own_noise else 0,
                kernel_gain, slope, gain,
            )  # fmt: skip
            grid = _ceil(along, block), min(_ceil(rows, THREADS // block), ROWS_AT_ONCE)
            self._launch(name, grid, (block, THREADS // block), args)


def _filter_name(kernel: Tensor, up: Ints, down: Ints) -> str:
    names = {(4, 4, 1, 1, 1, 1): "blur", (4, 4, 2, 2, 1, 1): "up", (4, 4, 1, 1, 2, 2): "down"}
    return names.get((*kernel.shape, *up, *down), "any")


def _dense(x: Tensor) -> Tensor:
    """x in a layout that the kernels read: channels_last or contiguous."""
    return x if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last) else x.contiguous()


def _pointer(x: Tensor | None, first: int = 0) -> int | None:
    """The address of x[first]."""
    if x is None:
        return None
    return x.data_ptr() + (first * x.stride(0) * x.element_size() if first else 0)


def _aligned(*tensors: Tensor | None) -> bool:
    return all(t is None or t.data_ptr() % 16 == 0 for t in tensors)


def _ceil(count: int, size: int) -> int:
    return -(-count // size)
