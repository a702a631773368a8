"""Winograd convs against PyTorch's direct ones in float64, compiled and in plain PyTorch."""

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.stylegan2.ops import (
    backend,
    native,
    winograd_conv,
    winograd_down,
    winograd_fits,
    winograd_up,
    winograd_up_weight,
    winograd_weight,
)


@pytest.fixture(params=["compiled", "native"], autouse=True)
def implementation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Which implementation the public functions call."""
    backend.forget()
    if request.param == "native":
        monkeypatch.setenv("SFE_OPS", "native")
    elif backend.ops_for(torch.empty(0)) is native:
        pytest.skip("the kernels cannot be built here")
    torch.manual_seed(0)
    yield request.param
    monkeypatch.undo()
    backend.forget()


def direct(x: Tensor, weight: Tensor) -> Tensor:
    return F.conv2d(x.double(), weight.double(), padding=1)


def check(found: Tensor, wanted: Tensor, tolerance: float = 1e-4) -> None:
    assert found.dtype == torch.float32 and found.is_contiguous(memory_format=torch.channels_last)
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() <= tolerance * wanted.abs().max()


SHAPES = [(2, 16, 32, 5, 9), (1, 48, 96, 17, 6), (3, 32, 64, 1, 1), (1, 80, 32, 4, 64), (0, 16, 32, 8, 8)]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", SHAPES)
def test_is_the_conv(shape: tuple[int, ...], layout: torch.memory_format) -> None:
    batch, channels, out, height, width = shape
    x, weight = torch.randn(batch, channels, height, width), torch.randn(out, channels, 3, 3)
    result = winograd_conv(x.contiguous(memory_format=layout), winograd_weight(weight))
    if batch:
        check(result, direct(x, weight))
    else:
        assert result.shape == (0, out, height, width)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", SHAPES)
def test_is_the_transposed_conv(shape: tuple[int, ...], layout: torch.memory_format) -> None:
    batch, channels, out, height, width = shape
    x, weight, scale = (
        torch.randn(batch, channels, height, width),
        torch.randn(out, channels, 3, 3),
        torch.rand(batch, channels),
    )
    for in_scale in (None, scale):
        result = winograd_up(x.contiguous(memory_format=layout), winograd_up_weight(weight), in_scale)
        scaled = x.double() if in_scale is None else (x * in_scale[..., None, None]).double()
        if batch:
            check(result, F.conv_transpose2d(scaled, weight.double().transpose(0, 1), stride=2))
        else:
            assert result.shape == (0, out, 2 * height + 1, 2 * width + 1)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [*SHAPES, (2, 16, 32, 46, 49)])
def test_is_the_conv_with_stride_2(shape: tuple[int, ...], layout: torch.memory_format) -> None:
    batch, channels, out, height, width = shape
    x = torch.randn(batch, channels, height, width)
    weights = [torch.randn(out, channels, 3, 3), torch.randn(2 * out, channels, 3, 3).contiguous(memory_format=layout)]
    biases = [torch.randn(out), torch.randn(2 * out)]
    results = winograd_down(x.contiguous(memory_format=layout), weights, biases, 0.3)
    for result, weight, bias in zip(results, weights, biases, strict=True):
        wanted = F.leaky_relu(F.conv2d(x.double(), weight.double(), bias.double(), stride=2, padding=1), 0.3)
        if batch:
            check(result, wanted)
        else:
            assert result.shape == wanted.shape


@pytest.mark.parametrize("noises", [1, 2])
@pytest.mark.parametrize("per_image", [False, True])
def test_fused_operations(noises: int, per_image: bool) -> None:
    x, weight, size = torch.randn(2, 32, 6, 7), torch.randn(64, 32, 3, 3), (6, 7)
    in_scale, in_shift = torch.rand(2, 32) if per_image else torch.rand(32), torch.randn(32)
    out_scale, bias, prelu = torch.rand(2, 64), torch.randn(64), torch.rand(64)
    noise, noise_weight = torch.randn(noises, 1, *size), torch.tensor([3.0])
    residual = torch.randn(2, 64, *size)
    affine = x * in_scale.reshape(-1, 32, 1, 1) + in_shift.reshape(1, 32, 1, 1)  # the conv pads it by zeros
    y = direct(affine, weight) * out_scale[..., None, None] + noise * noise_weight + bias[:, None, None]
    wanted = F.prelu(y, prelu.double()) * 1.5 + residual
    result = winograd_conv(
        x,
        winograd_weight(weight),
        bias,
        in_scale,
        in_shift,
        prelu,
        residual,
        out_scale=out_scale,
        noise=noise,
        noise_weight=noise_weight,
        gain=1.5,
    )
    check(result, wanted)


def test_autocast_leaves_them_alone() -> None:
    x, weight, bias, scale = torch.randn(2, 32, 12, 12), torch.randn(64, 32, 3, 3), torch.randn(64), torch.rand(2, 32)

    def results() -> list[Tensor]:
        conv, up = winograd_weight(weight), winograd_up_weight(weight)
        down = winograd_down(x, [weight], [bias], 0.1)
        return [conv, up, winograd_conv(x, conv, bias, scale, prelu=bias), winograd_up(x, up, scale), *down]

    plain = results()
    with torch.autocast("cpu", torch.bfloat16):
        assert all(torch.equal(found, wanted) for found, wanted in zip(results(), plain, strict=True))


def test_wide_layers_keep_their_accuracy() -> None:
    x, weight = torch.randn(1, 512, 16, 16), torch.randn(512, 512, 3, 3)
    check(winograd_conv(x, winograd_weight(weight)), direct(x, weight), tolerance=1e-4)


def test_both_ways_lay_weights_out_alike() -> None:
    for layout in (torch.contiguous_format, torch.channels_last):
        weight = torch.randn(64, 48, 3, 3).contiguous(memory_format=layout)
        torch.testing.assert_close(winograd_weight(weight), native.winograd_weight(weight.double()).float())
        torch.testing.assert_close(winograd_up_weight(weight), native.winograd_up_weight(weight.double()).float())


def test_is_registered_right() -> None:
    x, weight = torch.randn(1, 16, 5, 4), winograd_weight(torch.randn(32, 16, 3, 3))
    torch.library.opcheck(torch.ops.sfe.winograd_weight.default, (torch.randn(32, 16, 3, 3),))
    torch.library.opcheck(torch.ops.sfe.winograd_conv.default, (x, weight, *[None] * 8, 1.0))
    torch.library.opcheck(torch.ops.sfe.winograd_up_weight.default, (torch.randn(32, 16, 3, 3),))
    torch.library.opcheck(torch.ops.sfe.winograd_up.default, (x, weight, torch.rand(1, 16)))
    plain = [torch.randn(32, 16, 3, 3), torch.randn(64, 16, 3, 3)]
    torch.library.opcheck(torch.ops.sfe.winograd_down.default, (x, plain, [torch.rand(32), torch.rand(64)], 0.1))


def test_which_layers_fit(implementation: str) -> None:
    assert winograd_fits(512, 512) == (implementation == "compiled")
    assert not winograd_fits(3, 64) and not winograd_fits(64, 48) and not winograd_fits(8, 32)
    for refuse in (winograd_weight, winograd_up_weight):
        with pytest.raises(ValueError, match="whole panels"):
            refuse(torch.randn(48, 16, 3, 3))


@pytest.mark.parametrize("name, wrong", [
    ("bias", torch.zeros(16)), ("in_scale", torch.zeros(3, 16)), ("in_shift", torch.zeros(16, dtype=torch.float64)),
    ("out_scale", torch.zeros(2, 32, device="meta")), ("noise", torch.zeros(2, 1, 5, 5)), ("prelu", torch.zeros(1)),
    ("residual", torch.zeros(1, 32, 5, 4)),
])  # fmt: skip
def test_wrong_arguments(name: str, wrong: torch.Tensor) -> None:
    weight = winograd_weight(torch.randn(32, 16, 3, 3))
    with pytest.raises(ValueError, match=f"{name} is .*; wanted"):
        winograd_conv(torch.randn(2, 16, 5, 4), weight, **{name: wrong})
    with pytest.raises(ValueError, match=r"weight is .*; wanted"):
        winograd_conv(torch.randn(2, 32, 5, 4), weight)
    with pytest.raises(ValueError, match=r"weight is .*; wanted"):
        winograd_up(torch.randn(2, 32, 5, 4), weight)
    with pytest.raises(ValueError, match=r"in_scale is .*; wanted"):
        winograd_up(torch.randn(2, 16, 5, 4), weight, torch.zeros(3, 16))
    with pytest.raises(ValueError, match=r"weight is .*; wanted"):
        winograd_down(torch.randn(2, 32, 5, 4), [torch.randn(32, 16, 3, 3)], [torch.randn(32)], 0.1)
    with pytest.raises(ValueError, match=r"bias is .*; wanted"):
        winograd_down(torch.randn(2, 16, 5, 4), [torch.randn(32, 16, 3, 3)], [torch.randn(16)], 0.1)
