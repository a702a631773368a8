"""Builds and tests the compiled kernels now: `python -m models.stylegan2.ops`. Exits 1 if plain PyTorch has to do."""

import logging
import sys

import torch

from models.stylegan2.ops import backend, cuda, native
from utils.devices import gpu_count

logging.basicConfig(level=logging.INFO, format="%(message)s")
devices = ["cpu", *(f"cuda:{i}" for i in range(gpu_count()))]
ready = [
    backend.ops_for(torch.empty(0, device=device, dtype=dtype)) is not native
    for device in devices
    for dtype in cuda.TYPES
]
sys.exit(0 if all(ready) else 1)
