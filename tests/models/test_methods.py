"""Methods in other number formats, compiled, and on every device that is there."""

import pytest
import torch
from emulated_graphs import emulate_graphs
from small_domain import SmallDomain
from torch import Tensor

from editings.latent_editor import LatentEditor
from models.cuda_graph import SHAPES, CudaGraphs
from models.inference import METHODS, Method


def method(small: SmallDomain, name: str = "fse_full", **options: object) -> Method:
    domain = small.load()
    checkpoint = small.editor if name == "fse_full" else small.inverter
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return METHODS[name](domain, str(checkpoint), device, LatentEditor(domain, device=device), **options)  # type: ignore


def outputs(method: Method, seed: int = 3) -> list[Tensor]:
    """An inversion, edits at two powers, an edit in StyleSpace, and e4e's."""
    size = method.domain.generator.size
    x = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    inversion = method.invert(x)
    edits = method.edit(inversion, [("age", [2, -3])]), method.edit(inversion, [("glasses", [4])])
    return [method.reconstruct(inversion), *edits, method.e4e_images(inversion, [("age", [2])])]


@pytest.mark.parametrize("name", ["fse_full", "fse_inverter"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.1), (torch.float16, 0.02)])
def test_half_precision(small: SmallDomain, name: str, dtype: torch.dtype, tolerance: float) -> None:
    """The same images to the digits that the format has; latents and images stay float32."""
    half = method(small, name, dtype=dtype)
    for result, wanted in zip(outputs(half), outputs(method(small, name)), strict=True):
        assert result.dtype == torch.float32
        error = (result - wanted).abs().max() / wanted.abs().max()
        assert 0 < error <= tolerance  # above 0: the format was really used
    assert half.invert(torch.zeros(1, 3, 64, 64)).w.dtype == torch.float32


def test_compiled(tmp_path_factory: pytest.TempPathFactory) -> None:
    small = SmallDomain(tmp_path_factory.mktemp("compiled"), size=16)
    compiled = method(small, compile=True)
    for result, wanted in zip(outputs(compiled), outputs(method(small)), strict=True):
        assert (result - wanted).abs().max() <= 1e-4 * wanted.abs().max()
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0


@pytest.mark.parametrize("name", ["fse_full", "fse_inverter"])
def test_cuda_graphs(small: SmallDomain, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are recorded for the first image, and replayed for others; without a GPU, both is emulated."""
    wanted = [image for seed in (3, 4, 5) for image in outputs(method(small, name), seed)]
    graphs = [] if torch.cuda.is_available() else emulate_graphs(monkeypatch)
    graphed = method(small, name, cuda_graph=True)
    result = outputs(graphed, 3)
    recorded = len(graphs)
    result += [image for seed in (4, 5) for image in outputs(graphed, seed)]
    assert all(torch.equal(a, b) for a, b in zip(result, wanted, strict=True))
    assert torch.cuda.is_available() or len(graphs) == recorded > 0


def test_cuda_graphs_of_a_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """Constants and layouts count as shapes do; results last, and shapes beyond the limit are computed without."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    graphs = [] if torch.cuda.is_available() else emulate_graphs(monkeypatch)

    def function(pair: list[Tensor], power: int) -> tuple[list[Tensor], Tensor]:
        a, b = pair
        return [a + b, a.t()], (a * b) ** power

    graphed = CudaGraphs(device).of(function)
    with torch.inference_mode():
        square = torch.rand(4, 4, device=device)
        inputs = [([square + i, square.t() if i % 2 else square * i], power) for i in range(4) for power in (1, 2)]
        inputs += [([torch.rand(n, 3, device=device), torch.rand(n, 3, device=device)], 2) for n in range(1, SHAPES)]
        results = [graphed(*arguments) for arguments in inputs]
        for (result, product), arguments in zip(results, inputs, strict=True):
            wanted = function(*arguments)
            assert isinstance(result, list) and len(result) == 2
            assert all(torch.equal(a, b) for a, b in zip([*result, product], [*wanted[0], wanted[1]], strict=True))
    assert torch.cuda.is_available() or len(graphs) == SHAPES


def test_no_autograd_state(small: SmallDomain) -> None:
    for image in outputs(method(small)):
        assert image.is_inference() and not image.requires_grad


def test_an_edit_without_e4e_where_nothing_needs_it(small: SmallDomain) -> None:
    """Inversion, and stage 1's edit, run no e4e."""
    stage_1 = method(small, "fse_inverter")
    stage_1.edit(stage_1.invert(torch.zeros(1, 3, 64, 64)), [("age", [3])])
    stage_2 = method(small)
    stage_2.reconstruct(stage_2.invert(torch.zeros(1, 3, 64, 64)))
    assert "e4e" not in vars(stage_1) and "e4e" not in vars(stage_2)
