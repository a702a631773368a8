"""Directions from data, where the truth is known: planted planes, planted axes, linear traits."""

import torch

from editings.search import (
    boundary,
    channel_effects,
    conditioned,
    effects,
    principal_components,
    purity,
    smallest_power,
)


def source(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(a @ b / (a.norm() * b.norm()))


def test_boundary_finds_the_plane_for_any_shares_of_its_sides() -> None:
    w = torch.randn(3000, 8, generator=source(0)) * torch.linspace(0.2, 3, 8)
    normal = torch.randn(8, generator=source(1))
    for offset in (0.0, 1.0):  # half of them, and a sixth
        yes = w @ normal > offset * (w @ normal).std()
        assert cosine(boundary(w, yes), normal) > 0.98
        assert cosine(boundary(w, ~yes), normal) < -0.98


def test_conditioned_moves_cross_one_boundary_each_and_are_the_least_unusual() -> None:
    w = torch.randn(5000, 6, generator=source(0)) @ torch.randn(6, 6, generator=source(1))
    normals = torch.randn(3, 6, generator=source(2))
    moves = conditioned(normals, w)
    assert torch.allclose(moves @ normals.T, torch.eye(3), atol=1e-4)
    inverse = torch.linalg.inv(torch.cov(w.T))
    null = torch.linalg.svd(normals)[2][3:]  # moves along all three boundaries
    for move in moves:
        for other in (*null, *-null):  # none that does the same is shorter
            longer = move + 0.1 * other
            assert longer @ inverse @ longer >= move @ inverse @ move - 1e-5


def test_effects_are_what_each_trait_adds_also_where_traits_go_together() -> None:
    planted = torch.randn(3, 10, generator=source(5))
    traits = (torch.rand(4000, 3, generator=source(6)) < 0.4).float()
    traits[:, 1] = torch.where(torch.rand(4000, generator=source(7)) < 0.8, traits[:, 0], traits[:, 1])  # correlated
    latents = 2 + traits @ planted + 0.1 * torch.randn(4000, 10, generator=source(8))
    assert torch.allclose(effects(latents, traits), planted, atol=0.03)
    traits[:500, 2] = torch.nan  # not known of some
    latents[:500] -= planted[2] * 0.4
    assert torch.allclose(effects(latents, traits), planted, atol=0.15)


def test_smallest_power_is_the_first_power_that_is_enough() -> None:
    start = torch.linspace(-1, 0, 11)
    assert smallest_power(lambda power: start + power, 0.9, [0.5, 0.95, 2.0]) == 0.95
    assert smallest_power(lambda power: start + power, 0.9, [0.1, 0.5]) is None


def test_components_are_the_axes_of_most_variance() -> None:
    axes = torch.linalg.qr(torch.randn(5, 5, generator=source(3)))[0]
    std = torch.tensor([3.0, 2.0, 1.0, 0.5, 0.1])
    w = 1 + torch.randn(20000, 5, generator=source(4)) * std @ axes.T
    result = principal_components(w, 3)
    assert result["mean"].shape == (1, 5) and result["comp"].shape == (3, 1, 5)
    assert torch.allclose(result["std"], std[:3], rtol=0.03)
    assert all(abs(cosine(result["comp"][i, 0], axes[:, i])) > 0.99 for i in range(3))
    assert torch.allclose(result["mean"], torch.ones(1, 5), atol=0.1)


def test_channel_effects_are_slopes_in_standard_deviations() -> None:
    styles = [torch.randn(400, size, generator=source(size)) * scale for size, scale in ((3, 1.0), (4, 5.0))]
    slopes = [torch.randn(3, 2, generator=source(7)), torch.randn(4, 2, generator=source(8))]
    effects = channel_effects(styles, lambda s: s[0] @ slopes[0] + s[1] @ slopes[1])
    for effect, style, slope in zip(effects, styles, slopes, strict=True):
        assert torch.allclose(effect, slope * style.std(dim=0)[:, None], rtol=1e-4)


def test_purity_is_the_share_of_one_trait() -> None:
    effects = torch.tensor([[3.0, 0.0], [1.0, -1.0], [0.0, 2.0]])
    assert torch.allclose(purity(effects, 0), torch.tensor([1.0, 0.5, 0.0]), atol=1e-6)
