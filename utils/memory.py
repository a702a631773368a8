"""Memory of weights that lie in mapped files."""

import ctypes
import mmap
from pathlib import Path

from torch import Tensor

_MAPS = Path("/proc/self/maps")


def is_mapped(tensor: Tensor) -> bool:
    """Whether all of the tensor's memory is a mapped file. False where the system does not tell."""
    if tensor.device.type != "cpu" or not tensor.is_contiguous() or not _MAPS.exists():
        return False
    start, end = tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes
    for line in _MAPS.read_text().splitlines():
        fields = line.split(maxsplit=5)
        low, high = (int(address, 16) for address in fields[0].split("-"))
        if low <= start < high:
            return end <= high and fields[4] != "0"  # the inode
    return False


def release(tensor: Tensor) -> None:
    """Give the tensor's pages back; they stay in the system's file cache and come back at the next use.

    Only for a tensor that `is_mapped` and that was never written to: anonymous memory would lose its content.
    """
    page = mmap.PAGESIZE
    start = -(-tensor.data_ptr() // page) * page  # whole pages only: the others are shared with neighbours
    length = (tensor.data_ptr() + tensor.nbytes) // page * page - start
    if length > 0:
        ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), ctypes.c_int(mmap.MADV_DONTNEED))
