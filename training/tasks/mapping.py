"""A mapping network that begins with the factors of the images in w, where they lie straight.

A factor f has two numbers of w, the activations of f and of -f: their difference is in proportion to f.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Adam

from datasets.scores import Scores
from models.stylegan2.generator import Generator
from models.stylegan2.layers import EqualLinear, ModulatedConv
from training.optimizers import cosine_decay
from utils.errors import UserError

BATCH = 512
LR = 1.6  # of weights that count 0.01 each
WARM_UP = 100  # steps
ALWAYS_ON = 3.0  # a bias in deviations, with which a unit is linear
RIDGE = 1e-3


def factor_distance(w: Tensor, factors: Tensor) -> Tensor:
    """How far w B×D is from holding factors B×F, of mean 0 and deviation 1: mean squared error."""
    return (w[:, : 2 * factors.shape[1]] - _activated(factors)).square().mean()


def fit_mapping(generator: Generator, scores: Scores, steps: int, seed: int) -> float:
    """Fit the mapping network to the factors of images; styles at the mean w become 1, as they are before training.

    Returns the `factor_distance` at the end. Raises UserError if w has fewer than two numbers a factor.
    """
    dim, count = generator.config.style_dim, scores.n_factors
    if 2 * count > dim:
        wanted = f"must be {2 * count} or more"
        raise UserError(f"{scores.path} has {count} factors; generator.style_dim, which is {dim}, {wanted}")
    random, device = torch.Generator().manual_seed(seed), generator.input.input.device
    _begin(generator, scores, random)
    optimizer = Adam(generator.style.parameters(), LR, (0.9, 0.99))
    for step in range(1, steps + 1):
        z, factors = (x.to(device) for x in scores.draw(BATCH, random))
        loss = factor_distance(generator.mapping(z), factors)
        optimizer.param_groups[0]["lr"] = LR * min(1, step / WARM_UP) * cosine_decay(step, steps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        z, factors = (x.to(device) for x in scores.draw(20 * BATCH, random))
        w = generator.mapping(z)
        for module in generator.modules():
            if isinstance(module, ModulatedConv):
                module.modulation.bias.add_(1 - module.modulation(w.mean(dim=0)))
        return float(factor_distance(w, factors))


@torch.no_grad()
def _begin(generator: Generator, scores: Scores, random: torch.Generator) -> None:
    """Hinges of single scores in the first layer, and in the last the best linear map from them to the factors."""
    layers = [layer for layer in generator.style if isinstance(layer, EqualLinear)]
    dim, count, device = scores.dim, len(scores.columns), layers[0].weight.device
    weight, bias = torch.zeros(dim, dim), torch.full((dim,), ALWAYS_ON)
    weight[range(dim), [unit % count for unit in range(dim)]] = 1
    hinges = dim // count - 1  # of each score, besides a linear unit
    for hinge in range(hinges):
        bias[count * (hinge + 1) : count * (hinge + 2)] = -torch.special.ndtri(torch.tensor((hinge + 0.5) / hinges))
    _set(layers[0], weight, bias)
    for layer in layers[1:-1]:
        _set(layer, torch.eye(dim), torch.zeros(dim))
    z, factors = scores.draw(40 * BATCH, random)
    hidden = generator.style[:-1](z.to(device)).cpu().double()
    hidden = torch.cat([hidden, torch.ones(len(z), 1)], dim=1)
    gram = hidden.T @ hidden / len(z) + RIDGE * torch.eye(dim + 1)
    best = torch.linalg.solve(gram, hidden.T @ torch.cat([factors, -factors], dim=1).double() / len(z)).float()
    last = layers[-1]
    last.weight[: best.shape[1]] = (best[:-1].T / last.scale).to(device)
    last.bias[: best.shape[1]] = (best[-1] / last.lr_mul).to(device)


def _set(layer: EqualLinear, weight: Tensor, bias: Tensor) -> None:
    """Make the layer x → leaky ReLU of (weight · x + bias), without the activation's own gain of √2."""
    layer.weight.copy_(weight / math.sqrt(2) / layer.scale)
    layer.bias.copy_(bias / math.sqrt(2) / layer.lr_mul)


def _activated(factors: Tensor) -> Tensor:
    """B×F → B×2F: what a last layer that holds the factors, and their opposites, gives."""
    return F.leaky_relu(torch.cat([factors, -factors], dim=1), 0.2) * math.sqrt(2)
