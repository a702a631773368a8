"""A GPU that the CPU plays: the kernels compiled as C++, behind a libcuda.so that runs a grid as loops.

`pytest -p emulated_gpu` computes the custom ops of tensors on the CPU that way, instead of by the CPU's own kernels.
The environment's SFE_EMULATED names a folder for what is compiled, SFE_EMULATED_FLAGS holds flags for the compiler.
"""

import atexit
import ctypes
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import torch

from models.stylegan2.ops import backend, cuda, driver, library

HERE = Path(__file__).parent
COMPILER = os.environ.get("CXX") or shutil.which("g++") or ""
_registered = torch.library.Library("sfe", "IMPL")
OPS = ("upfirdn2d", "fused_bias_act", "blur_bias_act", "act_grad")


def compile_driver(folder: Path, flags: list[str]) -> Path:
    """libcuda.so in `folder`."""
    headers = [f"-I{path}" for path in Path(torch.__file__).parents[1].glob("nvidia/*/include")]
    return _compile(HERE / "driver.cpp", folder / "libcuda.so", [*headers, *flags])


def compile_kernels(folder: Path, dtype: torch.dtype, flags: list[str], sources: Path = library.FOLDER) -> Path:
    """The kernels of `sources` for a dtype, as a library in `folder`."""
    macros = [f"-D{name}={value}" for name, value in cuda.definitions(dtype).items()]
    target = folder / kernels_name(dtype)
    return _compile(HERE / "kernels.cpp", target, [f"-I{HERE}", f"-I{sources}", *macros, *flags])


def kernels_name(dtype: torch.dtype) -> str:
    """The name of the library that `compile_kernels` writes."""
    return f"kernels_{cuda.TYPES[dtype]}.so"


def emulated_ops(libcuda: Path, kernels: Path, dtype: torch.dtype) -> cuda.Ops:
    """The GPU's ops for tensors on the CPU."""
    loaded = driver.Kernels(driver.Driver(str(libcuda)), 0, bytes(kernels), stream=lambda: 0)
    return cuda.Ops(loaded.launch, dtype)


def pytest_configure() -> None:
    """Has the emulated GPU compute torch.ops.sfe for the CPU, from before anything loads the CPU's own kernels."""
    folder, flags = Path(os.environ["SFE_EMULATED"]), shlex.split(os.environ.get("SFE_EMULATED_FLAGS", ""))
    libcuda = compile_driver(folder, flags)
    ops = {dtype: emulated_ops(libcuda, compile_kernels(folder, dtype, flags), dtype) for dtype in cuda.TYPES}
    for name in OPS:
        _registered.impl(name, lambda x, *rest, name=name: getattr(ops[x.dtype], name)(x, *rest), "CPU")
    backend.ops_for = lambda x: ops[x.dtype]
    atexit.register(lambda: (folder / "launches").write_text(str(launches(libcuda))))


def launches(libcuda: Path) -> int:
    """How many kernels have been started."""
    return ctypes.c_long.in_dll(ctypes.CDLL(str(libcuda)), "launches").value


def _compile(source: Path, target: Path, flags: list[str]) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    command = [COMPILER, "-std=c++17", "-O1", "-fPIC", "-shared", "-fno-strict-aliasing", "-w", *flags]
    command += [str(source), "-o", str(target), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return target
