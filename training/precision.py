"""The precision of networks during training, and the layout of their weights."""

from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def in_layout(module: M, layout: torch.memory_format) -> M:
    """`module.to(memory_format=…)` for modules that have weights of five dimensions, too."""
    for parameter in module.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=layout)
    return module


class Precision:
    """fp32, or autocast to bf16 or fp16. Weights, losses and gradients are always float32."""

    def __init__(self, name: str, device: torch.device) -> None:
        self.device = device
        self.dtype = DTYPES[name]
        self.scaler = torch.amp.GradScaler(device.type, enabled=name == "fp16")

    def autocast(self) -> AbstractContextManager:
        """The context in which networks run."""
        half = self.dtype != torch.float32
        return torch.autocast(self.device.type, self.dtype) if half else nullcontext()

    def backward(self, loss: Tensor) -> None:
        """Add the loss's gradients, times the scale that keeps small ones from vanishing in float16."""
        self.scaler.scale(loss).backward()
