"""Trainings of several processes under torchrun: they learn what one does with a larger batch, stop and go on."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from training_toy import TrainingToy, shared_toy
from warm_python import WarmPython

from arguments.domain import load_domain
from arguments.loader import load_options
from arguments.loop_options import GeneratorTrainConfig
from models.weights import read
from runners.training_runner import train_network
from training.distributed import Process
from training.loggers import read_stats
from training.loop import Plan, TrainingLoop
from training.tasks.generator import GeneratorTask
from utils.seeds import derive_seed, seed_everything

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
ONE_CORE = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> TrainingToy:
    return shared_toy(tmp_path_factory.getbasetemp())


def torchrun(processes: int, *command: str) -> list[str]:
    return [
        sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}", *command
    ]  # fmt: skip


@pytest.fixture(scope="module")
def python() -> Iterator[WarmPython]:
    warm = WarmPython("runners.training_runner", "matplotlib.figure")
    yield warm
    warm.close()


def run(toy: TrainingToy, python: WarmPython, stage: int, processes: int, batch: int, *more: str) -> Path:
    """The experiment's folder after steps 14 to 17: the discriminator from 15 on, and R1 in 16."""
    name = f"ranks_{stage}_{processes}_{'_'.join(more)}".replace("=", "_")
    options = [
        f"model.batch_size={batch}", "train.start_step=14", "train.steps=17", "train.train_dis=True",
        "train.dis_train_start_step=15", "train.log_step=1", "train.val_step=17", "optimizers.ranger.lr=0.001",
        f"data.input_val_dir={toy.images}", f"data.special_dir={toy.images}", *more,
    ]  # fmt: skip
    arguments = toy.arguments(stage, name, *options)
    if processes > 1:
        command = torchrun(processes, "scripts/train.py", *arguments)
        process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=ONE_CORE)
        assert process.returncode == 0, process.stderr[-3000:]
    else:
        log = toy.folder / f"{name}.txt"
        assert python.run("train.py", *arguments, log=log) == 0, log.read_text()
    (folder,) = toy.experiments.glob(f"{name}_*")  # the second process writes nothing
    return folder


