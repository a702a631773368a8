"""Devices by the names of configs and flags, and sending tensors there."""

import logging
import re

import torch

from utils.errors import UserError

logger = logging.getLogger(__name__)


def resolve_device(name: str, tf32: bool = False) -> torch.device:
    """'cpu', '0' (the first GPU), 'cuda:1' or 'mps' (the GPU of a Mac) as a torch.device.

    `tf32`: let the GPU's float32 convolutions and matrix products round their factors to 10 bits of mantissa; PyTorch
    does so for convolutions by default. It holds for the whole process.

    A GPU that is not there gives the CPU, with a warning. Raises UserError for a name that is none of these.
    """
    # Sizes of images and batches recur, so that the search for cuDNN's fastest algorithm for each pays.
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    text = str(name).strip().lower()
    if text == "cpu":
        return torch.device("cpu")
    if text == "mps":
        if torch.backends.mps.is_available():
            return torch.device("mps")
        logger.warning("device mps is not there (it wants a Mac with Apple silicon): using the CPU")
        return torch.device("cpu")
    match = re.fullmatch(r"cuda|(?:cuda:)?([0-9]+)", text)
    if match is None:
        raise UserError(f"device is '{name}'; wanted cpu, a GPU's number such as 0, cuda:0, or mps on a Mac")
    index = int(match[1] or 0)
    if index < gpu_count():
        return torch.device("cuda", index)
    logger.warning("device %s is not there (%d GPUs found): using the CPU", name, gpu_count())
    return torch.device("cpu")


def send(x: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The tensor on the device; from the CPU to a GPU by pinned memory, so that the CPU does not wait for the copy."""
    pinned = device.type == "cuda" and x.device.type == "cpu"
    return (x.pin_memory() if pinned else x).to(device, non_blocking=True)


def conv_layout(device: torch.device, dtype: torch.dtype) -> torch.memory_format:
    """The memory format in which convolutions of that dtype are fastest on the device.

    That is channels_last on a CPU, and for half precision on a GPU, whose tensor cores read it. In float32, PyTorch's
    developers measured a V100 to be 1.6 times as slow by it (pytorch/pytorch issue 44943).
    """
    fast = device.type == "cpu" or (device.type == "cuda" and dtype in (torch.float16, torch.bfloat16))
    return torch.channels_last if fast else torch.contiguous_format


def gpu_count() -> int:
    """GPUs that PyTorch can use. `torch.cuda.device_count` alone counts those of a driver too old for it, too."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0
