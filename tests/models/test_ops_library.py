"""How the kernels come to be: built once on first use, by whoever comes first, or done without."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OPS = ROOT / "models" / "stylegan2" / "ops"
COMPILER = os.environ.get("CXX") or shutil.which("g++") or ""

USE = """
import logging, torch
logging.basicConfig(level=logging.INFO, format="%(message)s")
from models.stylegan2.ops import backend, fused_bias_act, native, upfirdn2d
x = torch.arange(-8.0, 8).reshape(1, 1, 4, 4)
for _ in range(2):
    assert fused_bias_act(x, slope=0.5, gain=2.0).flatten()[::5].tolist() == [-8.0, -3.0, 4.0, 14.0]
    assert upfirdn2d(x, torch.ones(2, 2)).shape == (1, 1, 3, 3)
print(backend.ops_for(x) is not native)
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
    assert sorted(log.read_text().split()) == ["cpu.cpp", "winograd.cpp", "winograd_strided.cpp"]
    assert len(list(cache.glob("*.so"))) == 1
    third = start(USE, cache, CXX=str(tmp_path / "gone"))  # needs no compiler any more
    output, errors = third.communicate()
    assert output.strip() == "True" and not lines_about_ops(errors)


@pytest.mark.skipif(not COMPILER, reason="no C++ compiler here")
def test_a_library_that_computes_wrongly_is_not_used(tmp_path: Path) -> None:
    """Neither by the public functions nor by graphs, which call torch.ops.sfe."""
    wrong = shutil.copytree(OPS, tmp_path / "wrong", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    header = wrong / "element.h"
    header.write_text(header.read_text().replace("sum * a.slope", "sum * a.gain"))
    compiler = tmp_path / "c++"
    right = str(OPS).replace("/", r"\/")  # as the pattern of a substitution
    compiler.write_text(f'#!/bin/bash\nset -- "${{@/-O3/-O0}}"\nexec {COMPILER} "${{@//{right}/{wrong}}}"\n')
    compiler.chmod(0o755)
    graph = "\nassert torch.ops.sfe.fused_bias_act(x, *[None] * 4, 0.5, 2.0)[0, 0, 0, 0] == -8\n"
    process = start(USE + graph, tmp_path / "cache", CXX=str(compiler))
    output, errors = process.communicate(timeout=600)
    assert output.strip() == "False" and process.returncode == 0, errors
    *_, warning = lines_about_ops(errors)
    assert "plain PyTorch for the CPU" in warning and "failed their test: blur_bias_act of torch.float32" in warning


def test_sfe_ops_has_three_values(tmp_path: Path) -> None:
    process = start(USE, tmp_path, SFE_OPS="fast")
    _, errors = process.communicate()
    assert process.returncode == 1 and "SFE_OPS is 'fast'; wanted auto, native or cuda" in errors


def test_a_pytorch_without_cuda_skips_what_wants_nvrtc(tmp_path: Path) -> None:
    """With one reason, and nothing else of the GPU's tests."""
    (tmp_path / "without_cuda.py").write_text("import torch\ntorch.version.cuda = None\n")
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}{os.pathsep}{tmp_path}"}
    tests = ("tests/models/test_ops_nvrtc.py", "tests/test_fake_gpu.py", "-k", "nvrtc or noted or mixed or not_run")
    command = [sys.executable, "-m", "pytest", "-p", "without_cuda", "-rs", *tests]
    done = subprocess.run(command, cwd=ROOT, env=environment, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout
    skipped = [line for line in done.stdout.splitlines() if line.startswith("SKIPPED")]
    assert len(skipped) == 1 and skipped[0].endswith("no NVRTC here: this PyTorch is built without CUDA"), done.stdout
