"""The custom ops against what the machine can do: bytes moved beside a plain copy's, convs beside a matrix product's.

    python benchmarks/ops.py [--device cpu|cuda] [--json]

Each op's bytes are its input and its output once. Sizes are those of the 1024 px decoder. Times are medians; the rates
that they are compared with are measured in the same run.
"""

import argparse
import json
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from measure import matmul_gflops, seconds
from torch import Tensor

from models.stylegan2.ops import (
    backend,
    blur_bias_act,
    fused_bias_act,
    native,
    upfirdn2d,
    winograd_conv,
    winograd_up,
    winograd_up_weight,
    winograd_weight,
)
from utils.malloc import tune_malloc

SIZES = [(1024, 32), (512, 64), (256, 128), (128, 256), (64, 512)]  # px, channels

Rows = dict[str, dict[str, float]]


def memory_ops(size: int, channels: int, device: torch.device, dtype: torch.dtype) -> Rows:
    """The ops that only move memory: seconds, GB/s and the fraction of the rate at which as many bytes are copied."""
    x, wide = (
        torch.randn(1, channels, side, side, device=device).to(dtype, memory_format=torch.channels_last)
        for side in (size, size + 1)
    )
    rgb = torch.randn(1, 3, size // 2, size // 2, device=device).to(dtype)
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], device=device)
    kernel = torch.outer(taps, taps) / 64
    noise, weight = torch.randn(1, 1, size, size, device=device), torch.tensor(0.1, device=device)
    epilogue = (torch.randn(channels, device=device), noise, weight, torch.rand(1, channels, device=device))

    def measured(source: Tensor, op: Callable[[Tensor], Tensor]) -> dict[str, float]:
        moved = source.nbytes + op(source).nbytes
        half = torch.empty(moved // 2, dtype=torch.uint8, device=device)
        duration, copying = seconds(lambda: op(source)), seconds(lambda: half.clone())
        return {"seconds": duration, "gb_per_s": moved / duration / 1e9, "fraction_of_copy": copying / duration}

    pad = (1, 1, 1, 1)
    return {
        f"fused_bias_act, {size} px": measured(x, lambda x: fused_bias_act(x, *epilogue)),
        f"blur, {size} px": measured(wide, lambda x: upfirdn2d(x, kernel, pad=pad, gain=4.0)),
        f"blur_bias_act, {size} px": measured(wide, lambda x: blur_bias_act(x, kernel, pad, *epilogue, blur_gain=4.0)),
        f"down 2, {size} px": measured(x, lambda x: upfirdn2d(x, kernel, down=2, pad=pad)),
        f"RGB skip, up 2, {size} px": measured(rgb, lambda x: upfirdn2d(x, kernel, up=2, pad=(2, 1, 2, 1), gain=4.0)),
    }


def convs(size: int, inside: int, outside: int, up: bool, gflops: float) -> Rows:
    """A styled conv or up-conv with all that surrounds it, direct (PyTorch's) and by Winograd. CPU, float32."""
    x = torch.randn(1, inside, size, size).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(outside, inside, 3, 3) / (3 * math.sqrt(inside))
    style, demodulation, bias = torch.rand(1, inside), torch.rand(1, outside), torch.randn(outside)
    noise, noise_weight = torch.randn(1, 1, size * (1 + up), size * (1 + up)), torch.tensor(0.1)
    slope = torch.full((outside,), 0.2)
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    kernel = torch.outer(taps, taps) / 16
    transformed = (winograd_up_weight if up else winograd_weight)(weight)
    last = (weight.transpose(0, 1) if up else weight).contiguous(memory_format=torch.channels_last)

    epilogue = (bias, noise, noise_weight, demodulation)

    def direct() -> Tensor:
        y = x * style[..., None, None]
        if up:
            return blur_bias_act(F.conv_transpose2d(y, last, stride=2), kernel, (1, 1, 1, 1), *epilogue)
        return fused_bias_act(F.conv2d(y, last, padding=1), *epilogue)

    def winograd() -> Tensor:
        if up:
            return blur_bias_act(winograd_up(x, transformed, style), kernel, (1, 1, 1, 1), *epilogue)
        return winograd_conv(
            x, transformed, bias, style, prelu=slope, out_scale=demodulation, noise=noise,
            noise_weight=noise_weight, gain=math.sqrt(2),
        )  # fmt: skip

    gflop = 18 * inside * outside * size**2 / 1e9
    results: Rows = {}
    for conv in (direct, winograd):
        duration = seconds(conv)
        name = f"{'up-conv' if up else 'conv'} {inside}→{outside} of {size} px, {conv.__name__}"
        results[name] = {"seconds": duration, "gflop": gflop, "fraction": gflop / duration / gflops}
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "float16", "bfloat16"])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    tune_malloc()
    device = torch.device(arguments.device)
    dtype = getattr(torch, arguments.dtype)
    compiled = backend.ops_for(torch.empty(0, device=device, dtype=dtype)) is not native
    with torch.inference_mode():
        gflops = matmul_gflops(device)
        memory: Rows = {}
        products: Rows = {}
        for size, channels in SIZES[:3]:
            memory |= memory_ops(size, channels, device, dtype)
        if device.type == "cpu" and arguments.dtype == "float32":
            for size, channels in SIZES:
                products |= convs(size, channels, channels, False, gflops)
            for size, channels in SIZES[1:]:
                products |= convs(size, channels, channels // 2, True, gflops)
    if arguments.json:
        print(json.dumps({"compiled": compiled, "matmul_gflops": gflops, "memory": memory, "convs": products}))
        return
    print(f"{'compiled kernels' if compiled else 'plain PyTorch'}; matrix product {gflops:.0f} GFLOP/s")
    print(f"{'op':44} {'ms':>8} {'GB/s':>7} {'of a copy':>10}")
    for name, row in memory.items():
        print(f"{name:44} {row['seconds'] * 1e3:8.2f} {row['gb_per_s']:7.1f} {row['fraction_of_copy']:10.2f}")
    if products:
        print(f"{'conv, with style, noise, bias, activation':44} {'ms':>8} {'GFLOP':>7} {'of matmul':>10}")
    for name, row in products.items():
        print(f"{name:44} {row['seconds'] * 1e3:8.2f} {row['gflop']:7.1f} {row['fraction']:10.2f}")


if __name__ == "__main__":
    main()
