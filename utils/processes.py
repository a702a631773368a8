"""The processes that torchrun starts for one run: who we are, and exchanges of small values on the CPU."""

import atexit
import os
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

from utils.errors import UserError

T = TypeVar("T")

# Some processes finish hours before others, and they only meet at the end. torchrun ends all if one dies.
_PATIENCE = timedelta(days=30)


def rank_and_size() -> tuple[int, int]:
    """This process's number and how many there are: (0, 1) without torchrun."""
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def own_device(name: str) -> str:
    """The device for this process: with several of them, each has its own GPU, unless the CPU or mps is asked for.

    Raises UserError if the machine has GPUs, but fewer than processes.
    """
    if rank_and_size()[1] == 1 or name.strip().lower() in ("cpu", "mps"):
        return name
    from utils.devices import gpu_count  # here, since most runs have one process, and need no torch

    local, gpus = os.environ.get("LOCAL_RANK", "0"), gpu_count()
    if 0 < gpus <= int(local):
        raise UserError(
            f"process {local} of this machine has no GPU of its own, as there are {gpus}; "
            f"give torchrun --nproc_per_node={gpus}, or cpu as the device"
        )
    return local


def gather(value: T) -> list[T]:
    """The values of all processes in the order of their ranks, in each of them. Waits for the slowest."""
    size = rank_and_size()[1]
    if size == 1:
        return [value]
    import torch.distributed as dist

    values: list[T] = [value] * size
    dist.all_gather_object(values, value, group=_group())
    return values


@cache
def _group() -> Any:
    """All processes, on the CPU and with all patience, whatever the group is that exchanges gradients."""
    import torch.distributed as dist

    atexit.register(leave)
    if dist.is_initialized():
        return dist.new_group(backend="gloo", timeout=_PATIENCE)
    dist.init_process_group("gloo", timeout=_PATIENCE)
    return dist.group.WORLD


def leave() -> None:
    """Leave the other processes. A group that outlived this would abort the process when Python ends."""
    import torch.distributed as dist

    _group.cache_clear()
    if dist.is_initialized():
        dist.destroy_process_group()
