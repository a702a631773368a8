"""Optimised networks compute what the plain ones compute."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_domain import SmallDomain
from torch import Tensor, nn

from arguments.domain import DomainConfig
from models.frozen import FrozenConv, FrozenStyleHead, optimize
from models.weights import load_e4e, load_feature_editor
from utils.memory import mapped_files, pages, release

Run = Callable[[nn.Module, Tensor], Tensor | tuple[Tensor, ...]]


def networks(small: SmallDomain, domain: DomainConfig) -> dict[str, tuple[Callable[[], nn.Module], Run]]:
    features = torch.randn(2, domain.feature_channels, 16, 16, generator=torch.Generator().manual_seed(1))
    return {
        "backbone": (lambda: load_feature_editor(small.editor, domain)[0].fs_backbone, lambda net, x: net(x)),
        "editor": (
            lambda: load_feature_editor(small.editor, domain)[1],
            lambda net, x: net(features, features.flip(1)),
        ),
        "e4e": (lambda: load_e4e(small.e4e, domain), lambda net, x: net(x)),
    }


@pytest.mark.parametrize("name", ["backbone", "editor", "e4e"])
@torch.inference_mode()
def test_same_function(name: str, small: SmallDomain) -> None:
    load, run = networks(small, small.load())[name]
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    plain, fast = load(), optimize(load())
    assert any(isinstance(part, FrozenConv) for part in fast.modules())
    assert not any(isinstance(part, nn.BatchNorm2d) for part in fast.modules())
    for _ in range(2):  # the second picture, too, once the heads' weights were given back
        for found, wanted in zip(torch.atleast_1d(run(fast, x)), torch.atleast_1d(run(plain, x)), strict=True):
            assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max()


@torch.inference_mode()
def test_heads_use_the_mapped_file_and_give_it_back(small: SmallDomain) -> None:
    fast = optimize(load_e4e(small.e4e, small.load()))
    heads = [part for part in fast.modules() if isinstance(part, FrozenStyleHead)]
    assert heads and all(head.mapped for head in heads)
    assert not mapped_files([torch.ones(100_000)])


def test_release_keeps_the_content_and_frees_the_memory(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("mapped") / "tensor.pt"
    torch.save({"x": torch.arange(8_000_000, dtype=torch.float32)}, path)
    tensor = torch.load(path, mmap=True, weights_only=True)["x"]
    total = tensor.sum()
    for ranges in ([pages(tensor)], mapped_files([tensor])):
        assert len(ranges) == 1
        before = resident()
        release(ranges)
        assert before - resident() > 30e6
        assert torch.equal(tensor.sum(), total)


def resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096.0
