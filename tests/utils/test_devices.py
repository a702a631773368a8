"""Names of devices."""

import logging

import pytest
import torch

from utils.devices import resolve_device
from utils.errors import UserError
from utils.processes import own_device


def test_cpu(caplog):
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device(" CPU ") == torch.device("cpu")
    assert not caplog.records


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


@pytest.mark.parametrize(
    "name",
    ["gpu", "cuda:x", "-1", "cpu:0", "mps", "1.5", "", "²", "cuda:", "cuda1", ":1"],
)
def test_names_that_are_none(name):
    with pytest.raises(UserError, match="wanted cpu, a GPU's number") as caught:
        resolve_device(name)
    assert f"'{name}'" in str(caught.value)


def test_processes_of_torchrun_each_take_a_gpu(monkeypatch):
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
