"""The precision of networks during training."""

from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def cast_once(frozen: M, precision: str) -> M:
    """Store the weights of a network's convs in the precision to which autocast would cast them at each use.

    For networks that run only under autocast and are in no checkpoint.
    """
    if precision in DTYPES:
        for part in frozen.modules():
            if isinstance(part, (nn.Conv2d, nn.Linear)):
                part.to(DTYPES[precision])
    return frozen


class Precision:
    """fp32, or autocast to bf16 or fp16. Weights, losses and gradients are always float32."""

    def __init__(self, name: str, device: torch.device) -> None:
        self.device = device
        self.dtype = DTYPES.get(name)
        self.scaler = torch.amp.GradScaler(device.type, enabled=name == "fp16")

    def autocast(self) -> AbstractContextManager:
        """The context in which networks run."""
        return torch.autocast(self.device.type, self.dtype) if self.dtype is not None else nullcontext()

    def backward(self, loss: Tensor) -> None:
        """Add the loss's gradients, times the scale that keeps small ones from vanishing in float16."""
        self.scaler.scale(loss).backward()
