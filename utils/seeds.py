"""Random numbers that depend on nothing but a seed."""

import random

import numpy as np
import torch


def derive_seed(*key: int) -> int:
    """One seed of 64 bits for a key such as (seed, rank, step). Different keys give unrelated seeds."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, NumPy and torch (CPU and all GPUs). `seed`: 0 or more, up to 64 bits."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
