"""Activation checkpointing: residual blocks keep only their input, and compute the rest again in backward."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.backbone import IResNetBlock
from models.sfe import FusionBlock

M = TypeVar("M", bound=nn.Module)


def recompute(network: M) -> M:
    """Replace the stages of residual blocks by ones that keep fewer activations. Results and names stay the same."""
    for name, child in network.named_children():
        if isinstance(child, nn.Sequential) and all(isinstance(part, (IResNetBlock, FusionBlock)) for part in child):
            setattr(network, name, Recomputed(*child))
        else:
            recompute(child)
    return network


class Recomputed(nn.Sequential):
    """Blocks of which only the inputs are kept for backward."""

    def forward(self, x: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return super().forward(x)
        for block in self:
            x = checkpoint(
                block, x, use_reentrant=False, preserve_rng_state=False, context_fn=partial(_contexts, block)
            )
        return x


def _contexts(block: nn.Module) -> tuple[AbstractContextManager, AbstractContextManager]:
    """For the first computation, and for the second, which must not count the batch twice."""
    return nullcontext(), _statistics_kept(block)


@contextmanager
def _statistics_kept(block: nn.Module) -> Iterator[None]:
    """Keep the running statistics of BatchNorm in train mode unchanged."""
    norms = [part for part in block.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.training]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked.sub_(1)
