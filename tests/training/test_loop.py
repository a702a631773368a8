"""The loop, with a task of two small networks: when it steps, skips, stops, saves and goes on."""

import json
import random
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector
from torch.optim import SGD

from training.distributed import Process
from training.ema import MovingAverage
from training.loggers import ImageFiles, JsonLines, Sheet, read_stats
from training.loop import Plan, Task, TrainingLoop, Validation
from training.precision import Precision
from training.state import TrainState
from utils.errors import UserError

CPU = torch.device("cpu")


class Pair(Task):
    """Two networks with an optimizer each; the batch grows and is drawn from all the global random generators."""

    name = "pair"

    def __init__(self, precision: str = "fp32") -> None:
        torch.manual_seed(0)
        self.left, self.right = nn.Linear(3, 2), nn.Linear(3, 2)
        self.ema = MovingAverage(self.left, 0.5)
        self.precision, self.batch_names = Precision(precision, CPU), ["a.png", "b.png"]
        networks = {"left": self.left, "right": self.right, "ema": self.ema.network}
        optimizers = {f"{name}_opt": SGD(networks[name].parameters(), 0.1) for name in ("left", "right")}
        self.state = TrainState(networks, optimizers, {"scaler": self.precision.scaler})
        self.drawn: list[float] = []

    def gradients(self, step: int) -> Mapping[str, Tensor]:
        x = torch.randn(step, 3) + float(np.random.rand()) + random.random()
        self.drawn.append(float(x.sum()))
        losses = {name: self.loss(step, name, x) for name in ("left", "right")}
        for loss in losses.values():
            self.precision.backward(loss)
        return losses

    def loss(self, step: int, name: str, x: Tensor) -> Tensor:
        return self.state.networks[name](x).square().mean()

    def updated(self, step: int) -> None:
        self.ema.update()

    def export(self, folder: Path) -> Sheet:
        torch.rand(7), random.random()  # what it draws is nothing to the steps
        return Sheet("samples", Image.new("RGB", (4, 4)))


def loop_of(task: Task, folder: Path, rank: int = 0, **plan: float) -> TrainingLoop:
    usual = {"steps": 6, "log_step": 2, "keep_checkpoints": 2, "seed": 3}
    return TrainingLoop(task, Plan(**usual | plan), Process(CPU, rank), folder)


def run(task: Task, folder: Path, **plan: float) -> TrainingLoop:
    loop = loop_of(task, folder, **plan)
    loop.resume(loop.checkpoints.files())
    loop.run([JsonLines(folder, loop.state.step), ImageFiles(folder)])
    return loop


def weights(task: Task) -> list[Tensor]:
    return [p.detach().clone() for net in task.state.networks.values() for p in net.parameters()]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_resumed_run_equals_an_unbroken_one(tmp_path: Path) -> None:
    """After a checkpoint by step, SIGTERM, and a change of how often is saved."""

    class Stopped(Pair):
        def gradients(self, step: int) -> Mapping[str, Tensor]:
            if step == 3:
                signal.raise_signal(signal.SIGTERM)
            return super().gradients(step)

    whole = Pair()
    run(whole, tmp_path / "whole")
    assert run(Stopped(), tmp_path / "parts", checkpoint_step=2).state.step == 3
    assert [path.stem for path in run(Pair(), tmp_path / "parts", steps=5).checkpoints.files()] == [
        "iteration_3",
        "iteration_5",
    ]
    last = Pair()
    run(last, tmp_path / "parts")
    assert same(weights(whole), weights(last))
    rows = [
        [{k: v for k, v in row.items() if k != "time"} for row in read_stats(tmp_path / name / "stats.jsonl")]
        for name in ("whole", "parts")
    ]
    assert [row["step"] for row in rows[0]] == [row["step"] for row in rows[1]] == [2, 4, 6]
    assert rows[0][0] == rows[1][0]
    assert set(rows[0][0]) == {"step", "left", "right", "left_grad_norm", "right_grad_norm"}
    assert (tmp_path / "parts" / "samples" / "step_0000005.png").exists()


def test_numbers_drawn_depend_on_seed_rank_and_step_only(tmp_path: Path) -> None:
    def drawn(seed: int, rank: int, *steps: int) -> list[float]:
        loop = loop_of(task := Pair(), tmp_path, rank, seed=seed)
        for step in steps:
            loop.step(step)
        return task.drawn

    assert drawn(3, 0, 1, 2, 3)[2] == drawn(3, 0, 3)[0]
    others = [drawn(3, 0, 4), drawn(3, 1, 4), drawn(4, 0, 4)]
    assert len({value for (value,) in others}) == 3


def spoiled(spoil: Callable[[Tensor], Tensor]) -> type[Pair]:
    """In step 2 and for `right` alone."""

    class Spoiled(Pair):
        def loss(self, step: int, name: str, x: Tensor) -> Tensor:
            loss = super().loss(step, name, x)
            return spoil(loss) if step == 2 and name == "right" else loss

    return Spoiled


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda loss: loss * float("nan"), r"a loss is not finite \(left [\d.]+, right nan, .*\) on a\.png, b\.png"),
        (lambda loss: (loss - loss.detach()).sqrt(), r"the gradient is not finite \(.*, right_grad_norm (inf|nan)\)"),
    ],
    ids=["loss", "gradient of a finite loss"],
)
def test_what_is_not_finite_stops_before_any_weight_changes(tmp_path: Path, spoil: Callable, words: str) -> None:
    task = spoiled(spoil)()
    loop = loop_of(task, tmp_path)
    loop.step(1)
    loop.checkpoints.save(task.state)
    before = weights(task)
    with pytest.raises(UserError, match=rf"step 2: {words}.*; the last good checkpoint is .*iteration_1\.pt"):
        loop.step(2)
    assert same(weights(task), before)


