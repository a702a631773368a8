"""How the kernels come to be: built once on first use, by whoever comes first, or done without."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
OPS = ROOT / "models" / "stylegan2" / "ops"
COMPILER = os.environ.get("CXX") or shutil.which("g++") or ""

USE = """
import logging, torch
logging.basicConfig(level=logging.INFO, format="%(message)s")
from models.stylegan2.ops import fused_bias_act, library, upfirdn2d
x = torch.arange(-8.0, 8).reshape(1, 1, 4, 4)
for _ in range(2):
    assert fused_bias_act(x, slope=0.5, gain=2.0).flatten()[::5].tolist() == [-8.0, -3.0, 4.0, 14.0]
    assert upfirdn2d(x, torch.ones(2, 2)).shape == (1, 1, 3, 3)
print(library.load("cpu"))
"""


def start(code: str, folder: Path, **environment: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "TORCH_EXTENSIONS_DIR": str(folder), "OMP_NUM_THREADS": "1", **environment}
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def lines_about_ops(text: str) -> list[str]:
    return [line for line in text.splitlines() if "custom ops" in line]


def test_import_builds_nothing(tmp_path: Path) -> None:
    code = "import sys, models.stylegan2.ops; print({'torch._dynamo', 'torch.utils.cpp_extension'} & set(sys.modules))"
    process = start(code, tmp_path)
    output, _ = process.communicate()
    assert process.returncode == 0 and output.strip() == "set()"
    assert not list(tmp_path.iterdir())


def test_native_on_demand(tmp_path: Path) -> None:
    process = start(USE, tmp_path, SFE_OPS="native")
    output, errors = process.communicate()
    assert output.strip() == "False", errors
    assert len(lines_about_ops(errors)) == 1 and "SFE_OPS=native" in errors
    assert not list(tmp_path.iterdir())


def test_without_a_compiler(tmp_path: Path) -> None:
    process = start(USE, tmp_path, CXX=str(tmp_path / "no-such-compiler"))
    output, errors = process.communicate()
    assert output.strip() == "False", errors
    building, gave_up = lines_about_ops(errors)
    assert building.startswith("building the custom ops") and "could not be built" in gave_up


@pytest.mark.skipif(not COMPILER, reason="no C++ compiler here")
def test_two_processes_build_once(tmp_path: Path) -> None:
    compiler, log = tmp_path / "c++", tmp_path / "compiled"  # hurries by -O0 and notes each file that it compiles
    compiler.write_text(
        "#!/bin/bash\n"
        f'for a in "$@"; do case "$a" in *.cpp) echo "${{a##*/}}" >> {log};; esac; done\n'
        f'exec {COMPILER} "${{@/-O3/-O0}}"\n'
    )
    compiler.chmod(0o755)
    cache = tmp_path / "cache"
    processes = [start(USE, cache, CXX=str(compiler)) for _ in range(2)]
    for process in processes:
        output, errors = process.communicate(timeout=600)
        assert output.strip() == "True", errors
    assert sorted(log.read_text().split()) == ["cpu.cpp", "winograd.cpp"]
    assert len(list(cache.glob("*.so"))) == 1
    third = start(USE, cache, CXX=str(tmp_path / "gone"))  # needs no compiler any more
    output, errors = third.communicate()
    assert output.strip() == "True" and not lines_about_ops(errors)


@pytest.mark.skipif(not shutil.which("nvcc"), reason="no nvcc here")
def test_cuda_half_compiles(tmp_path: Path) -> None:
    """One pass of the front end, machine code for two generations (A100 and H100)."""
    site = Path(torch.__file__).parents[1]
    includes = [site / "torch/include", site / "torch/include/torch/csrc/api/include"]
    includes += site.glob("nvidia/cu*/include")
    command = ["nvcc", "-O3", "-std=c++20", "--expt-relaxed-constexpr", "-Xcompiler", "-fPIC,-O0", "-c", "cuda.cu"]
    command += ["-gencode", "arch=compute_80,code=[sm_80,sm_90]", "-o", str(tmp_path / "cuda.o")]
    command += [f"-I{path}" for path in includes if path.exists()]
    done = subprocess.run(command, cwd=OPS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    machine_code = (tmp_path / "cuda.o").read_bytes()
    assert b"sm_80" in machine_code and b"sm_90" in machine_code
