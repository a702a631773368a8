import ctypes
import os

# A picture's activations are tensors of up to 0.1 GB, and fresh memory for them costs more time than their arithmetic.
# So large pages are used, which PyTorch decides at its import, and freed memory is kept for the next tensor. Every way
# into the project leads through this package first.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
_mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
if _mallopt is not None:  # glibc
    _mallopt(-3, 2**30)  # M_MMAP_THRESHOLD: only larger blocks are mapped, and unmapped when freed
    _mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: so much may lie free; utils.memory.trim gives it back
