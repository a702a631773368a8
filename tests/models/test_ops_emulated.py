"""The GPU's kernels without a GPU: compiled as C++ and run, thread after thread, by a libcuda.so of the tests."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import emulated_gpu
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from models.stylegan2.ops import cuda, driver, library, native, nvrtc, self_test

ROOT = Path(__file__).resolve().parents[2]
SANITIZERS = "-fsanitize=address,alignment,signed-integer-overflow,bounds,shift,integer-divide-by-zero"
CPU = torch.device("cpu")

pytestmark = pytest.mark.skipif(not emulated_gpu.COMPILER, reason="no C++ compiler here")


def sanitized() -> dict[str, str]:
    """Flags and environment that stop a process at the first access outside of a tensor; none where g++ has none."""
    libraries = [
        subprocess.run(
            [emulated_gpu.COMPILER, f"-print-file-name={name}"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for name in ("libasan.so", "libstdc++.so.6")
    ]
    if not all(map(os.path.isabs, libraries)):
        return {"SFE_EMULATED_FLAGS": ""}
    return {
        "SFE_EMULATED_FLAGS": f"{SANITIZERS} -fno-sanitize-recover=all",
        "LD_PRELOAD": " ".join(libraries),
        "ASAN_OPTIONS": "detect_leaks=0",
    }


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", **environment}
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def test_all_tests_of_the_ops(tmp_path: Path) -> None:
    arguments = ("-m", "pytest", "-p", "emulated_gpu", "-s", "tests/models/test_ops.py", "-k", "not native")
    done = run(*arguments, SFE_EMULATED=str(tmp_path), **sanitized())
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert int((tmp_path / "launches").read_text()) > 10_000  # no other implementation stood in


FAULTS = {
    "nothing": ("", ""),
    "a row's bound is missing": ("if (i >= row_size) return;", ""),
    "a row's bound is off by one": ("i >= row_size", "i > row_size"),
    "a gradient's bound is missing": ("if (i < count)", ""),
    "images and channels are swapped": ("map / a.channels, map % a.channels", "map % a.channels, map / a.channels"),
    "channels and pixels are swapped": ("i % a.channels, oy, i / a.channels", "i / a.channels, oy, i % a.channels"),
    "rows of the input are counted": ("row % a.out_h, map = row / a.out_h", "row % a.in_h, map = row / a.in_h"),
    "an image's bound is off by one": ("i < 0 || i >= size", "i < 0 || i > size"),
    "the filter is not flipped": ("kernel_h - 1 - ky", "ky"),
    "the first tap is off by one": ("up - past : -past", "up - past : 1 - past"),
    "a vector's last number is missing": ("i < V; ++i) narrow", "i < V - 1; ++i) narrow"),
    "half of a vector is read": ("values.v[i] = widen(memory.v[i])", "values.v[i] = widen(memory.v[i / 2])"),
}

CHECK_EACH = """
import os, sys, torch, emulated_gpu
from pathlib import Path
from models.stylegan2.ops import self_test
libcuda, *folders = map(Path, sys.argv[1:])
for folder in folders:
    child = os.fork()  # a fault may end the process
    if child == 0:
        ops = emulated_gpu.emulated_ops(libcuda, folder / emulated_gpu.kernels_name(torch.float32), torch.float32)
        self_test.check(ops, torch.device("cpu"), torch.float32)
        os._exit(0)
    print(folder.name, os.waitpid(child, 0)[1])
"""


def test_planted_faults_are_caught(tmp_path: Path) -> None:
    """By the self-test of first use, or by a sanitizer."""
    environment = sanitized()
    flags = environment["SFE_EMULATED_FLAGS"].split()
    libcuda = emulated_gpu.compile_driver(tmp_path, flags)

    def planted(number: int, right: str, wrong: str) -> Path:
        sources, folder = tmp_path / f"sources_{number}", tmp_path / str(number)
        sources.mkdir()
        for name in (nvrtc.SOURCE, *nvrtc.HEADERS):
            shutil.copy(library.FOLDER / name, sources)
        if right:
            (file,) = (path for path in sources.iterdir() if right in path.read_text())
            file.write_text(file.read_text().replace(right, wrong))
        emulated_gpu.compile_kernels(folder, torch.float32, [*flags, "-O0"], sources)
        return folder

    with ThreadPoolExecutor(2) as threads:
        folders = list(threads.map(planted, range(len(FAULTS)), *zip(*FAULTS.values(), strict=True)))
    done = run("-c", CHECK_EACH, str(libcuda), *map(str, folders), **environment)
    status = dict(line.split() for line in done.stdout.splitlines())
    passed = [fault for number, fault in enumerate(FAULTS) if status[str(number)] == "0"]
    assert passed == ["nothing"], done.stderr[-3000:]


@pytest.fixture(scope="module")
def libcuda(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return emulated_gpu.compile_driver(tmp_path_factory.mktemp("driver"), [])


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return emulated_gpu.compile_kernels(tmp_path_factory.mktemp("kernels"), torch.float32, [])


@pytest.fixture(scope="module")
def ops(libcuda: Path, kernels: Path) -> cuda.Ops:
    return emulated_gpu.emulated_ops(libcuda, kernels, torch.float32)


def arguments(channels: int, height: int, width: int, batch: int = 1) -> tuple:
    """Of fused_bias_act, with all that it takes."""
    x = torch.randn(batch, channels, height, width)
    noise = torch.randn(batch, 1, height, width)
    return x, torch.randn(channels), noise, torch.tensor(0.5), torch.rand(batch, channels), 0.2, 1.4


def test_more_rows_than_a_grid_has(ops: cuda.Ops) -> None:
    inputs = arguments(70_000, 1, 129)
    torch.testing.assert_close(ops.fused_bias_act(*inputs), native.fused_bias_act(*inputs))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_tensors_too_large_for_32_bits_are_computed_in_parts(
    ops: cuda.Ops, libcuda: Path, layout: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, *rest = arguments(8, 4, 5, batch=5)
    x = x.contiguous(memory_format=layout)
    y = x.roll(1, 3)
    wanted = native.fused_bias_act(x, *rest), native.act_grad(x, y, 0.2, 1.4)
    monkeypatch.setattr(cuda, "LARGEST", 2 * 8 * 4 * 12)  # two images and what is around them
    before = emulated_gpu.launches(libcuda)
    torch.testing.assert_close(ops.fused_bias_act(x, *rest), wanted[0])
    assert emulated_gpu.launches(libcuda) > before + 1
    monkeypatch.setattr(cuda, "LARGEST", 8 * 33)
    torch.testing.assert_close(ops.act_grad(x, y, 0.2, 1.4), wanted[1])
    with pytest.raises(ValueError, match=r"an image has too many numbers .* SFE_OPS=native"):
        ops.upfirdn2d(x, torch.ones(4, 4), (1, 1), (1, 1), (1000, 1, 1, 1), 1.0)


class Recorded(TorchDispatchMode):
    """The names of the operators that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.names.append(str(function))
        return function(*args, **(kwargs or {}))


