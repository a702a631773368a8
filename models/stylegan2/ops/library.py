"""Builds the CPU's kernels on first use, keeps them for every later process, and loads them.

`python -m models.stylegan2.ops` builds them beforehand, so that no first edit waits.
"""

import hashlib
import logging
import os
import platform
import sys
import time
from pathlib import Path

import torch

logger = logging.getLogger(__name__)

FOLDER = Path(__file__).parent
HEADERS = ("element.h", "ops.h", "pages.h", "vector_cpu.h", "winograd.h")
SOURCES = ("cpu.cpp", "winograd.cpp", "winograd_strided.cpp")


def load() -> None:
    """Register the CPU's compiled kernels as torch.ops.sfe, building them if no earlier process did.

    Raises any error of the build.
    """
    torch.ops.load_library(_built())


def _built() -> Path:
    """The library's file, built if missing. It is safe to kill a build, and to run two at once."""
    library = cache_folder() / f"sfe_ops_cpu_{_key()}.so"
    if library.exists():
        return library
    from filelock import FileLock  # torch depends on it; its locks end with the process that held them
    from torch.utils import cpp_extension

    folder = library.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "building"):
        if not library.exists():
            logger.info("building the custom ops for the CPU once, about 20 s (SFE_OPS=native does without)")
            start = time.perf_counter()
            # pip installs ninja beside the environment's interpreter, which is not on PATH if it is not activated
            os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", ""), str(Path(sys.executable).parent)])
            (folder / "lock").unlink(missing_ok=True)  # torch's lock, which a killed build leaves there
            cpp_extension.load(
                name=library.stem,
                sources=[str(FOLDER / name) for name in SOURCES],
                extra_cflags=["-O3", "-march=native", "-fopenmp", "-Wno-psabi"],
                build_directory=str(folder),
                with_cuda=False,
                is_python_module=False,
            )
            (folder / library.name).replace(library)
            logger.info("built the custom ops in %.0f s", time.perf_counter() - start)
    return library


def cache_folder() -> Path:
    """PyTorch's folder for extensions, without the slow import of torch.utils.cpp_extension."""
    root = os.environ.get("TORCH_EXTENSIONS_DIR")
    return Path(root) if root else Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "torch_extensions"


def _key() -> str:
    """Changes with all that the library depends on: sources, PyTorch, this processor's instructions."""
    digest = hashlib.sha256("\n".join([torch.__version__, _instructions()]).encode())
    for name in (*HEADERS, *SOURCES):
        digest.update((FOLDER / name).read_bytes())
    return digest.hexdigest()[:16]


def _instructions() -> str:
    """Identifies the processor's instruction set: a library built for a newer one would crash here."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return line
    return f"{platform.machine()} {platform.processor()}"
