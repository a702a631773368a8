"""In which numbers networks are computed during training."""

from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def cast_once(frozen: M, precision: str) -> M:
    """Store the convs' weights of a network in the numbers that autocast would turn them into at each of its uses.

    For networks that run under autocast only, and that no checkpoint holds.
    """
    if precision in DTYPES:
        for part in frozen.modules():
            if isinstance(part, (nn.Conv2d, nn.Linear)):
                part.to(DTYPES[precision])
    return frozen


class Precision:
    """fp32, or autocast to bf16 or fp16. Weights, losses and gradients are float32 always."""

    def __init__(self, name: str, device: torch.device) -> None:
        self.device = device
        self.dtype = DTYPES.get(name)
        self.scaler = torch.amp.GradScaler(device.type, enabled=name == "fp16")

    def autocast(self) -> AbstractContextManager:
        """In which networks run."""
        return torch.autocast(self.device.type, self.dtype) if self.dtype is not None else nullcontext()

    def backward(self, loss: Tensor) -> None:
        """Add the loss's gradients, times the scale that keeps small ones from vanishing in float16."""
        self.scaler.scale(loss).backward()
