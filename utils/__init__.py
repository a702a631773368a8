import os

# Large pages for large tensors: fresh memory is half of the time of a memory-bound step. PyTorch reads this once, at
# its import, and every way into the project leads through this package first.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
