"""Memory: of weights that are in mapped files, and of work done in portions."""

import ctypes
import mmap
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from pathlib import Path

from torch import Tensor

_MAPS = Path("/proc/self/maps")


def mapped_files(tensors: Iterable[Tensor]) -> list[tuple[int, int]]:
    """The address ranges (first, last + 1) of the mapped files that hold these tensors.

    Empty where there are none, or where the system does not list them.
    """
    pointers = sorted(tensor.data_ptr() for tensor in tensors if tensor.device.type == "cpu")
    if not _MAPS.exists():
        return []
    ranges = []
    for line in _MAPS.read_text().splitlines():
        addresses, _, _, _, inode, *_ = line.split(maxsplit=5)
        first, last = (int(address, 16) for address in addresses.split("-"))
        if inode != "0" and bisect_left(pointers, first) < bisect_left(pointers, last):
            ranges.append((first, last))
    return ranges


def release(ranges: Iterable[tuple[int, int]]) -> None:
    """Give back the pages of `mapped_files`: they stay in the system's file cache and come back at the next use.

    Only for mappings that nothing was written to: what was written would be lost.
    """
    for first, last in ranges:
        size, advice = ctypes.c_size_t(last - first), ctypes.c_int(mmap.MADV_DONTNEED)
        ctypes.CDLL(None).madvise(ctypes.c_void_p(first), size, advice)


def portions(tensors: Iterable[Tensor], numbers: int) -> Iterator[list[Tensor]]:
    """All the tensors in order, in lists of about that many numbers; a larger tensor is a list by itself."""
    part: list[Tensor] = []
    size = 0
    for tensor in tensors:
        if part and size + tensor.numel() > numbers:
            yield part
            part, size = [], 0
        part.append(tensor)
        size += tensor.numel()
    if part:
        yield part
