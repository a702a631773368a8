"""The processes that torchrun starts for one run: who we are, and one exchange at the end."""

import atexit
import os
from datetime import timedelta
from typing import TypeVar

T = TypeVar("T")

# Some processes finish hours before others, and they only meet at the end. torchrun ends all if one dies.
_PATIENCE = timedelta(days=30)


def rank_and_size() -> tuple[int, int]:
    """This process's number and how many there are: (0, 1) without torchrun."""
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def own_device(name: str) -> str:
    """The device for this process: with several of them, each has its own GPU, unless the CPU is asked for."""
    single = rank_and_size()[1] == 1 or name.strip().lower() == "cpu"
    return name if single else os.environ.get("LOCAL_RANK", "0")


def gather(value: T) -> list[T]:
    """The values of all processes in the order of their ranks, in each of them. Waits for the slowest."""
    size = rank_and_size()[1]
    if size == 1:
        return [value]
    import torch.distributed as dist  # here, since most runs have one process

    if not dist.is_initialized():
        dist.init_process_group("gloo", timeout=_PATIENCE)
        atexit.register(dist.destroy_process_group)
    values: list[T] = [value] * size
    dist.all_gather_object(values, value)
    return values
