"""The one training loop: build → resume → step → log → validate → save."""

import json
import logging
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor
from torch.optim import Optimizer
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from training import distributed
from training.distributed import Process
from training.loggers import Sheet, Sink
from training.precision import Precision
from training.state import CheckpointFolder, TrainState, load_newest
from utils.errors import UserError
from utils.files import atomic_path, remove_temporaries
from utils.processes import gather
from utils.seeds import derive_seed, seed_everything
from utils.stopping import sigterm_asks

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Validation:
    """Results of a validation, the same in all processes; `sheets` are those of the first."""

    values: Mapping[str, float] = field(default_factory=dict)
    best: bool = False  # so far
    sheets: Sequence[Sheet] = ()


class Task(ABC):
    """What a run trains. The constructor builds everything; the loop decides when to do what.

    Networks and optimizers are those of `state`, and a task may have any number of them. All processes hold the same
    weights; the loop averages their gradients. Global random generators may be used freely in a step: the loop has
    seeded them by (seed, rank, step). What must be equal in all processes is drawn from `derive_seed(seed, step)`.
    """

    name: str  # for the progress bar
    state: TrainState
    precision: Precision
    batch_names: list[str]  # the files of this step's batch, for errors

    @abstractmethod
    def gradients(self, step: int) -> Mapping[str, Tensor]:
        """Draw a batch of any size and accumulate the gradients of this step by `precision.backward`.

        Returns the losses by name, numbers on the device. All optimizers see the same weights: the loop updates
        them afterwards, if everything is finite. An optimizer whose parameters have no gradient does nothing.
        """

    def updated(self, step: int) -> None:  # noqa: B027
        """Called after the optimizers' step, for moving averages."""

    def logged(self, losses: Mapping[str, float]) -> dict[str, float]:
        """A line of the log, from the means of the losses since the last."""
        return dict(losses)

    def validate(self, step: int) -> Validation:
        """Measure what has been learned. Runs in all processes, in inference mode."""
        return Validation()

    def export(self, folder: Path) -> Sheet | None:
        """Write the networks in the formats of inference, with each checkpoint. Returns samples.

        Runs in the first process, in inference mode.
        """
        return None

    def finish(self, folder: Path, checkpoint: Path) -> None:  # noqa: B027
        """Called after the last step has been saved. Runs in the first process."""


@dataclass(frozen=True)
class Plan:
    """When the loop does what."""

    steps: int  # the last step, counted from 1; it is always saved
    log_step: int  # a line in the log every N steps
    keep_checkpoints: int  # the newest N, and the best
    seed: int
    checkpoint_step: int = 0  # a checkpoint every N steps; 0: not by steps
    checkpoint_minutes: float = math.inf
    val_step: int = 0  # validation every N steps; 0: never
    clip_grad_norm: float = 0.0  # the largest norm of an optimizer's gradient, which is scaled down to it; 0: any


