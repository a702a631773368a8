"""The custom ops by their definition, one number at a time in float64, and how far from it a result may be."""

import itertools

import torch
from torch import Tensor

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 1e-3, torch.bfloat16: 8e-3}  # of the maximum


def plain_upfirdn2d(
    x: Tensor, kernel: Tensor, up: tuple[int, int], down: tuple[int, int], pad: tuple[int, int, int, int], gain: float
) -> Tensor:
    """The definition, one output at a time: insert zeros, pad or crop, convolve, keep every down-th. float64."""
    x, kernel = x.double().cpu(), kernel.double().cpu()
    batch, channels, height, width = x.shape
    stuffed = torch.zeros(batch, channels, height * up[1], width * up[0], dtype=torch.float64)
    for i, j in itertools.product(range(height), range(width)):
        stuffed[:, :, i * up[1], j * up[0]] = x[:, :, i, j]

    def pixel(i: int, j: int) -> Tensor:  # of the padded image
        i, j = i - pad[2], j - pad[0]
        inside = 0 <= i < stuffed.shape[2] and 0 <= j < stuffed.shape[3]
        return stuffed[:, :, i, j] if inside else torch.zeros(batch, channels, dtype=torch.float64)

    kh, kw = kernel.shape
    full_height, full_width = stuffed.shape[2] + pad[2] + pad[3], stuffed.shape[3] + pad[0] + pad[1]
    rows = []
    for i in range(0, full_height - kh + 1, down[1]):
        row = []
        for j in range(0, full_width - kw + 1, down[0]):
            taps = itertools.product(range(kh), range(kw))
            row.append(sum(kernel[kh - 1 - a, kw - 1 - b] * pixel(i + a, j + b) for a, b in taps) * gain)
        rows.append(torch.stack(row, -1))
    return torch.stack(rows, -2)


def plain_bias_act(
    x: Tensor,
    bias: Tensor | None,
    noise: Tensor | None,
    noise_weight: Tensor | None,
    scale: Tensor | None,
    slope: float,
    gain: float,
) -> Tensor:
    result = x.double().cpu().clone()
    for b, c in itertools.product(range(x.shape[0]), range(x.shape[1])):
        y = result[b, c]
        if scale is not None:
            y = y * scale[b, c].item()
        if noise is not None and noise_weight is not None:
            y = y + noise[b % len(noise), 0].double().cpu() * noise_weight.item()
        if bias is not None:
            y = y + bias[c].item()
        result[b, c] = torch.where(y > 0, y, y * slope) * gain
    return result


def check(found: Tensor, wanted: Tensor, like: Tensor) -> None:
    assert found.dtype == like.dtype and found.device == like.device
    assert found.shape == wanted.shape
    error = (found.double().cpu() - wanted).abs().max().item()
    assert error <= TOLERANCE[like.dtype] * max(1.0, wanted.abs().max().item())


def image(*shape: int, device: str, dtype: torch.dtype = torch.float32, layout: torch.memory_format) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, generator=generator).to(device, dtype).contiguous(memory_format=layout)


def blur() -> Tensor:
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    return torch.outer(taps, taps) / 64
