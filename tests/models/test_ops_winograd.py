"""Winograd convs against PyTorch's direct ones in float64, compiled and in plain PyTorch."""

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.stylegan2.ops import backend, native, upfirdn2d, winograd_conv, winograd_fits, winograd_weight


@pytest.fixture(params=["compiled", "native"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
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


def blur() -> Tensor:
    return torch.outer(torch.tensor([1.0, 3.0, 4.0, 2.0]), torch.tensor([2.0, 3.0, 3.0, 1.0])) / 25  # flips show


def direct(x: Tensor, weight: Tensor, up: bool) -> Tensor:
    if not up:
        return F.conv2d(x.double(), weight.double(), padding=1)
    y = F.conv_transpose2d(x.double(), weight.double().transpose(0, 1), stride=2)
    return upfirdn2d(y, blur().double(), pad=(1, 1, 1, 1))


def check(found: Tensor, wanted: Tensor, tolerance: float = 1e-4) -> None:
    assert found.dtype == torch.float32 and found.is_contiguous(memory_format=torch.channels_last)
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() <= tolerance * wanted.abs().max()


SHAPES = [(2, 16, 32, 5, 9), (1, 48, 96, 17, 6), (3, 32, 64, 1, 1), (1, 80, 32, 4, 64), (0, 16, 32, 8, 8)]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_is_the_conv(shape: tuple[int, ...], up: bool, layout: torch.memory_format) -> None:
    batch, channels, out, height, width = shape
    x, weight = torch.randn(batch, channels, height, width), torch.randn(out, channels, 3, 3)
    transformed = winograd_weight(weight, blur() if up else None)
    result = winograd_conv(x.contiguous(memory_format=layout), transformed, up=up)
    if batch:
        check(result, direct(x, weight, up))
    else:
        assert result.shape == (0, out, height * (1 + up), width * (1 + up))


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("noises", [1, 2])
@pytest.mark.parametrize("per_picture", [False, True])
def test_what_rides_along(up: bool, noises: int, per_picture: bool) -> None:
    x, weight = torch.randn(2, 32, 6, 7), torch.randn(64, 32, 3, 3)
    size = (6 * (1 + up), 7 * (1 + up))
    in_scale, in_shift = torch.rand(2, 32) if per_picture else torch.rand(32), torch.randn(32)
    out_scale, bias, prelu = torch.rand(2, 64), torch.randn(64), torch.rand(64)
    noise, noise_weight = torch.randn(noises, 1, *size), torch.tensor([3.0])
    residual = torch.randn(2, 64, *size)
    affine = x * in_scale.reshape(-1, 32, 1, 1) + in_shift.reshape(1, 32, 1, 1)  # the conv pads it by zeros
    y = direct(affine, weight, up) * out_scale[..., None, None] + noise * noise_weight + bias[:, None, None]
    wanted = F.prelu(y, prelu.double()) * 1.5 + residual
    found = winograd_conv(
        x,
        winograd_weight(weight, blur() if up else None),
        bias,
        in_scale,
        in_shift,
        prelu,
        residual,
        out_scale=out_scale,
        noise=noise,
        noise_weight=noise_weight,
        gain=1.5,
        up=up,
    )
    check(found, wanted)


def test_wide_layers_keep_their_accuracy() -> None:
    x, weight = torch.randn(1, 512, 16, 16), torch.randn(512, 512, 3, 3)
    check(winograd_conv(x, winograd_weight(weight)), direct(x, weight, False), tolerance=1e-4)


def test_both_ways_lay_weights_out_alike() -> None:
    for layout in (torch.contiguous_format, torch.channels_last):
        weight = torch.randn(64, 48, 3, 3).contiguous(memory_format=layout)
        torch.testing.assert_close(winograd_weight(weight), native.winograd_weight(weight.double()).float())


def test_is_registered_right() -> None:
    x, weight = torch.randn(1, 16, 5, 4), winograd_weight(torch.randn(32, 16, 3, 3))
    torch.library.opcheck(torch.ops.sfe.winograd_weight.default, (torch.randn(32, 16, 3, 3),))
    torch.library.opcheck(torch.ops.sfe.winograd_conv.default, (x, weight, 1, *[None] * 8, 1.0))


def test_which_layers_fit(way: str) -> None:
    assert winograd_fits(512, 512) == (way == "compiled")
    assert winograd_fits(32, 16, up=True) == (way == "compiled")
    assert not winograd_fits(3, 64) and not winograd_fits(64, 48) and not winograd_fits(8, 32)
    with pytest.raises(ValueError, match="whole panels"):
        winograd_weight(torch.randn(48, 16, 3, 3))


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
