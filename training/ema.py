"""The moving average of a network's weights, which often performs better than the weights themselves."""

import copy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


class MovingAverage(Generic[M]):
    """`network` follows a trained one: average ← decay · average + (1 − decay) · weights, at each update.

    Buffers, such as BatchNorm's statistics, follow in the same way; whole numbers are copied.
    """

    def __init__(self, of: M, decay: float) -> None:
        """Starts at the weights of `of`. `decay`: 0 to 1."""
        self.network = copy.deepcopy(of).eval().requires_grad_(False)
        self.decay = decay
        self._means, self._values = _tensors(self.network), _tensors(of)

    @torch.no_grad()
    def update(self) -> None:
        """Update the average once."""
        means, values = ([x for x in side if x.is_floating_point()] for side in (self._means, self._values))
        torch._foreach_lerp_(means, values, 1 - self.decay)
        for mean, value in zip(self._means, self._values, strict=True):
            if not mean.is_floating_point():
                mean.copy_(value)


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]
