"""Directions found from data: boundaries of traits in w, principal components, and channels of StyleSpace."""

from bisect import bisect_left
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from models.stylegan2.generator import Styles

Margins = Callable[[Styles], Tensor]  # styles of B pictures -> the log odds of each trait, B×T


def boundary(w: Tensor, yes: Tensor, decay: float = 1e-3) -> Tensor:
    """The normal of the plane between w with a trait and without (InterfaceGAN, arXiv 1907.10786), D.

    By logistic regression with both sides of the same weight. w: B×D; yes: B, bool; decay: of the L2 penalty.
    """
    mean, std = w.mean(dim=0), w.std(dim=0)
    x, side = (w - mean) / std, yes.to(w.dtype)
    weight = torch.where(yes, 0.5 / side.mean(), 0.5 / (1 - side).mean())
    normal = torch.zeros(w.shape[1], requires_grad=True)
    bias = torch.zeros((), requires_grad=True)
    optimizer = torch.optim.LBFGS([normal, bias], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.binary_cross_entropy_with_logits(x @ normal + bias, side, weight) + decay * normal.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    return normal.detach() / std


def conditioned(normals: Tensor, w: Tensor) -> Tensor:
    """For each boundary the move that crosses it and runs along all others, T×D.

    Of all such moves the one that is least unusual among w (B×D), that is, shortest in units of their covariance;
    conditional manipulation of InterfaceGAN for any number of traits. normals: T×D; they are scaled to unit effect.
    """
    covariance = torch.cov(w.T)
    moves = covariance @ normals.T  # D×T
    return torch.linalg.solve(normals @ moves, moves, left=False).T


def effects(latents: Tensor, traits: Tensor) -> Tensor:
    """What each trait adds to the latents while the others stay, by least squares: T×D.

    latents: B×D; traits: B×T, 1 where a picture has it, 0 where not, NaN where it is not known.
    """
    centred = (traits - traits.nanmean(dim=0)).nan_to_num()
    return torch.linalg.lstsq(centred, latents - latents.mean(dim=0)).solution


def strength(margins: Callable[[float], Tensor], share: float, powers: Sequence[float]) -> float | None:
    """The smallest of rising powers after which so large a share of pictures has the trait; None if none is enough.

    margins(power): the trait's log odds of pictures that had it not, B. The share is taken to grow with the power.
    """
    found = bisect_left(powers, True, key=lambda power: bool((margins(power) > 0).float().mean() >= share))
    return powers[found] if found < len(powers) else None


def components(w: Tensor, count: int) -> dict[str, Tensor]:
    """GANSpace (arXiv 2004.02546): mean 1×D, principal components count×1×D and their standard deviations, of w B×D."""
    mean = w.mean(dim=0)
    _, values, directions = torch.linalg.svd(w - mean, full_matrices=False)
    std = values[:count] / (len(w) - 1) ** 0.5
    return {"mean": mean[None], "comp": directions[:count, None], "std": std}


def channel_effects(styles: Styles, margins: Margins) -> list[Tensor]:
    """How much each trait's log odds grow when a channel grows by its standard deviation, to first order: C×T a layer.

    (StyleSpace, arXiv 2011.12799, ranks channels so by gradients; here those of an attribute predictor.)
    """
    leaves = [style.detach().requires_grad_(True) for style in styles]
    per_trait = []
    found = margins(leaves).sum(dim=0)
    for i in range(len(found)):
        gradients = torch.autograd.grad(found[i], leaves, retain_graph=i < len(found) - 1)
        per_trait.append([gradient.mean(dim=0) * leaf.detach().std(dim=0)
                          for gradient, leaf in zip(gradients, leaves, strict=True)])  # fmt: skip
    return [torch.stack(layer, dim=1) for layer in zip(*per_trait, strict=True)]


def purity(effects: Tensor, trait: int) -> Tensor:
    """How much of what moves (…×T) do is done to one trait: from 0 to 1."""
    effects = effects.abs()
    return effects[..., trait] / (effects.sum(dim=-1) + 1e-8)
