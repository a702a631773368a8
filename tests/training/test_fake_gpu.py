"""Every task's step on tensors of a GPU that is not there: no device is mixed, and what waits for the GPU is counted.

PyTorch's FakeTensors know their device and refuse ops that mix two. They hold no numbers: what reads one (`item`,
`tolist`, `if tensor`) gets 1 here, and is counted, and backward gives gradients without computing them.
"""

import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.optim import Optimizer
from training_toy import TrainingToy, shared_toy

from arguments.loader import load_options
from arguments.loop_options import EncoderTrainConfig, GeneratorTrainConfig, PredictorTrainConfig
from datasets.labels import write_labels
from models.stylegan2.ops import backend
from runners.training_runner import TrainingRunner
from training.distributed import Process
from training.loop import Plan, Task, TrainingLoop
from training.tasks.encoder import EncoderTask
from training.tasks.generator import GeneratorTask
from training.tasks.predictor import PredictorTask

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("training", "models", "criteria", "editings", "torch")  # whose objects hold tensors
CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


READ = {"tolist in training/loop.py: numbers = dict(zip(values, mean.tolist(), strict=True))": 1}


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> TrainingToy:
    toy = shared_toy(tmp_path_factory.getbasetemp())
    rows = [(f"{i}.png", {"tint": "ab"[i % 2], "shape": None if i < 2 else "xyz"[i % 3]}) for i in range(8)]
    write_labels(toy.pictures, rows)
    return toy


@dataclass
class Counts:
    """What happened on the fake GPU."""

    reads: Counter[str] = field(default_factory=Counter)  # each waits for the GPU
    copies: Counter[str] = field(default_factory=Counter)  # from the CPU; of memory that is not pinned, it waits too


class Transfer:
    """Turns a task that was built on the CPU into one of the fake GPU: all tensors and devices that it refers to."""

    def __init__(self, mode: FakeTensorMode) -> None:
        self.mode = mode
        self.parameters: list[nn.Parameter] = []
        self._done: dict[int, tuple[Any, Any]] = {}  # by id; the first keeps the id from being used again

    def __call__(self, value: Any) -> Any:
        if id(value) not in self._done:
            self._done[id(value)] = value, value  # of a ring, the object itself
            self._done[id(value)] = value, self._moved(value)
        return self._done[id(value)][1]

    def _moved(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            with self.mode:
                fake = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=GPU)
            if not isinstance(value, nn.Parameter):
                return fake
            self.parameters.append(nn.Parameter(fake, requires_grad=value.requires_grad))
            return self.parameters[-1]
        if isinstance(value, torch.device):
            return GPU if value == CPU else value
        if isinstance(value, dict):
            value.update({key: self(item) for key, item in value.items()})
        elif isinstance(value, list):
            value[:] = map(self, value)
        elif isinstance(value, Process):
            return Process(GPU, value.rank, value.ranks)
        elif isinstance(value, Optimizer):
            self(value.param_groups)
        elif type(value).__module__.split(".")[0] in ROOMS and hasattr(value, "__dict__"):
            self(vars(value))
        return value


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Transfer, Counts]]:
    """The fake GPU: what moves a task there, and what is counted."""
    monkeypatch.setenv("SFE_OPS", "native")
    backend.forget()
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)  # autocast does not look
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    mode, counts = FakeTensorMode(allow_non_fake_inputs=True), Counts()
    transfer = Transfer(mode)

    def read(name: str, value: Callable[[Tensor], Any]) -> None:
        def method(self: Tensor) -> Any:
            if self.device == GPU:
                counts.reads[f"{name} in {place()}"] += 1
            return value(self)

        monkeypatch.setattr(FakeTensor, name, method, raising=False)

    for name in ("item", "__float__", "__int__", "__bool__"):
        read(name, lambda tensor: 1)
    read("tolist", lambda tensor: [1.0] * len(tensor))

    to = Tensor.to
    pinned: set[int] = set()

    def pin_memory(self: Tensor) -> Tensor:
        pinned.add(id(self))
        return self

    def moved(self: Tensor, *args: Any, **options: Any) -> Tensor:
        result = to(self, *args, **options)
        if result.device == GPU and self.device == CPU:
            free = id(self) in pinned and options.get("non_blocking")
            counts.copies["pinned" if free else place()] += 1
        return result

    def gradients(self: Tensor) -> None:
        for parameter in transfer.parameters:
            if parameter.requires_grad:
                parameter.grad = torch.zeros_like(parameter)

    monkeypatch.setattr(Tensor, "pin_memory", pin_memory)
    monkeypatch.setattr(Tensor, "to", moved)
    monkeypatch.setattr(Tensor, "backward", gradients)
    monkeypatch.setattr(torch.autograd, "grad", lambda output, x, **_: (torch.zeros_like(x) + 0 * output,))
    yield transfer, counts
    backend.forget()


def place() -> str:
    """The line of ours that is being run."""
    frames = [frame for frame in traceback.extract_stack() if Path(frame.filename).is_relative_to(ROOT)]
    frame = [frame for frame in frames if not frame.filename.startswith((__file__, str(ROOT / ".venv")))][-1]
    return f"{Path(frame.filename).relative_to(ROOT)}: {frame.line}"


def step(task: Task, number: int, gpu: tuple[Transfer, Counts]) -> Counts:
    """One step on the fake GPU."""
    transfer, counts = gpu
    transfer(task)
    loop = TrainingLoop(task, Plan(100, 1, 1, 1, clip_grad_norm=0.5), Process(GPU), Path())
    with transfer.mode:
        loop.step(number)
        counts.reads.clear(), counts.copies.clear()
        loop.step(number)  # the first one begins the optimizers' states
    return counts


def network_task(toy: TrainingToy, kind: type, schema: type, *more: str) -> Task:
    options = [f"exp.domain={toy.files.path}", f"data.train_dir={toy.pictures}", "train.device=cpu", *more]
    return kind(load_options(schema, options), toy.domain, Process(CPU))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("kind", "schema", "more"),
    [
        (GeneratorTask, GeneratorTrainConfig, ["train.r1_every=2", "train.path_length_every=2"]),
        (EncoderTask, EncoderTrainConfig, ["train.predictor=0"]),
        (PredictorTask, PredictorTrainConfig, []),
    ],
    ids=["generator", "encoder", "predictor"],
)
def test_a_step_waits_once(
    toy: TrainingToy, gpu: Any, kind: type, schema: type, more: list[str], precision: str
) -> None:
    task = network_task(toy, kind, schema, *more, f"train.precision={precision}")
    counts = step(task, 2, gpu)
    assert counts.reads == READ
    assert counts.copies == {"pinned": 2 if kind is PredictorTask else 1}  # the labels, too


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("stage", [1, 2])
def test_a_step_of_a_stage_waits_once(toy: TrainingToy, gpu: Any, stage: int, precision: str) -> None:
    """With the discriminator, R1 and a moving average."""
    options = [
        "train.train_dis=True", "train.dis_train_start_step=1", "train.ema=0.9", f"train.precision={precision}",
    ]  # fmt: skip
    runner = TrainingRunner(toy.config(stage, "fake", *options), toy.domain)
    runner.setup()
    counts = step(runner.task, 16, gpu)
    assert counts.reads == READ
    assert counts.copies == {"pinned": 1}
