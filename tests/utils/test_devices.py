"""Names of devices."""

import logging
import os
import shutil
import subprocess
import sys

import pytest
import torch

from models.stylegan2.ops import native
from models.stylegan2.ops.backend import ops_for
from utils.devices import resolve_device
from utils.errors import UserError
from utils.processes import own_device


def test_cpu(caplog):
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device(" CPU ") == torch.device("cpu")
    assert not caplog.records


def test_tf32_is_off_unless_asked_for():
    """PyTorch's own default rounds the factors of float32 convolutions on GPUs since Ampere."""
    for tf32 in (True, False):
        resolve_device("cpu", tf32)
        assert torch.backends.cuda.matmul.allow_tf32 == torch.backends.cudnn.allow_tf32 == tf32
    resolve_device("cpu", True)
    resolve_device("cpu")
    assert not torch.backends.cudnn.allow_tf32


def test_the_fastest_convolution_is_searched_for():
    torch.backends.cudnn.benchmark = False
    resolve_device("cpu")
    assert torch.backends.cudnn.benchmark


@pytest.mark.parametrize("name", ["0", "cuda", "cuda:0", "1", "cuda:1", "7"])
def test_a_gpu_that_is_there_or_not(name, caplog):
    index = int(name[-1]) if name[-1].isdigit() else 0
    with caplog.at_level(logging.WARNING):
        device = resolve_device(name)
    if index < torch.cuda.device_count():
        assert device == torch.device("cuda", index)
        assert not caplog.records
    else:
        assert device == torch.device("cpu")
        assert f"device {name} is not there" in caplog.text


NVML = """
extern "C" int nvmlInit() { return 0; }
extern "C" int nvmlDeviceGetCount_v2(int* count) { *count = 1; return 0; }
"""


@pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler here")
@pytest.mark.skipif(torch.cuda.is_available() or torch.version.cuda is None, reason="no CUDA without a GPU here")
def test_a_gpu_that_only_nvml_counts(tmp_path):
    """As where the driver is too old for PyTorch: its NVML still counts the GPU."""
    (tmp_path / "nvml.cpp").write_text(NVML)
    subprocess.run(["g++", "-shared", "-fPIC", "nvml.cpp", "-o", "libnvidia-ml.so.1"], cwd=tmp_path, check=True)
    code = "import torch; from utils.devices import resolve_device; "
    code += "print(torch.cuda.device_count(), resolve_device('0'))"
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "1 cpu\n"
    assert "device 0 is not there (0 GPUs found)" in done.stderr


@pytest.mark.parametrize(
    "name",
    ["gpu", "cuda:x", "-1", "cpu:0", "mps:0", "1.5", "", "²", "cuda:", "cuda1", ":1"],
)
def test_unknown_names(name):
    with pytest.raises(UserError, match="wanted cpu, a GPU's number") as caught:
        resolve_device(name)
    assert f"'{name}'" in str(caught.value)


def test_mps(monkeypatch, caplog):
    """On other machines than a Mac it gives the CPU; the ops of both are plain PyTorch where nothing is compiled."""
    if not torch.backends.mps.is_available():
        assert resolve_device("mps") == torch.device("cpu")
        assert "device mps is not there" in caplog.text
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert resolve_device(" MPS") == torch.device("mps")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert own_device("mps") == "mps"
    assert ops_for(torch.empty(1, device="meta")) is native  # as every device that is neither a CPU nor CUDA's


def test_processes_of_torchrun_each_take_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert own_device("0") == "1" and own_device("cpu") == "cpu"
    monkeypatch.setenv("LOCAL_RANK", "2")
    assert own_device(" CPU") == " CPU"
    with pytest.raises(UserError, match=r"process 2 of this machine has no GPU .* there are 2; .* --nproc_per_node=2"):
        own_device("0")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)  # then all of them take the CPU
    assert own_device("0") == "2"
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert own_device("cuda:5") == "cuda:5"
