"""Compiles kernels.cu by NVRTC, the compiler in PyTorch's CUDA wheels: no toolkit and no host compiler are needed.

The result is cached for later processes, and so is a failure.
"""

import ctypes
import functools
import hashlib
import logging
import time
from collections.abc import Callable
from pathlib import Path

import torch

from models.stylegan2.ops import cuda, library
from utils.files import atomic_path

logger = logging.getLogger(__name__)

SOURCE = "kernels.cu"
HEADERS = ("element.h", "vector_cuda.h", "half.h")
REPORT = "--ptxas-options=-v"  # registers and spills of each kernel among the messages


INVALID_OPTION, COMPILATION = 5, 6  # results that another attempt would not change


class CompileError(RuntimeError):
    """NVRTC rejects the kernels; the text is its messages."""


def cubin(architecture: str, dtype: torch.dtype) -> bytes:
    """Machine code of the kernels for a GPU such as "sm_90" and a dtype, compiled if no earlier process did.

    Raises OSError where there is no NVRTC, and CompileError.
    """
    from filelock import FileLock  # torch depends on it; its locks end with the process that held them

    options = _options(architecture, dtype)
    digest = hashlib.sha256("\n".join([version(), *options]).encode())
    for name in (SOURCE, *HEADERS):
        digest.update((library.FOLDER / name).read_bytes())
    name = f"sfe_ops_{architecture}_{cuda.TYPES[dtype]}_{digest.hexdigest()[:16]}"
    file = library.cache_folder() / f"{name}.cubin"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(file.with_suffix(".lock")):
            if file.exists():
                return file.read_bytes()
            failure = file.with_suffix(".failed")
            if failure.exists():
                raise CompileError(f"{failure.read_text()} (remove {failure} to try again)")
            try:
                code, _ = compile_kernels(architecture, dtype)
            except CompileError as error:
                failure.write_text(str(error))
                raise
            with atomic_path(file) as temporary:
                temporary.write_bytes(code)
            return code
    except OSError as error:  # such as a home folder on a read-only disk
        logger.warning("the GPU's kernels are compiled in every process: %s cannot keep them (%s)", file.parent, error)
        return compile_kernels(architecture, dtype)[0]


def compile_kernels(architecture: str, dtype: torch.dtype) -> tuple[bytes, str]:
    """Compiles now: machine code, and NVRTC's messages with the registers and spills of each kernel.

    Raises OSError where there is no NVRTC, and CompileError.
    """
    nvrtc = _library()
    logger.info("compiling the custom ops for %s, %s, once", architecture, dtype)
    start = time.perf_counter()
    sources = [(library.FOLDER / name).read_bytes() for name in HEADERS]
    names = [name.encode() for name in HEADERS]
    options = [option.encode() for option in _options(architecture, dtype)]
    program = ctypes.c_void_p()
    _check(
        nvrtc.nvrtcCreateProgram(
            ctypes.byref(program), (library.FOLDER / SOURCE).read_bytes(), SOURCE.encode(), len(names),
            (ctypes.c_char_p * len(names))(*sources), (ctypes.c_char_p * len(names))(*names),
        )
    )  # fmt: skip
    try:
        result = nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
        messages = _bytes(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog, program).rstrip(b"\0").decode()
        if result in (INVALID_OPTION, COMPILATION):
            raise CompileError(messages.strip() or _name(result))
        _check(result)
        code = _bytes(nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN, program)
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    logger.info("compiled the custom ops in %.1f s", time.perf_counter() - start)
    return code, messages


def version() -> str:
    """NVRTC's, such as "13.0". Raises OSError where there is none."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    _check(_library().nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)))
    return f"{major.value}.{minor.value}"


def _options(architecture: str, dtype: torch.dtype) -> list[str]:
    macros = [f"-D{name}={value}" for name, value in cuda.definitions(dtype).items()]
    return [f"--gpu-architecture={architecture}", "--std=c++17", "-default-device", REPORT, *macros]


@functools.cache
def _library() -> ctypes.CDLL:
    """NVRTC of the CUDA that PyTorch was built for: pip's package, or where the system's linker finds one."""
    if torch.version.cuda is None:
        raise OSError("this PyTorch is built without CUDA")
    major = torch.version.cuda.split(".")[0]
    suffix = "11.2" if major == "11" else major  # CUDA 11 kept the name of its first stable interface
    for folder in sorted(Path(torch.__file__).parents[1].glob("nvidia/*/lib")):
        file = folder / f"libnvrtc.so.{suffix}"
        if file.exists():
            for builtins in folder.glob(f"libnvrtc-builtins.so.{major}*"):  # NVRTC does not find it by itself
                ctypes.CDLL(str(builtins))
            return ctypes.CDLL(str(file))
    return ctypes.CDLL(f"libnvrtc.so.{suffix}")


def _bytes(size_of: Callable[..., int], get: Callable[..., int], program: ctypes.c_void_p) -> bytes:
    size = ctypes.c_size_t()
    _check(size_of(program, ctypes.byref(size)))
    buffer = ctypes.create_string_buffer(size.value)
    _check(get(program, buffer))
    return buffer.raw


def _check(result: int) -> None:
    if result:
        raise RuntimeError(f"NVRTC: {_name(result)}")


def _name(result: int) -> str:
    get = _library().nvrtcGetErrorString
    get.restype = ctypes.c_char_p
    return get(result).decode()
