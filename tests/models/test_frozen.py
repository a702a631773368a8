"""Optimised networks compute what the plain ones compute."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from small_domain import SmallDomain, randomised
from torch import Tensor, nn

from models.backbone import Backbone
from models.e4e import E4E
from models.frozen import cast_once, optimize
from models.frozen_layers import FrozenConv, FrozenStyledConv, SizedConv
from models.sfe import FeatureEditor
from models.stylegan2.generator import Generator
from models.stylegan2.ops import winograd_fits
from models.weights import freeze
from utils.memory import mapped_files, release


class Case:
    """A network, plain and made fast, with inputs of batch size 2; wide enough that Winograd fits some of its convs."""

    def __init__(self, small: SmallDomain, name: str, **options: Any) -> None:
        domain = small.load()
        domain.generator.channels = dict.fromkeys(domain.generator.channels, 32)
        domain.inverter.widths = domain.e4e.widths = [32] * 5
        draw, n_styles, dim = torch.Generator().manual_seed(1), domain.generator.n_styles, domain.generator.style_dim
        makers = {"backbone": lambda: Backbone(domain), "editor": lambda: FeatureEditor(domain),
                  "e4e": lambda: E4E(domain), "decoder": lambda: Generator(domain.generator)}  # fmt: skip
        self.plain = freeze(randomised(makers[name](), seed=2))
        self.inputs: list[Tensor | list[Tensor]] = [torch.randn(2, 3, 64, 64, generator=draw)]
        if isinstance(self.plain, FeatureEditor):
            self.inputs = list(torch.randn(2, 2, domain.feature_channels, 16, 16, generator=draw))
        if isinstance(self.plain, Generator):
            self.inputs = [self.plain.affine(torch.randn(2, n_styles, dim, generator=draw))]
        self.fast = optimize(copy.deepcopy(self.plain), *map(none_of, self.inputs), **options)

    def check(self, network: nn.Module) -> None:
        """The network computes what the plain one does."""
        for result, wanted in zip(*(torch.atleast_1d(net(*self.inputs)) for net in (network, self.plain)), strict=True):
            assert (result - wanted).abs().max() <= 1e-5 * wanted.abs().max()


def none_of(x: Tensor | list[Tensor]) -> Tensor | list[Tensor]:
    """The same with batch size 0."""
    return x[:0] if isinstance(x, Tensor) else [part[:0] for part in x]


NAMES = ["backbone", "editor", "e4e", "decoder"]
WAYS = [{}, {"winograd": False}, {"winograd": False, "layout": torch.contiguous_format}]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("options", WAYS, ids=str)
@torch.inference_mode()
def test_same_function(name: str, options: dict[str, Any], small: SmallDomain) -> None:
    case = Case(small, name, **options)
    assert any(isinstance(part, SizedConv) for part in case.fast.modules())
    assert not any(isinstance(part, nn.BatchNorm2d) for part in case.fast.modules())
    case.check(case.fast)
    case.inputs = [x[:1] if isinstance(x, Tensor) else [part[:1] for part in x] for x in case.inputs]
    case.check(case.fast)


@torch.inference_mode()
def test_winograd_is_chosen_where_it_pays(small: SmallDomain) -> None:
    """By the size of the maps that a conv reads; never without kernels, or if it is switched off."""

    def chosen(network: nn.Module) -> set[bool]:
        return {part.winograd for part in network.modules() if isinstance(part, FrozenConv | FrozenStyledConv)}

    there = winograd_fits(32, 32)
    for name in ("backbone", "e4e", "decoder"):  # they have maps of all sizes
        assert chosen(Case(small, name).fast) == {False, there}
        assert chosen(Case(small, name, winograd=False).fast) == {False}
    editor = Case(small, "editor")
    assert chosen(editor.fast) == {there}
    assert chosen(optimize(editor.plain, *[torch.empty(0, 32, 4, 4)] * 2)) == {False}


@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_weights_in_half_precision_give_what_autocast_gives(name: str, small: SmallDomain) -> None:
    case = Case(small, name, winograd=False)
    for network in (case.fast, *([] if name == "decoder" else [case.plain])):  # the plain one scales its weights first
        before = {key: value.clone() for key, value in network.state_dict().items()}
        half = cast_once(network, torch.bfloat16)
        convs = [part for part in half.modules() if isinstance(part, nn.Conv2d | nn.Linear | SizedConv)]
        weights = [part.weight for part in convs if isinstance(getattr(part, "weight", None), Tensor)]
        assert weights and all(weight.dtype == torch.bfloat16 for weight in weights)
        with torch.autocast("cpu", torch.bfloat16):
            for result, wanted in zip(*(torch.atleast_1d(net(*case.inputs)) for net in (half, network)), strict=True):
                assert torch.equal(result, wanted)
        assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
        assert cast_once(network, torch.float32) is network


@torch.inference_mode()
def test_styles_and_demodulation_keep_all_digits_under_autocast(small: SmallDomain) -> None:
    case = Case(small, "decoder")
    assert isinstance(case.plain, Generator)
    config = case.plain.config
    w, style = torch.randn(2, config.n_styles, config.style_dim), 300 * torch.randn(2, 32)  # squares overflow float16

    def results() -> list[Tensor]:
        demodulation = case.plain.conv1.conv.demodulation(style)
        return [*case.plain.affine(w), *case.fast.affine(w), case.plain.mapping(w[:, 0]), demodulation]

    wanted = results()
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype):
            assert all(torch.equal(a, b) for a, b in zip(results(), wanted, strict=True))


@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_copies_and_forwards_change_nothing(name: str, small: SmallDomain) -> None:
    case = Case(small, name)
    before = {key: value.clone() for key, value in case.fast.state_dict().items()}
    twin = copy.deepcopy(case.fast)
    for network in (case.fast, twin, copy.deepcopy(case.fast), case.fast):
        case.check(network)
    assert before.keys() == case.fast.state_dict().keys()
    assert all(torch.equal(value, before[key]) for key, value in case.fast.state_dict().items())


@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_compiled_graphs_are_whole_and_right(name: str, small: SmallDomain) -> None:
    """One graph without breaks, before the first image as after it."""
    case = Case(small, name)
    case.check(torch.compile(case.fast, fullgraph=True, backend="aot_eager"))
    case.check(case.fast)


@torch.inference_mode()
def test_a_compiled_decoder_has_one_graph_for_all_larger_batches(small: SmallDomain) -> None:
    case = Case(small, "decoder")
    styles = case.inputs[0]
    torch._dynamo.reset()
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    compiled = torch.compile(case.fast, fullgraph=True, backend="aot_eager")
    for size in (2, 3, 4, 5):  # the first size is compiled as a constant
        compiled([style[:1].repeat(size, 1) for style in styles])
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] - before == 2


def test_release_keeps_the_content_and_frees_the_memory(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("mapped") / "tensor.pt"
    torch.save({"x": torch.arange(8_000_000, dtype=torch.float32)}, path)
    tensor = torch.load(path, mmap=True, weights_only=True)["x"]
    total = tensor.sum()
    ranges = mapped_files([tensor])
    assert len(ranges) == 1
    before = resident()
    release(ranges)
    assert before - resident() > 30e6
    assert torch.equal(tensor.sum(), total)


def resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096.0
