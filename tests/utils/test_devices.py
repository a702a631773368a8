"""Names of devices."""

import logging

import pytest
import torch

from utils.devices import resolve_device
from utils.errors import UserError


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
