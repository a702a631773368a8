"""Several processes train one network (torchrun): gradients are averaged, and every number means the whole batch."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

from utils.processes import rank_and_size


def join(device: torch.device) -> None:
    """Meet the other processes of this run, if there are any."""
    if rank_and_size()[1] == 1 or dist.is_initialized():
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")


def leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def parallel(module: nn.Module, device: torch.device) -> nn.Module:
    """The module with gradients averaged over the processes; the module itself if there is one process only.

    Buffers are not sent around: those of frozen networks never change, and SyncBatchNorm keeps its own alike.
    """
    if not dist.is_initialized():
        return module
    ids = [device] if device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(module, device_ids=ids, broadcast_buffers=False)


def synchronise_batch_norm(module: nn.Module, device: torch.device) -> nn.Module:
    """BatchNorm over the pictures of all processes, so that N of them with batch B compute what one does with N·B."""
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

    MOMENTUM = 0.1  # torch's default, which all our networks have

    def __init__(self, of: nn.BatchNorm2d) -> None:
        """Shares the numbers of `of`."""
        super().__init__(of.num_features, of.eps)
        self.weight, self.bias = of.weight, of.bias
        self.running_mean, self.running_var = of.running_mean, of.running_var
        self.num_batches_tracked = of.num_batches_tracked

    def forward(self, x: Tensor) -> Tensor:  # B×C×H×W, of the same B in all processes
        if not self.training:
            return super().forward(x)
        count = x.numel() // x.shape[1] * dist.get_world_size()
        mean = all_reduce(x.sum(dim=(0, 2, 3))) / count
        var = all_reduce((x - mean[:, None, None]).square().sum(dim=(0, 2, 3))) / count
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.MOMENTUM)
            self.running_var.lerp_(var * count / (count - 1), self.MOMENTUM)
        scale = self.weight * torch.rsqrt(var + self.eps)
        return torch.addcmul(self.bias[:, None, None], x - mean[:, None, None], scale[:, None, None])


def mean_over_processes(values: dict[str, float], device: torch.device) -> dict[str, float]:
    """The same keys in every process."""
    if not dist.is_initialized():
        return values
    total = torch.tensor(list(values.values()), dtype=torch.float64, device=device)
    dist.all_reduce(total)
    return dict(zip(values, (total / dist.get_world_size()).tolist(), strict=True))


def any_process(flag: bool, device: torch.device) -> bool:
    """Whether the flag is up in one of the processes."""
    if not dist.is_initialized():
        return flag
    value = torch.tensor(float(flag), device=device)
    dist.all_reduce(value, op=dist.ReduceOp.MAX)
    return bool(value)


def of_first(value: Any) -> Any:
    """What process 0 has."""
    if not dist.is_initialized():
        return value
    box = [value]
    dist.broadcast_object_list(box)
    return box[0]