def test_an_overflow_of_scaled_gradients_skips_the_step_of_that_network_only(tmp_path: Path) -> None:
    """As float16 has it: gradients times the scale overflow, the loss does not. Then the scale falls."""
    task = spoiled(lambda loss: loss * 1e34)("fp16")
    loop = loop_of(task, tmp_path)
    loop.step(1)
    scale, (left, right) = task.precision.scaler.get_scale(), (task.left.weight.clone(), task.right.weight.clone())
    loop.step(2)
    assert torch.equal(task.right.weight, right) and not torch.equal(task.left.weight, left)
    assert task.precision.scaler.get_scale() == scale / 2
    loop.step(3)
    assert not torch.equal(task.right.weight, right)
    with pytest.raises(UserError, match="a loss is not finite"):
        loop = loop_of(spoiled(lambda loss: loss * float("inf"))("fp16"), tmp_path)
        loop.step(2)


def test_scaled_gradients_give_the_same_step(tmp_path: Path) -> None:
    plain, scaled = Pair(), Pair("fp16")  # on the CPU autocast leaves so small products nearly as they are
    for task in (plain, scaled):
        loop_of(task, tmp_path).step(1)
    for one, other in zip(weights(plain), weights(scaled), strict=True):
        assert torch.allclose(one, other, atol=1e-3)


def test_gradients_are_scaled_down_to_a_norm(tmp_path: Path) -> None:
    """SGD's step is 0.1 times the gradient; only that of a network whose gradient is too long is shortened."""

    def moves(limit: float) -> dict[str, float]:
        task = Pair()
        networks = {"left": task.left, "right": task.right}
        before = {name: parameters_to_vector(network.parameters()).detach() for name, network in networks.items()}
        loop_of(task, tmp_path, clip_grad_norm=limit).step(1)
        after = {name: parameters_to_vector(network.parameters()).detach() for name, network in networks.items()}
        return {name: float((after[name] - before[name]).norm()) for name in networks}

    free = moves(0)
    low, high = sorted(free, key=lambda name: free[name])
    limit = 5 * (free[low] + free[high])  # between the two norms
    clipped = moves(limit)
    assert clipped[low] == free[low]
    assert clipped[high] == pytest.approx(0.1 * limit, rel=1e-4) and clipped[high] < 0.99 * free[high]


def test_an_optimizer_without_gradients_does_nothing(tmp_path: Path) -> None:
    class LeftOnly(Pair):
        def gradients(self, step: int) -> Mapping[str, Tensor]:
            loss = self.loss(step, "left", torch.randn(4, 3))
            self.precision.backward(loss)
            return {"left": loss}

    task = LeftOnly()
    before = weights(task)
    values = loop_of(task, tmp_path).update(1, task.gradients(1))
    assert set(values) == {"left", "left_grad_norm"}
    assert same(before[2:4], weights(task)[2:4]) and not same(before[:2], weights(task)[:2])


def test_the_average_follows(tmp_path: Path) -> None:
    task = Pair()
    first = [p.detach().clone() for p in task.left.parameters()]
    loop_of(task, tmp_path).step(1)
    for mean, old, new in zip(task.ema.network.parameters(), first, task.left.parameters(), strict=True):
        assert torch.allclose(mean, (old + new) / 2)


def test_an_average_has_buffers_too() -> None:
    network = nn.BatchNorm1d(2)
    average = MovingAverage(network, 0.75)
    network(torch.tensor([[1.0, 2.0], [3.0, 6.0]]))
    average.update()
    assert torch.allclose(average.network.running_mean, 0.25 * network.running_mean)
    assert average.network.num_batches_tracked == 1 and not average.network.training


def test_the_best_by_validation_is_kept(tmp_path: Path) -> None:
    scores = {1: 0.5, 2: 0.9, 3: 0.7, 4: float("nan"), 5: 0.8, 6: 0.1}

    class Measured(Pair):
        def validate(self, step: int) -> Validation:
            assert not torch.is_grad_enabled()
            sheet = Sheet("special", Image.new("RGB", (4, 4)))
            return Validation({"score": scores[step]}, self.state.improves(scores[step], True), [sheet])

    loop = run(Measured(), tmp_path, val_step=1, keep_checkpoints=1)
    assert [path.stem for path in loop.checkpoints.files()] == ["iteration_2", "iteration_6"]
    assert [row["val/score"] for row in read_stats(tmp_path / "stats.jsonl") if "val/score" in row][:3] == [
        0.5,
        0.9,
        0.7,
    ]
    assert json.loads((tmp_path / "metrics" / "iteration_5.json").read_text()) == {"score": 0.8}
    assert len(list((tmp_path / "special").iterdir())) == 6


def test_a_task_ends_with_its_last_checkpoint(tmp_path: Path) -> None:
    class Ending(Pair):
        ended: Path | None = None

        def finish(self, folder: Path, checkpoint: Path) -> None:
            self.ended = checkpoint

    early, late = Ending(), Ending()
    run(early, tmp_path, steps=2)
    run(late, tmp_path, steps=2)  # nothing left to do, but the end
    assert early.ended == late.ended == tmp_path / "iteration_2.pt" and early.ended.exists()


def test_checkpoints_that_cannot_be_read_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "iteration_3.pt").write_text("none")
    with pytest.raises(UserError, match=r"none of the checkpoints in .* can be read"):
        run(Pair(), tmp_path)
