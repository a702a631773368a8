"""Checkpoints: the published layout, what they restore, and which are kept."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import PARITY
from torch import nn
from torch.optim import Adam

from arguments.domain import load_domain
from models.sfe import FeatureEditor, Inverter
from models.weight_kinds import WeightKind
from models.weights import export_light
from training.state import CheckpointFolder, TrainState, load_newest
from utils.errors import UserError


class Counter:
    """Some object with a state."""

    def __init__(self, value: int = 0) -> None:
        self.value = value

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.value = state["value"]


def make(seed: int, discriminator: bool = True, lr: float = 0.1) -> TrainState:
    torch.manual_seed(seed)
    networks: dict[str, nn.Module] = {"encoder": nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))}
    optimizers = {"encoder_opt": Adam(networks["encoder"].parameters(), lr)}
    if discriminator:
        networks["discriminator"] = nn.Linear(3, 1)
        optimizers["disc_opt"] = Adam(networks["discriminator"].parameters(), lr)
    latent_avg = torch.full((4,), float(seed))
    state = TrainState(networks, optimizers, {"pictures": Counter(seed)}, latent_avg, {"discriminator": ""})
    for network, optimizer in zip(networks.values(), optimizers.values(), strict=True):
        for _ in range(2):
            optimizer.zero_grad()
            network(torch.randn(5, 3)).square().sum().backward()
            optimizer.step()
    return state


def test_everything_comes_back_from_one_file_in_the_published_layout(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, keep=3)
    written = make(1)
    written.step, written.best, written.wandb_id = 7, {"step": 5, "value": 0.5}, "abc"
    path = folder.save(written)
    content = torch.load(path, weights_only=True)  # nothing in it could run code
    assert set(content) == {"state_dict", "encoder_opt", "disc_opt", "latent_avg", "training"}
    assert {"encoder.0.weight", "encoder.1.running_mean", "discriminator.weight"} < set(content["state_dict"])
    assert set(content["encoder_opt"]) == {"state", "param_groups"}

    read = make(2)
    assert load_newest(read, folder.files()) == path
    assert (read.step, read.best, read.wandb_id) == (7, {"step": 5, "value": 0.5}, "abc")
    assert read.others["pictures"].state_dict() == {"value": 1}
    for name in ("encoder", "discriminator"):
        for key, value in written.networks[name].state_dict().items():
            assert torch.equal(read.networks[name].state_dict()[key], value)
    for name, optimizer in written.optimizers.items():
        for position, state in optimizer.state_dict()["state"].items():
            for key, value in state.items():
                assert torch.equal(read.optimizers[name].state_dict()["state"][position][key], value)


def test_options_of_the_optimizers_are_the_configurations(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, keep=3)
    folder.save(make(1, lr=0.1))
    read = make(2, lr=0.02)
    load_newest(read, folder.files())
    assert read.optimizers["encoder_opt"].param_groups[0]["lr"] == 0.02


def test_a_published_checkpoint_has_no_progress(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = make(1).state_dict()
    del content["training"]
    torch.save(content, tmp_path / "iteration_300000.pt")
    read = make(2)
    read.step = 299
    load_newest(read, [tmp_path / "iteration_300000.pt"])
    weight = read.networks["encoder"].state_dict()["0.weight"]
    assert read.step == 299 and torch.equal(weight, content["state_dict"]["encoder.0.weight"])
    assert "has no step" in caplog.text


@pytest.mark.parametrize(("prefix", "network"), [("inverter.", Inverter), ("encoder.", FeatureEditor)])
def test_parameters_have_the_published_order(prefix: str, network: type[nn.Module]) -> None:
    """The published optimizer states go by position."""
    published = json.loads((PARITY / "checkpoints.json").read_text())["sfe_editor_light.pt"]["tensors"]
    with torch.device("meta"):
        ours = list(network(load_domain("human_faces")).state_dict())
    assert ours == [key.removeprefix(prefix) for key in published if key.startswith(prefix)]


def test_the_discriminator_may_join_later(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, keep=3)
    folder.save(make(1, discriminator=False))
    read = make(2)
    before = read.networks["discriminator"].weight.clone()
    load_newest(read, folder.files())
    assert torch.equal(read.networks["discriminator"].weight, before)


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {"encoder.7.weight": torch.zeros(1)}}, tmp_path / "iteration_1.pt")
    with pytest.raises(UserError, match=r"iteration_1\.pt is not a checkpoint of this stage"):
        load_newest(make(1), [tmp_path / "iteration_1.pt"])


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, keep=2)
    state = make(1)
    for step in (5, 9, 10, 11, 100):
        state.step = step
        if step == 9:
            state.best = {"step": 9, "value": 0.5}
        folder.save(state)
    assert [path.name for path in folder.files()] == ["iteration_9.pt", "iteration_11.pt", "iteration_100.pt"]
    assert (tmp_path / "save_options.json").read_text() == '{"start_step": 101, "wandb_id": ""}'


def test_files_beside_the_checkpoints_are_left_alone(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, keep=1)
    odd = ["iteration_2_backup.pt", "iteration_best.pt", "iteration_3.pt.old"]
    for name in odd:
        (tmp_path / name).write_bytes(b"mine")
    state = make(1)
    for state.step in (9, 10):
        folder.save(state)
    assert folder.files() == [tmp_path / "iteration_10.pt"]
    assert all((tmp_path / name).read_bytes() == b"mine" for name in odd)


def test_an_unreadable_checkpoint_gives_way_to_the_one_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = CheckpointFolder(tmp_path, keep=3)
    state = make(1)
    for state.step in (1, 2):
        folder.save(state)
    folder.path(2).write_bytes(folder.path(2).read_bytes()[:500])
    assert load_newest(make(2), folder.files()) == folder.path(1)
    assert "iteration_2.pt" in caplog.text


def test_only_training_checkpoints_have_a_light_form(tmp_path: Path) -> None:
    torch.save({"state_dict": {"decoder.x": torch.zeros(1)}}, tmp_path / "decoder.pt")
    with pytest.raises(UserError, match="wanted a checkpoint of training"):
        export_light(tmp_path / "decoder.pt", tmp_path / "light.pt")
    tensors = {"encoder.fs_backbone.x": 1.0, "encoder.fuser.y": 2.0, "discriminator.z": 3.0, "decoder.z": 4.0}
    torch.save({"state_dict": {k: torch.tensor(v) for k, v in tensors.items()}, "disc_opt": {}}, tmp_path / "full.pt")
    assert export_light(tmp_path / "full.pt", tmp_path / "light.pt") == WeightKind.INVERTER
    light = torch.load(tmp_path / "light.pt", weights_only=True)
    assert set(light) == {"state_dict"} and set(light["state_dict"]) == {"encoder.fs_backbone.x", "encoder.fuser.y"}
