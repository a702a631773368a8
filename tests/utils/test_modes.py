"""Train and eval mode."""

import pytest
from torch import nn

from utils.modes import eval_mode


def test_every_part_returns_to_its_mode_also_after_an_error() -> None:
    network = nn.Sequential(nn.Dropout(), nn.Sequential(nn.BatchNorm1d(2))).train()
    network[1].eval()
    before = [part.training for part in network.modules()]
    with pytest.raises(ZeroDivisionError), eval_mode(network):
        assert not any(part.training for part in network.modules())
        raise ZeroDivisionError
    assert [part.training for part in network.modules()] == before == [True, True, False, False]
