"""Activation checkpointing changes what is kept, and nothing that is computed."""

import copy

import pytest
import torch
from training_toy import TrainingToy, shared_toy

from models.weights import load_inverter, trainable
from training.recompute import recompute


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> TrainingToy:
    return shared_toy(tmp_path_factory.getbasetemp())


def test_gradients_and_statistics_stay_the_same_with_less_memory(toy: TrainingToy) -> None:
    plain = trainable(load_inverter(toy.files.inverter, toy.domain))
    frugal = recompute(copy.deepcopy(plain))
    assert list(plain.state_dict()) == list(frugal.state_dict())
    x = torch.randn(3, 3, toy.domain.encoder_size, toy.domain.encoder_size, generator=torch.Generator().manual_seed(1))
    kept, outputs = [], []
    for inverter in (plain, frugal):
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, sizes=sizes: sizes.append(t.numel()) or t, lambda t: t):
            offsets, content = inverter.fs_backbone(x)
            features = inverter.fuser(content, content)
        (offsets.square().mean() + features.square().mean()).backward()
        kept.append(sum(sizes))
        outputs.append((offsets, features))
    assert kept[1] < kept[0] / 2
    for one, other in zip(*outputs, strict=True):
        assert torch.equal(one, other)
    for (name, one), other in zip(plain.named_parameters(), frugal.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad), name
    for key, value in plain.state_dict().items():  # BatchNorm has counted the batch once
        assert torch.equal(value, frugal.state_dict()[key]), key
    with torch.no_grad():
        assert torch.equal(plain.eval().fs_backbone(x)[1], frugal.eval().fs_backbone(x)[1])
