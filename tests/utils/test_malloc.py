"""What becomes of freed memory, in real processes."""

import ctypes
import subprocess
import sys

import pytest

MEASURE = """
import ctypes
import os
import utils.files, utils.memory
from utils.malloc import trim, tune_malloc

def used():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") >> 20

{setup}
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
before = used()
block = ctypes.c_void_p(libc.malloc(ctypes.c_size_t(300 << 20)))
ctypes.memset(block, 1, 300 << 20)
libc.free(block)
freed = used() - before
trim()
print(freed, used() - before, os.environ.get("THP_MEM_ALLOC_ENABLE"))
"""


def megabytes(setup: str) -> tuple[int, int, str]:
    """What 300 MB still take when they are freed, and after `trim`; PyTorch's setting of large pages."""
    environment = {"PATH": "", "PYTHONPATH": ":".join(sys.path)}
    command = [sys.executable, "-c", MEASURE.format(setup=setup)]
    output = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.split()
    return int(output[0]), int(output[1]), output[2]


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc")
def test_freed_memory_is_kept_only_where_asked() -> None:
    freed, trimmed, pages = megabytes("pass")
    assert freed < 30 and trimmed < 30 and pages == "None"  # importing the package changes nothing
    freed, trimmed, pages = megabytes("tune_malloc()")
    assert freed >= 300 and trimmed < 30 and pages == "1"


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc")
def test_scripts_ask_for_it() -> None:
    command = [sys.executable, "-c", "import os; from utils.cli import run; run(lambda: print(dict(os.environ)))"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "'THP_MEM_ALLOC_ENABLE': '1'" in output
