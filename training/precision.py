"""In which numbers networks are computed during training."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


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
