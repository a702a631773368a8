"""Builds the compiled kernels on first use, keeps them for every later process, and loads them.

`python -m models.stylegan2.ops` builds them beforehand, so that no first edit waits.
"""

import functools
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
HEADERS = ("element.h", "ops.h", "pages.h")
SOURCES = {"cpu": ("cpu.cpp", "winograd.cpp"), "cuda": ("cuda.cu",)}


@functools.cache
def load(device_type: str) -> bool:
    """Makes the compiled kernels for a device type known to PyTorch, building them if no earlier process did.

    Returns False where plain PyTorch has to do: without a compiler, for other devices, or if SFE_OPS=native is set.
    """
    if os.environ.get("SFE_OPS") == "native":
        logger.info("custom ops: plain PyTorch, as SFE_OPS=native asks")
        return False
    if device_type not in SOURCES:
        logger.info("custom ops: plain PyTorch, there are no compiled kernels for %s", device_type)
        return False
    try:
        torch.ops.load_library(_built(device_type))
    except Exception as error:  # a compiler fails in many ways, and none of them should stop an edit
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        logger.warning("custom ops: plain PyTorch for %s (slower), they could not be built: %s", device_type, reason)
        return False
    return True


def _built(device_type: str) -> Path:
    """The library's file, built now if need be. A killed or a second builder does no harm: the file appears whole."""
    library = _cache_folder() / f"sfe_ops_{device_type}_{_key(device_type)}.so"
    if library.exists():
        return library
    from filelock import FileLock  # torch depends on it; its locks end with the process that held them
    from torch.utils import cpp_extension

    folder = library.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "building"):
        if not library.exists():
            logger.info("building the custom ops for %s once, about 20 s (SFE_OPS=native does without)", device_type)
            start = time.perf_counter()
            # pip's ninja stands beside the interpreter of an environment, even of one that is not activated
            os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", ""), str(Path(sys.executable).parent)])
            (folder / "lock").unlink(missing_ok=True)  # torch's own lock, which a killed builder leaves behind
            cpp_extension.load(
                name=library.stem,
                sources=[str(FOLDER / name) for name in SOURCES[device_type]],
                extra_cflags=["-O3", "-march=native", "-fopenmp", "-Wno-psabi"],
                extra_cuda_cflags=["-O3"],
                extra_include_paths=_cuda_headers() if device_type == "cuda" else [],
                build_directory=str(folder),
                with_cuda=device_type == "cuda",
                is_python_module=False,
            )
            (folder / library.name).replace(library)
            logger.info("built the custom ops in %.0f s", time.perf_counter() - start)
    return library


def _cache_folder() -> Path:
    """PyTorch's folder for extensions, found without importing torch.utils.cpp_extension, which takes a while."""
    root = os.environ.get("TORCH_EXTENSIONS_DIR")
    return Path(root) if root else Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "torch_extensions"


def _key(device_type: str) -> str:
    """Changes with all that a library depends on: sources, PyTorch, this processor's instructions, the GPUs' kinds."""
    facts = [torch.__version__, _instructions()]
    if device_type == "cuda":
        facts += sorted({str(torch.cuda.get_device_capability(i)) for i in range(torch.cuda.device_count())})
    digest = hashlib.sha256("\n".join(facts).encode())
    for name in (*HEADERS, *SOURCES[device_type]):
        digest.update((FOLDER / name).read_bytes())
    return digest.hexdigest()[:16]


def _instructions() -> str:
    """What tells one processor's instruction set from another's: a library for a newer one would crash here."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return line
    return f"{platform.machine()} {platform.processor()}"


def _cuda_headers() -> list[str]:
    """Where pip's CUDA packages keep headers (cuBLAS and others) that a bare nvcc lacks."""
    return [str(path) for path in Path(torch.__file__).parents[1].glob("nvidia/cu*/include")]