def test_an_op_is_one_kernel(ops: cuda.Ops, libcuda: Path) -> None:
    """No filter is flipped, no bias converted: the result's memory is all that PyTorch is asked for."""
    x, *rest = arguments(8, 4, 5)
    kernel = torch.rand(4, 4)
    before = emulated_gpu.launches(libcuda)
    with Recorded() as recorded:
        ops.upfirdn2d(x, kernel, (2, 2), (1, 1), (2, 1, 2, 1), 4.0)
        ops.blur_bias_act(x, kernel, (2, 1, 2, 1), *rest[:4], 4.0, *rest[4:])
        ops.fused_bias_act(x, *rest)
        ops.act_grad(x, x, 0.2, 1.4)
    assert emulated_gpu.launches(libcuda) == before + 4
    assert all(name.startswith("aten.empty") for name in recorded.names) and len(recorded.names) == 4


def test_which_kernel_is_chosen() -> None:
    """16 bytes at a time where channels are contiguous in such pieces; a filter's special kernel if it has one."""
    chosen: list[str] = []
    half = cuda.Ops(lambda kernel, *_: chosen.append(kernel), torch.float16)
    last = torch.zeros(1, 16, 4, 4, dtype=torch.float16).contiguous(memory_format=torch.channels_last)
    scalar = torch.zeros(1, 12, 4, 4, dtype=torch.float16).contiguous(memory_format=torch.channels_last)
    shifted = torch.zeros(257, dtype=torch.float16)[1:].as_strided(last.shape, last.stride())
    for x in (last, scalar, shifted, last.contiguous()):
        half.fused_bias_act(x, None, None, None, None, 0.2, 1.0)
    vector, *others = chosen
    assert vector == "channels_last_vector_pointwise"
    assert others == ["channels_last_pointwise", "channels_last_pointwise", "planes_pointwise"]
    chosen.clear()
    one, two, pad = (1, 1), (2, 2), (2, 1, 2, 1)
    for size, up, down in ((4, one, one), (4, two, one), (4, one, two), (4, two, two), (3, one, one)):
        half.upfirdn2d(last, torch.ones(size, size), up, down, pad, 1.0)
    assert [name.removeprefix("channels_last_vector_") for name in chosen] == ["blur", "up", "down", "any", "any"]


def test_what_the_driver_refuses_is_an_error(libcuda: Path, kernels: Path, tmp_path: Path) -> None:
    cuda_driver = driver.Driver(str(libcuda))
    with pytest.raises(RuntimeError, match=r"cuDeviceGet: invalid device ordinal \(101\)"):
        driver.Kernels(cuda_driver, 1, bytes(kernels), lambda: 0)
    with pytest.raises(RuntimeError, match="cuModuleLoadData: device kernel image is invalid"):
        driver.Kernels(cuda_driver, 0, bytes(tmp_path / "none"), lambda: 0)
    loaded = driver.Kernels(cuda_driver, 0, bytes(kernels), lambda: 0)
    with pytest.raises(RuntimeError, match="cuModuleGetFunction: named symbol not found"):
        loaded.launch("no_such_kernel", (1, 1), (1, 1))
    for grid, block in (((1, 65536), (256, 1)), ((0, 1), (256, 1)), ((1, 1), (512, 1))):
        with pytest.raises(RuntimeError, match="cuLaunchKernel: invalid argument"):
            loaded.launch("planes_pointwise", grid, block)
    with pytest.raises(OSError, match="no_libcuda"):
        driver.Driver("no_libcuda.so")


def test_the_self_test_takes_no_random_numbers(ops: cuda.Ops) -> None:
    torch.manual_seed(0)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    self_test.check(ops, CPU, torch.float32)
    assert torch.equal(torch.get_rng_state(), state) and torch.get_num_threads() == threads