@pytest.mark.parametrize(("stage", "accumulation"), [(1, 1), (2, 2)])
def test_two_processes_equal_one_with_twice_the_batch(
    toy: TrainingToy, python: WarmPython, stage: int, accumulation: int
) -> None:
    """All of the state, BatchNorm statistics too, up to the order of float sums; and the numbers of the log."""
    more = [f"train.grad_accumulation={accumulation}"]
    one, two = (run(toy, python, stage, ranks, 8 // ranks, *more) for ranks in (1, 2))
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


def test_bf16_in_two_processes_takes_nearly_the_same_steps(toy: TrainingToy, python: WarmPython) -> None:
    one, two = (run(toy, python, 1, ranks, 8 // ranks, "train.precision=bf16") for ranks in (1, 2))
    for a, b in zip(read_stats(one / "stats.jsonl"), read_stats(two / "stats.jsonl"), strict=True):
        assert {k: v for k, v in a.items() if k.endswith(("l2", "total"))} == pytest.approx(
            {k: v for k, v in b.items() if k.endswith(("l2", "total"))}, rel=0.05
        )


def test_a_loss_that_is_not_finite_in_one_process_stops_all(toy: TrainingToy) -> None:
    """Both say the same, and name images of the process where it happened."""
    options = ["optimizers.ranger.lr=1e30", "train.checkpoint_step=1", "train.steps=50", "model.batch_size=2"]
    command = torchrun(2, "scripts/train.py", *toy.arguments(1, "diverged_ranks", *options))
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=ONE_CORE)
    assert process.returncode != 0
    lines = [line for line in process.stderr.splitlines() if line.startswith("error: ")]
    assert lines and len(set(lines)) == 1 and "not finite" in lines[0], process.stderr[-3000:]
    assert sum(f"{i}.png" in lines[0] for i in range(8)) == 2


# ---- The generator, in a folder of its own ----


@contextmanager
def started(command: list[str]) -> Iterator[subprocess.Popen]:
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, env=ONE_CORE)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def two_machines() -> list[str]:
    """torchrun's command on each of two machines with one process each, which are this one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{free.getsockname()[1]}"
    nodes = ["--nnodes=2", "--nproc_per_node=1", "--rdzv_backend=c10d", f"--rdzv_endpoint={place}", "--rdzv_id=run"]
    return [sys.executable, "-m", "torch.distributed.run", *nodes]


def generator_options(toy: TrainingToy, name: str, *more: str) -> list[str]:
    return [
        f"exp.domain={toy.files.path}", f"exp.exp_dir={toy.experiments}", f"exp.name={name}", "train.device=cpu",
        f"data.train_dir={toy.images}", "train.r1_every=2", "train.path_length=0", "train.log_step=1", *more,
    ]  # fmt: skip


def test_processes_draw_numbers_of_their_own_and_average_the_gradients(toy: TrainingToy) -> None:
    """On two machines with a process each: the checkpoint is that of two tasks whose gradients are averaged by hand."""
    options = generator_options(toy, "generator_ranks", "train.batch_size=2", "train.steps=2")
    command = [*two_machines(), "scripts/train_generator.py", *options]
    with started(command) as one, started(command) as two:
        for process in (one, two):
            errors = process.communicate(timeout=300)[1]
            assert process.returncode == 0, errors[-3000:]
    folder = toy.experiments / "generator_ranks"
    result = read(folder / "iteration_2.pt")["state_dict"]

    config = load_options(GeneratorTrainConfig, options)
    tasks = []
    for rank in (0, 1):
        seed_everything(config.exp.seed)
        tasks.append(GeneratorTask(config, load_domain(config.exp.domain), Process(CPU, rank, 2)))
    for step in (1, 2):
        for rank, task in enumerate(tasks):
            seed_everything(derive_seed(config.exp.seed, rank, step))
            task.gradients(step)
        pairs = [task.generator.parameters() for task in tasks], [task.discriminator.parameters() for task in tasks]
        for networks in pairs:
            for a, b in zip(*networks, strict=True):
                a.grad = b.grad = (a.grad + b.grad) / 2
        for task in tasks:
            TrainingLoop(task, Plan(2, 1, 1, 1), Process(CPU), folder).update(step, {"none": torch.zeros(())})
    expected = tasks[0].state.state_dict()["state_dict"]
    assert result.keys() == expected.keys()
    for key, value in result.items():
        assert torch.allclose(value, expected[key], rtol=1e-3, atol=1e-5), key
    assert [row["images"] for row in read_stats(folder / "stats.jsonl")] == [4, 8]


def wait_for_step(folder: Path, step: int, process: subprocess.Popen) -> None:
    start = time.monotonic()
    while max((row["step"] for row in read_stats(folder / "stats.jsonl")), default=0) < step:
        assert time.monotonic() - start < 120 and process.poll() is None, process.communicate()[1][-3000:]
        time.sleep(0.05)


def workers(pid: int) -> list[int]:
    """Process ids of torchrun's processes, by their rank."""
    children = (Path(f"/proc/{pid}/task/{pid}/children")).read_text().split()
    ranks = {}
    for child in map(int, children):
        environment = dict(item.partition("=")[::2] for item in Path(f"/proc/{child}/environ").read_text().split("\0"))
        if "LOCAL_RANK" in environment:
            ranks[int(environment["LOCAL_RANK"])] = child
    return [ranks[rank] for rank in sorted(ranks)]


def test_a_run_is_killed_stopped_and_resumed_with_fewer_processes(toy: TrainingToy) -> None:
    folder = toy.experiments / "generator_stopped"
    options = generator_options(toy, "generator_stopped", "train.batch_size=2", "train.checkpoint_minutes=0")
    command = torchrun(2, "scripts/train_generator.py", *options, "train.steps=1000000")
    with started(command) as process:
        wait_for_step(folder, 2, process)
        os.kill(workers(process.pid)[1], signal.SIGKILL)
        assert process.wait(timeout=120) != 0  # the other one does not wait for ever
    killed = max(int(path.stem.rpartition("_")[2]) for path in folder.glob("iteration_*.pt"))
    with started(command) as process:
        wait_for_step(folder, killed + 2, process)
        process.send_signal(signal.SIGTERM)
        errors = process.communicate(timeout=120)[1]
    assert f"resuming from {folder}/iteration_{killed}.pt" in errors
    stopped = max(int(path.stem.rpartition("_")[2]) for path in folder.glob("iteration_*.pt"))
    assert f"stopped by SIGTERM after step {stopped}" in errors
    train_network(load_options(GeneratorTrainConfig, [*options, f"train.steps={stopped + 2}"]), GeneratorTask)
    rows = read_stats(folder / "stats.jsonl")
    assert [row["step"] for row in rows] == list(range(1, stopped + 3))
    images = [4 * step for step in range(1, stopped + 1)]
    assert [row["images"] for row in rows] == [*images, images[-1] + 2, images[-1] + 4]


JOIN = """
import sys
import torch
from training import distributed
from utils.errors import UserError

if sys.argv[1] == "gpu":  # as far as PyTorch says
    torch.cuda.is_available, torch.cuda.device_count = lambda: True, lambda: 1
try:
    distributed.join("0")
except UserError as error:
    sys.exit(f"error: {error}")
"""


def test_machines_with_and_without_a_gpu_do_not_train_together(tmp_path: Path) -> None:
    """Each of them says so at once: their processes would wait for each other in different backends."""
    (tmp_path / "join.py").write_text(JOIN)
    command = [*two_machines(), str(tmp_path / "join.py")]
    environment = {**ONE_CORE, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    processes = [
        subprocess.Popen([*command, kind], cwd=ROOT, stderr=subprocess.PIPE, text=True, env=environment)
        for kind in ("gpu", "cpu")
    ]
    for process in processes:
        errors = process.communicate(timeout=120)[1]
        assert process.returncode != 0
        assert re.search(r"error: the processes have the devices (cuda, cpu|cpu, cuda); wanted a GPU for each", errors)


SLOW = """
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
import torch
from torch import nn
from training import distributed
from training.loop import Plan, Task, TrainingLoop
from training.precision import Precision
from training.state import TrainState
from utils.processes import leave

class Slow(Task):
    name, batch_names = "slow", []
    def __init__(self):
        self.net, self.precision = nn.Linear(1, 1), Precision("fp32", torch.device("cpu"))
        self.state = TrainState({"net": self.net}, {"opt": torch.optim.SGD(self.net.parameters(), 0.1)}, {})
    def gradients(self, step):
        loss = self.net(torch.ones(1, 1)).sum()
        self.precision.backward(loss)
        return {"loss": loss}
    def export(self, folder):
        time.sleep(14 if self.state.step == 1 else 0)

process = distributed.join("cpu", timeout=timedelta(seconds=10))
TrainingLoop(Slow(), Plan(2, 1, 1, 0, checkpoint_step=1), process, Path(__file__).parent).run([])
leave()
"""


def test_others_wait_while_the_first_saves_for_longer_than_an_exchange_may_take(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    command = torchrun(2, str(tmp_path / "slow.py"))
    environment = {**ONE_CORE, "PYTHONPATH": str(ROOT)}
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert process.returncode == 0, process.stderr[-3000:]
    assert (tmp_path / "iteration_2.pt").exists()
