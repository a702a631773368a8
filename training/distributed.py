"""Several processes train one network (torchrun): gradients are averaged, and every number means the whole batch."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

from utils.devices import resolve_device
from utils.errors import UserError
from utils.memory import portions
from utils.processes import own_device, rank_and_size

BUCKET = 2**25  # numbers that are exchanged at once


@dataclass(frozen=True)
class Process:
    """This process among those of the run, and its device."""

    device: torch.device
    rank: int = 0
    ranks: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0


def join(device: str, timeout: timedelta | None = None, tf32: bool = True) -> Process:
    """Join the other processes of this run, if there are any.

    Args:
        device: as in options; under torchrun every process gets its own GPU, or all use the CPU.
        timeout: how long an exchange of gradients may take (default: torch's, 10 minutes with GPUs).
        tf32: as in `resolve_device`.

    Raises UserError if some of the processes have a GPU and others have not.
    """
    rank, ranks = rank_and_size()
    place = resolve_device(own_device(device), tf32)
    if ranks == 1:
        return Process(place)
    store, rank, ranks = next(dist.rendezvous("env://"))  # where torchrun has the processes meet
    _check_alike(store, place.type, rank, ranks)
    if place.type == "cuda":
        torch.cuda.set_device(place)
    backend = "nccl" if place.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=ranks, timeout=timeout)
    return Process(place, rank, ranks)


def _check_alike(store: dist.Store, kind: str, rank: int, ranks: int) -> None:
    """Raise UserError in each process if they have different kinds of devices: their backends would never meet."""
    store.set(f"device/{rank}", kind)
    kinds = [store.get(f"device/{i}").decode() for i in range(ranks)]  # waits for the others
    if len(set(kinds)) > 1:
        store.set(f"read/{rank}", "")
        store.wait([f"read/{i}" for i in range(ranks)])  # or the others' machines would find the store gone
        raise UserError(f"the processes have the devices {', '.join(kinds)}; wanted a GPU for each, or cpu for all")


def copy_from_first(tensors: Iterable[Tensor]) -> None:
    """Give all processes the numbers that the first one has."""
    if dist.is_initialized():
        for tensor in tensors:
            numbers = tensor.detach().contiguous()
            dist.broadcast(numbers, 0)
            tensor.detach().copy_(numbers)


def average(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor by its mean over the processes, which all have the same ones in the same order."""
    if not dist.is_initialized():
        return
    for bucket in portions(tensors, BUCKET):
        flat = torch.cat([tensor.flatten() for tensor in bucket])
        dist.all_reduce(flat)
        flat /= dist.get_world_size()
        parts = flat.split([tensor.numel() for tensor in bucket])
        for tensor, part in zip(bucket, parts, strict=True):
            tensor.copy_(part.view(tensor.shape))


def synchronise_batch_norm(module: nn.Module, device: torch.device) -> nn.Module:
    """BatchNorm over the images of all processes, so that N of them with batch B compute what one does with N·B."""
    if not dist.is_initialized():
        return module
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)
    for name, child in module.named_children():
        setattr(module, name, CPUSyncBatchNorm(child) if isinstance(child, nn.BatchNorm2d) else child)
        synchronise_batch_norm(child, device)
    return module


class CPUSyncBatchNorm(nn.BatchNorm2d):
    """nn.SyncBatchNorm, which torch has for GPUs only."""

    def __init__(self, of: nn.BatchNorm2d) -> None:
        """Shares the numbers of `of`."""
        super().__init__(of.num_features, of.eps, of.momentum)
        self.weight, self.bias = of.weight, of.bias
        self.running_mean, self.running_var = of.running_mean, of.running_var
        self.num_batches_tracked = of.num_batches_tracked

    def forward(self, x: Tensor) -> Tensor:  # B×C×H×W, of the same B in all processes; any float dtype
        if not self.training:
            return super().forward(x)
        dtype, x = x.dtype, x.float()
        count = x.numel() // x.shape[1] * dist.get_world_size()
        mean = all_reduce(x.sum(dim=(0, 2, 3))) / count
        var = all_reduce((x - mean[:, None, None]).square().sum(dim=(0, 2, 3))) / count
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        assert self.momentum is not None
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * count / (count - 1), self.momentum)
        scale = self.weight * torch.rsqrt(var + self.eps)
        return torch.addcmul(self.bias[:, None, None], x - mean[:, None, None], scale[:, None, None]).to(dtype)
