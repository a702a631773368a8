"""Settings of the C library's memory."""

import ctypes
import os

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def tune_malloc() -> None:
    """Use large pages, and keep freed memory for the next tensor, where the system can (glibc).

    An image's activations are tensors of up to 0.1 GB, and fresh memory for them costs more time than their
    arithmetic. Call it before the first tensor is made: PyTorch then decides on large pages.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    mallopt = getattr(_c_library(), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 2**30)  # only larger blocks are mapped, and unmapped when they are freed
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)  # bytes that may lie free; `trim` gives them back


def trim() -> None:
    """Give freed memory back to the system, where the C library can (glibc)."""
    malloc_trim = getattr(_c_library(), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(ctypes.c_size_t(0))


def _c_library() -> ctypes.CDLL | None:
    return None if os.name == "nt" else ctypes.CDLL(None)  # Windows has no such handle
