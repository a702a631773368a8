"""The custom ops against slow, plain definitions: compiled and in plain PyTorch, on the CPU and on any GPU."""

import itertools
import math
from collections.abc import Callable, Iterator

import pytest
import torch
from plain_ops import TOLERANCE, blur, check, image, plain_bias_act, plain_upfirdn2d
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from models.stylegan2.ops import backend, blur_bias_act, fused_bias_act, native, upfirdn2d

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
LAYOUTS = [torch.contiguous_format, torch.channels_last]


@pytest.fixture(params=["compiled", "native"])
def implementation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Which implementation the public functions call. On a GPU, nothing replaces compiled kernels that fail."""
    backend.forget()
    monkeypatch.setenv("SFE_OPS", "native" if request.param == "native" else "cuda")
    if request.param == "compiled" and backend.ops_for(torch.empty(0)) is native:
        pytest.skip("the CPU's kernels cannot be built here")
    yield request.param
    monkeypatch.undo()
    backend.forget()


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    return request.param


FILTERS = {
    "blur": ((4, 4), (1, 1), (1, 1), (1, 1, 1, 1)),
    "up": ((4, 4), (2, 2), (1, 1), (2, 1, 2, 1)),
    "down": ((4, 4), (1, 1), (2, 2), (1, 1, 1, 1)),
    "crop": ((4, 4), (1, 1), (1, 1), (-1, 3, 4, -2)),
    "crop the upsampled": ((4, 4), (2, 2), (1, 1), (-3, 2, -1, 3)),
    "wide pads": ((4, 4), (1, 1), (1, 1), (6, 7, 5, 8)),
    "unequal kernel": ((3, 2), (1, 1), (1, 1), (1, 2, 0, 1)),
    "all of it": ((5, 3), (3, 2), (2, 3), (4, -1, -2, 5)),
    "one tap": ((1, 1), (2, 1), (1, 2), (0, 0, 0, 0)),
    "gaps": ((2, 2), (4, 4), (1, 1), (1, 0, 0, 1)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", FILTERS)
@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (1, 19, 7, 38)])  # whole vectors, rests, and neither
def test_upfirdn2d_is_its_definition(
    implementation: str, device: str, shape: tuple[int, ...], case: str, layout: str
) -> None:
    size, up, down, pad = FILTERS[case]
    kernel = torch.rand(size, generator=torch.Generator().manual_seed(0)).to(device)  # not symmetric: flips show
    x = image(*shape, device=device, layout=layout)
    result = upfirdn2d(x, kernel, up, down, pad, gain=1.5)
    check(result, plain_upfirdn2d(x, kernel, up, down, pad, 1.5), x)
    assert result.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_types(implementation: str, device: str, layout: torch.memory_format, dtype: torch.dtype) -> None:
    x = image(2, 35, 6, 21, device=device, dtype=dtype, layout=layout)
    bias = torch.linspace(-1, 1, 35, device=device)  # float32, as parameters are for any type of activations
    scale = torch.linspace(0.5, 2, 70, device=device).reshape(2, 35)
    noise, weight = image(1, 1, 6, 21, device=device, layout=layout), torch.tensor(0.3, device=device)
    for up, down in ((1, 1), (2, 1), (1, 2)):
        kernel = torch.rand(4, 4, device=device)
        wanted = plain_upfirdn2d(x, kernel, (up, up), (down, down), (2, 1, 2, 1), 1.0)
        check(upfirdn2d(x, kernel, up, down, (2, 1, 2, 1)), wanted, x)
    wanted = plain_bias_act(x, bias, noise, weight, scale, 0.2, math.sqrt(2))
    check(fused_bias_act(x, bias, noise, weight, scale), wanted, x)
    blurred = plain_upfirdn2d(x, blur(), (1, 1), (1, 1), (1, 2, 2, 1), 4.0)
    wanted = plain_bias_act(blurred, bias, noise, weight, scale, 0.2, math.sqrt(2))
    result = blur_bias_act(x, blur().to(device), (1, 2, 2, 1), bias, noise, weight, scale, blur_gain=4.0)
    check(result, wanted, x)


def test_bfloat16_is_rounded_as_pytorch_rounds(implementation: str, device: str) -> None:
    """To the nearest, ties to even, in vectors and in their rests; infinities and NaN stay what they are."""
    words = torch.randint(-(2**15), 2**15, (40_000,), generator=torch.Generator().manual_seed(0)).to(torch.int16)
    special = torch.tensor([0.0, -0.0, math.inf, -math.inf, math.nan, 1.0, -1.0], dtype=torch.bfloat16)
    numbers = torch.cat([words.view(torch.bfloat16), special]).to(device)
    x = numbers[None, :, None, None].expand(2, -1, 1, 1).contiguous(memory_format=torch.channels_last)
    gain = 1 + 2**-8  # products are exact in float32, half-way between two bfloat16 where x is a power of two
    result, wanted = fused_bias_act(x, slope=1.0, gain=gain), (x.float() * gain).to(torch.bfloat16)
    assert torch.equal(result.isnan(), wanted.isnan()) and result.isnan().any()
    assert torch.equal(result[~result.isnan()], wanted[~result.isnan()])
    assert result[~result.isnan()].isinf().any()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("parts", list(itertools.product([False, True], [0, 1, 2], [False, True])))
def test_bias_act_is_its_definition(
    implementation: str, device: str, parts: tuple, layout: torch.memory_format
) -> None:
    has_bias, noises, has_scale = parts
    x = image(2, 19, 5, 23, device=device, layout=layout)
    bias = torch.linspace(-1, 1, 19, device=device) if has_bias else None
    scale = torch.linspace(0.5, 2, 38, device=device).reshape(2, 19) if has_scale else None
    noise = image(noises, 1, 5, 23, device=device, layout=torch.contiguous_format) if noises else None
    weight = torch.tensor([0.7], device=device) if noises else None
    for slope, gain in ((0.2, math.sqrt(2)), (1.0, 1.0), (0.0, 3.0)):
        result = fused_bias_act(x, bias, noise, weight, scale, slope, gain)
        check(result, plain_bias_act(x, bias, noise, weight, scale, slope, gain), x)
        assert result.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("shape", [(3, 40), (2, 5, 33), (2, 5, 3, 4, 3)])
def test_bias_act_takes_vectors_and_volumes(implementation: str, device: str, shape: tuple[int, ...]) -> None:
    x = image(*shape, device=device, layout=torch.contiguous_format)
    bias = torch.linspace(-1, 1, shape[1], device=device)
    scale = torch.rand(shape[:2], device=device)
    check(fused_bias_act(x, bias, scale=scale), plain_bias_act(x, bias, None, None, scale, 0.2, math.sqrt(2)), x)


def test_strided_and_empty_inputs(implementation: str, device: str) -> None:
    x = image(2, 6, 10, 9, device=device, layout=torch.contiguous_format)
    kernel = torch.rand(4, 4, device=device).T
    bias = torch.rand(6, device=device)[::2]
    strided = x[:, ::2, ::2].transpose(2, 3)
    pad = (2, 1, 1, 2)
    wanted = plain_upfirdn2d(strided, kernel, (1, 1), (1, 1), pad, 1.0)
    check(upfirdn2d(strided, kernel, pad=pad), wanted, x)
    check(blur_bias_act(strided, kernel, pad, bias), plain_bias_act(wanted, bias, None, None, None, 0.2, 2**0.5), x)
    check(fused_bias_act(strided, bias), plain_bias_act(strided, bias, None, None, None, 0.2, 2**0.5), x)
    assert upfirdn2d(x[:0], kernel, up=2, pad=pad).shape == (0, 6, 20, 18)
    assert upfirdn2d(x[:, :0], kernel, pad=pad).shape == (2, 0, 10, 9)
    assert upfirdn2d(x[:, :, :0], kernel, pad=(2, 2, 2, 2)).shape == (2, 6, 1, 10)
    assert fused_bias_act(x[:0]).shape == (0, 6, 10, 9)
    assert fused_bias_act(x[:0, :, 0, 0]).shape == (0, 6)
    assert fused_bias_act(x[:0, :, 0]).shape == (0, 6, 9)
    assert blur_bias_act(x[:0], kernel, pad).shape == (0, 6, 10, 9)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_tensors_that_do_not_begin_at_16_bytes(implementation: str, device: str, dtype: torch.dtype) -> None:
    def shifted(x: Tensor) -> Tensor:
        """x, one number after the beginning of its memory."""
        memory = torch.empty(x.numel() + 1, dtype=x.dtype, device=x.device)
        return memory[1:].as_strided(x.shape, x.stride()).copy_(x)

    x = image(2, 16, 4, 5, device=device, dtype=dtype, layout=torch.channels_last)
    bias, scale = torch.linspace(-1, 1, 16, device=device), torch.rand(2, 16, device=device)
    wanted = plain_bias_act(x, bias, None, None, scale, 0.2, math.sqrt(2))
    for arguments in ((shifted(x), bias, scale), (x, shifted(bias), scale), (x, bias, shifted(scale))):
        check(fused_bias_act(arguments[0], arguments[1], scale=arguments[2]), wanted, x)
    y = shifted(x.contiguous()).requires_grad_()
    (gradient,) = torch.autograd.grad(fused_bias_act(y).sum(), y)
    ones = torch.ones(x.shape, dtype=torch.float64)
    check(gradient, torch.where(x.cpu() > 0, ones, 0.2 * ones) * math.sqrt(2), x)


def test_autocast_leaves_the_ops_alone(implementation: str, device: str) -> None:
    x = image(2, 3, 6, 5, device=device, layout=torch.contiguous_format)
    kernel = torch.rand(4, 4, device=device)
    with torch.autocast(device, torch.bfloat16):
        check(upfirdn2d(x, kernel, pad=(2, 1, 2, 1)), plain_upfirdn2d(x, kernel, (1, 1), (1, 1), (2, 1, 2, 1), 1.0), x)


def double(*shape: int, device: str) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, device=device, requires_grad=True)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", ["blur", "up", "down", "all of it"])
def test_derivatives_of_upfirdn2d(implementation: str, device: str, case: str, layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    size, up, down, pad = FILTERS[case]
    kernel = torch.rand(size, dtype=torch.float64, device=device)

    def op(x: Tensor) -> Tensor:
        return upfirdn2d(x.contiguous(memory_format=layout), kernel, up, down, pad, gain=1.5)

    x = double(1, 2, 4, 3, device=device)
    assert gradcheck(op, x, fast_mode=True) and gradgradcheck(op, x, fast_mode=True)


@pytest.mark.parametrize("noises", [1, 2])
def test_derivatives_of_the_activation(implementation: str, device: str, noises: int) -> None:
    torch.manual_seed(0)
    kernel = torch.rand(4, 4, dtype=torch.float64, device=device)
    small = double(3, device=device), double(noises, 1, 4, 3, device=device), double(1, device=device)
    inputs = (double(2, 3, 4, 3, device=device), *small, double(2, 3, device=device))

    def fused(x: Tensor, bias: Tensor, noise: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
        return fused_bias_act(x, bias, noise, weight, scale)

    def blurred(x: Tensor, bias: Tensor, noise: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
        return blur_bias_act(x, kernel, (1, 2, 2, 1), bias, noise, weight, scale, blur_gain=4.0, slope=0.3, gain=2.0)

    for op in (fused, blurred):
        assert gradcheck(op, inputs) and gradgradcheck(op, inputs)
    vector = double(3, 4, device=device), double(4, device=device), double(3, 4, device=device)
    assert gradgradcheck(lambda x, bias, scale: fused_bias_act(x, bias, scale=scale), vector)


def test_filters_can_be_learnt(implementation: str) -> None:
    kernel = torch.rand(3, 3, dtype=torch.float64, requires_grad=True)
    x = torch.randn(1, 1, 4, 4, dtype=torch.float64)
    assert gradcheck(lambda k: upfirdn2d(x, k, pad=(1, 1, 1, 1)), kernel)
    assert gradcheck(lambda k: blur_bias_act(x, k, (1, 1, 1, 1)), kernel)


def test_r1_penalty_in_half_precision(implementation: str, device: str) -> None:
    """A second derivative through all ops with float32 parameters and half activations, as training has them."""
    bias = torch.zeros(3, device=device, requires_grad=True)
    x = torch.randn(2, 3, 8, 8, device=device, dtype=torch.float16, requires_grad=True)
    y = blur_bias_act(fused_bias_act(x, bias), blur().to(device), (1, 1, 1, 1), bias)
    (gradient,) = torch.autograd.grad((y.float() ** 2).sum(), x, create_graph=True)
    gradient.float().square().sum().backward()
    assert bias.grad is not None and bias.grad.dtype == torch.float32 and bias.grad.isfinite().all()
    assert x.grad is not None and x.grad.dtype == torch.float16 and x.grad.abs().sum() > 0


def samples(device: str) -> dict[str, tuple]:
    x = torch.randn(2, 3, 6, 5, device=device, requires_grad=True)
    last = x.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    kernel, bias = torch.rand(4, 4, device=device), torch.randn(3, device=device, requires_grad=True)
    noise, weight = torch.randn(1, 1, 6, 5, device=device), torch.rand(1, device=device, requires_grad=True)
    scale = torch.rand(2, 3, device=device, requires_grad=True)
    return {
        "upfirdn2d": (last, kernel, [2, 1], [1, 2], [2, 1, 1, 2], 1.5),
        "fused_bias_act": (last, bias, noise, weight, scale, 0.2, 1.4),
        "blur_bias_act": (x, kernel, [1, 2, 2, 1], bias, noise, weight, scale, 4.0, 0.2, 1.4),
        "act_grad": (x, x.detach(), 0.2, 1.4),
    }


@pytest.mark.parametrize("name", ["upfirdn2d", "fused_bias_act", "blur_bias_act", "act_grad"])
def test_ops_are_registered_right(device: str, name: str) -> None:
    torch.library.opcheck(getattr(torch.ops.sfe, name).default, samples(device)[name])


class Block(torch.nn.Module):
    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        y = fused_bias_act(upfirdn2d(x, blur(), up=2, pad=(2, 1, 2, 1), gain=4.0), bias)
        return blur_bias_act(y, blur(), (1, 2, 2, 1), bias)


def test_compile_and_export_keep_the_ops() -> None:
    x, bias = torch.randn(2, 3, 8, 6, requires_grad=True), torch.randn(3)
    compiled = torch.compile(Block(), fullgraph=True, backend="aot_eager")
    wanted = Block()(x, bias)
    result = compiled(x, bias)
    torch.testing.assert_close(result, wanted)
    torch.testing.assert_close(*(torch.autograd.grad(y.square().sum(), x)[0] for y in (result, wanted)))
    program = torch.export.export(Block(), (x.detach(), bias))
    called = [str(node.target) for node in program.graph.nodes if "sfe" in str(node.target)]
    assert called == ["sfe.upfirdn2d.default", "sfe.fused_bias_act.default", "sfe.blur_bias_act.default"]


BAD: dict[str, Callable[[Tensor], Tensor]] = {
    "up must be at least 1": lambda x: upfirdn2d(x, blur(), up=0),
    "smaller than the kernel": lambda x: upfirdn2d(x, blur(), pad=(-2, 0, 0, 0)),
    "x is torch.int64": lambda x: upfirdn2d(x.long(), blur()),
    "a kh×kw kernel": lambda x: upfirdn2d(x, blur()[0]),
    "bias is torch.int64": lambda x: fused_bias_act(x, torch.zeros(3, dtype=torch.int64)),
    "kernel is on meta, but x on cpu": lambda x: upfirdn2d(x, blur().to("meta")),
    "scale is on meta, but x on cpu": lambda x: fused_bias_act(x, scale=torch.zeros(2, 3, device="meta")),
    "bias must hold 3 numbers": lambda x: fused_bias_act(x, torch.zeros(4)),
    "scale must be 2×3": lambda x: fused_bias_act(x, scale=torch.zeros(3, 2)),
    "noise and noise_weight go together": lambda x: fused_bias_act(x, noise=torch.zeros(1, 1, 5, 5)),
    "noise must be": lambda x: blur_bias_act(x, blur(), (1, 1, 1, 1), None, torch.zeros(1, 1, 5, 5), torch.tensor(1.0)),
    "gain must be positive": lambda x: fused_bias_act(x, gain=-1.0),
}


@pytest.mark.parametrize("message", BAD)
def test_wrong_arguments(message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BAD[message](torch.randn(2, 3, 5, 5))
