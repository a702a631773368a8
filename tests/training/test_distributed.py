"""Two processes under torchrun learn what one does with twice the batch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from training_toy import TrainingToy, shared_toy

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> TrainingToy:
    return shared_toy(tmp_path_factory.getbasetemp())


def run(toy: TrainingToy, stage: int, processes: int, batch: int, *more: str) -> Path:
    """The experiment's folder after steps 14 to 17: the discriminator from 15 on, and R1 in 16."""
    name = f"ranks_{stage}_{processes}_{'_'.join(more)}".replace("=", "_")
    options = [
        f"model.batch_size={batch}", "train.start_step=14", "train.steps=17", "train.train_dis=True",
        "train.dis_train_start_step=15", "train.log_step=1", "train.val_step=17", "optimizers.ranger.lr=0.001",
        f"data.input_val_dir={toy.pictures}", f"data.special_dir={toy.pictures}", *more,
    ]  # fmt: skip
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"] if processes > 1 else []
    command = [sys.executable, *launch, "scripts/train.py", *toy.arguments(stage, name, *options)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert process.returncode == 0, process.stderr[-3000:]
    (folder,) = toy.experiments.glob(f"{name}_*")  # the second process writes nothing
    return folder


@pytest.mark.parametrize(("stage", "accumulation"), [(1, 1), (2, 2)])
def test_two_processes_equal_one_with_twice_the_batch(toy: TrainingToy, stage: int, accumulation: int) -> None:
    """All of the state, BatchNorm statistics too, up to the order of float sums; and the numbers of the log."""
    more = [f"train.grad_accumulation={accumulation}"]
    one, two = run(toy, stage, 1, 8, *more), run(toy, stage, 2, 4, *more)
    first, second = (torch.load(folder / "iteration_17.pt", weights_only=True) for folder in (one, two))
    assert first["training"]["pictures"] == second["training"]["pictures"]
    for key, value in first["state_dict"].items():
        assert torch.allclose(second["state_dict"][key].double(), value.double(), rtol=1e-4, atol=1e-5), key
    for name in ("encoder_opt", "disc_opt"):
        for position, state in first[name]["state"].items():
            for key, value in state.items():
                other = second[name]["state"][position][key]
                assert torch.allclose(torch.as_tensor(other), torch.as_tensor(value), rtol=1e-2, atol=1e-5), (name, key)
    rows = [[json.loads(line) for line in (folder / "stats.jsonl").read_text().splitlines()] for folder in (one, two)]
    assert [row["step"] for row in rows[0]] == [14, 15, 16, 17, 17] and "val/l2" in rows[0][-1]
    for a, b in zip(*rows, strict=True):
        a.pop("time"), b.pop("time")
        assert a == pytest.approx(b, rel=1e-3)