class TrainingLoop:
    """Runs a task, in one process or several. It can be killed at any time, and resumes from its last checkpoint."""

    def __init__(self, task: Task, plan: Plan, process: Process, folder: Path) -> None:
        self.task, self.plan, self.process, self.folder = task, plan, process, folder
        self.state = task.state
        self.checkpoints = CheckpointFolder(folder, plan.keep_checkpoints)
        self.sinks: Sequence[Sink] = ()
        self._losses: list[dict[str, float]] = []  # of the steps since the last line in the log
        self._saved = time.monotonic()

    def resume(self, candidates: Sequence[Path]) -> None:
        """Resume from the last of the checkpoints that can be read, if there are any. The first process decides.

        Raises UserError if none of them can be read.
        """
        if self.process.first:
            remove_temporaries(self.folder)
        candidates = gather(list(candidates))[0]
        path = load_newest(self.state, candidates)
        if path is not None:
            logger.info("resuming from %s, after step %d", path, self.state.step)
        elif candidates:
            raise UserError(f"none of the checkpoints in {candidates[-1].parent} can be read; move them away")
        for network in self.state.networks.values():
            distributed.copy_from_first(network.state_dict().values())

    def run(self, sinks: Sequence[Sink]) -> None:
        """Train up to the last step, or until SIGTERM asks to stop. `sinks` are those of the first process."""
        self.sinks = sinks
        try:
            with sigterm_asks() as asked, self._steps() as steps:
                for step in steps:
                    self.step(step)
                    self._log(step)
                    best = self._validate(step)
                    signals = gather((asked(), self._late()))
                    stop = any(asked for asked, _ in signals)
                    if best or stop or self._due(step) or signals[0][1]:
                        self._save()
                    if stop:
                        logger.info("stopped by SIGTERM after step %d; train again to resume there", step)
                        break
        finally:
            for sink in sinks:
                sink.close()
        if self.state.step == self.plan.steps and self.process.first:
            self.task.finish(self.folder, self.checkpoints.path(self.state.step))

    @contextmanager
    def _steps(self) -> Iterator[Iterator[int]]:
        """The steps to do, with a progress bar in terminals."""
        steps = range(self.state.step + 1, self.plan.steps + 1)
        hidden = None if self.process.first else True
        with logging_redirect_tqdm(), tqdm(steps, self.task.name, unit="step", disable=hidden) as bar:
            yield iter(bar)

    # ---- step ----

    def step(self, step: int) -> None:
        """One step. Raises UserError before any weight has changed if a loss or a gradient is not finite."""
        seed_everything(derive_seed(self.plan.seed, self.process.rank, step))
        self._losses.append(self.update(step, self.task.gradients(step)))
        self.state.step = step

    def update(self, step: int, losses: Mapping[str, Tensor]) -> dict[str, float]:
        """The optimizers' part of a step. Returns the losses, and the norm of each optimizer's gradient."""
        gradients = {name: _gradients(optimizer) for name, optimizer in self.state.optimizers.items()}
        gradients = {name: tensors for name, tensors in gradients.items() if tensors}
        scaler = self.task.precision.scaler
        for name, tensors in gradients.items():
            distributed.average(tensors)
            scaler.unscale_(self.state.optimizers[name])
        norms = {f"{name.removesuffix('_opt')}_grad_norm": _norm(tensors) for name, tensors in gradients.items()}
        values = self._read({**losses, **norms}, len(losses), step)
        for (name, tensors), norm in zip(gradients.items(), norms, strict=True):
            optimizer, limit = self.state.optimizers[name], self.plan.clip_grad_norm
            if math.isfinite(values[norm]):  # otherwise float16 overflowed: the scale falls, and the step is skipped
                if 0 < limit < values[norm]:
                    torch._foreach_mul_(tensors, limit / values[norm])
                optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        scaler.update()
        self.task.updated(step)
        return values

    def _read(self, values: Mapping[str, Tensor], losses: int, step: int) -> dict[str, float]:
        """The values on the CPU, averaged over the processes: the only point of a step that waits for a GPU.

        The first `losses` of them must be finite, and all of them unless a gradient scaler handles the others.
        """
        mean = torch.stack([value.detach().float() for value in values.values()])
        local = mean.clone() if self.process.ranks > 1 else mean
        distributed.average([mean])
        numbers = dict(zip(values, mean.tolist(), strict=True))
        watched = list(numbers.values())[: losses if self.task.precision.scaler.is_enabled() else None]
        if not all(map(math.isfinite, watched)):
            self._diverge(step, dict(zip(values, local.tolist(), strict=True)), losses)
        return numbers

    def _diverge(self, step: int, local: dict[str, float], losses: int) -> None:
        """Raise the same error in all processes, with the values and files of the one whose losses are not finite."""
        finite = all(map(math.isfinite, list(local.values())[:losses]))
        what = "the gradient" if finite else "a loss"
        shown = ", ".join(f"{name} {value:.4g}" for name, value in local.items())
        text = f"step {step}: {what} is not finite ({shown}) on {', '.join(self.task.batch_names)}"
        texts = gather((finite, text))
        good = self.checkpoints.files()[-1:]
        last = f"the last good checkpoint is {good[0]}" if good else "there is no checkpoint yet"
        raise UserError(f"{min(texts)[1]}; {last}")

    # ---- log, validate, save ----

    def _log(self, step: int) -> None:
        if step % self.plan.log_step == 0:
            names = dict.fromkeys(name for losses in self._losses for name in losses)
            means = {name: fmean(losses[name] for losses in self._losses if name in losses) for name in names}
            self._losses.clear()
            self._numbers(step, self.task.logged(means))

    def _numbers(self, step: int, values: dict[str, float]) -> None:
        for sink in self.sinks:
            sink.numbers(step, values)

    def _validate(self, step: int) -> bool:
        """Whether this is the best validation so far."""
        if not self.plan.val_step or step % self.plan.val_step:
            return False
        with torch.inference_mode():
            results = self.task.validate(step)
        if self.process.first and results.values:
            self._numbers(step, {f"val/{name}": value for name, value in results.values.items()})
            with atomic_path(self.folder / "metrics" / f"iteration_{step}.json") as temporary:
                temporary.write_text(json.dumps(dict(results.values), indent=1) + "\n")
        for sink in self.sinks:
            for sheet in results.sheets:
                sink.images(step, sheet)
        return results.best

    def _due(self, step: int) -> bool:
        every = self.plan.checkpoint_step
        return step == self.plan.steps or (every > 0 and step % every == 0)

    def _late(self) -> bool:
        return time.monotonic() - self._saved >= 60 * self.plan.checkpoint_minutes

    def _save(self) -> None:
        """Write networks, checkpoint, images and curves; the other processes wait for the first."""
        if self.process.first:
            with torch.inference_mode():
                sheet = self.task.export(self.folder)
            path = self.checkpoints.save(self.state)
            for sink in self.sinks:
                if sheet is not None:
                    sink.images(self.state.step, sheet)
                sink.flush()
            logger.info("wrote %s", path)
        gather(None)
        self._saved = time.monotonic()


def _gradients(optimizer: Optimizer) -> list[Tensor]:
    parameters = (parameter for group in optimizer.param_groups for parameter in group["params"])
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def _norm(tensors: list[Tensor]) -> Tensor:
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(tensors)))
