"""Checkpoints: everything that a run needs to continue as if it had never stopped, in one file."""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

from models.weights import read, read_tensors, save
from utils.errors import UserError
from utils.files import atomic_path, numbered_files

logger = logging.getLogger(__name__)

OPTIONS_FILE = "save_options.json"


class Stateful(Protocol):
    """An object with a state besides networks and optimizers: the stream of images, the gradient scaler, …"""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Any) -> Any: ...


@dataclass
class TrainState:
    """Every object that changes during training, by name.

    Its file has the published full layout: `state_dict` with a prefix per network, the optimizers by their names
    (`encoder_opt`, `disc_opt`) and `latent_avg` beside it. The rest is under `training`. The frozen
    decoder and e4e are not in it: they would add 1.2 GB to each file, and are never changed. Random generators have no
    state: every step seeds them.
    """

    networks: Mapping[str, nn.Module]  # prefix -> network
    optimizers: Mapping[str, Optimizer]
    others: Mapping[str, Stateful]
    latent_avg: Tensor | None = None
    optional: Mapping[str, str] = field(default_factory=dict)  # may be missing -> whose tensors it takes then, or ""
    step: int = 0  # the last step that was made
    best: dict[str, float] = field(default_factory=dict)  # step and value of the best validation
    wandb_id: str = ""

    def state_dict(self) -> dict[str, Any]:
        networks = self.networks.items()
        tensors = {f"{prefix}.{key}": value for prefix, net in networks for key, value in net.state_dict().items()}
        return {
            "state_dict": tensors,
            **{name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "latent_avg": self.latent_avg,
            "training": {
                "step": self.step,
                "best": self.best,
                "wandb_id": self.wandb_id,
                **{name: other.state_dict() for name, other in self.others.items()},
            },
        }

    def load_state_dict(self, content: Mapping[str, Any], source: Path) -> None:
        """Raises UserError if the file is not one of this kind of training and domain."""
        tensors = content.get("state_dict") or {}
        try:
            for name, network in self.networks.items():
                part = _under(tensors, name) or _under(tensors, self.optional.get(name, ""))
                if part or name not in self.optional:
                    network.load_state_dict(part)
            for name, optimizer in self.optimizers.items():
                if name in content:  # the options are the configuration's, which may have changed
                    groups = optimizer.state_dict()["param_groups"]
                    optimizer.load_state_dict({"state": content[name]["state"], "param_groups": groups})
        except (RuntimeError, ValueError, KeyError, AttributeError, TypeError) as error:
            reason = " ".join(str(error).split())[:300]
            raise UserError(f"{source} is not a checkpoint of this stage and domain: {reason}") from None
        progress = content.get("training")
        if progress is None:
            logger.warning("%s has no step and data position: they start from the configuration", source)
            return
        self.step, self.best, self.wandb_id = progress["step"], progress["best"], progress["wandb_id"]
        for name, other in self.others.items():
            if name in progress:
                other.load_state_dict(progress[name])

    def improves(self, value: float, higher_is_better: bool) -> bool:
        """Whether the current step's validation is the best so far, which is noted. NaN never is."""
        sign = 1 if higher_is_better else -1
        if math.isnan(value) or (self.best and sign * value <= sign * self.best["value"]):
            return False
        self.best = {"step": self.step, "value": value}
        return True


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(f"{prefix}."): v for k, v in tensors.items() if k.startswith(f"{prefix}.")}


def adopt(networks: Mapping[str, nn.Module], checkpoints: Sequence[Path]) -> int:
    """Take over the tensors that fit by name and shape; of several checkpoints, the first that has one.

    So a generator can continue at twice the resolution, or learn another domain. Returns their number. Raises
    UserError if a checkpoint has none.
    """
    loaded: set[str] = set()
    for path in checkpoints:
        tensors = read_tensors(path, "state_dict")
        before = len(loaded)
        for prefix, network in networks.items():
            shapes = {f"{prefix}.{key}": value.shape for key, value in network.state_dict().items()}
            fitting = [key for key, shape in shapes.items() if key in tensors and tensors[key].shape == shape]
            fitting = [key for key in fitting if key not in loaded]
            network.load_state_dict({key.removeprefix(f"{prefix}."): tensors[key] for key in fitting}, strict=False)
            loaded |= set(fitting)
        if len(loaded) == before:
            raise UserError(f"{path} has no tensor that fits; wanted a checkpoint of the same kind of training")
    return len(loaded)


class CheckpointFolder:
    """`iteration_{step}.pt` in an experiment's folder: the newest few, and the best."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self.keep = folder, keep

    def save(self, state: TrainState) -> Path:
        """Write a checkpoint, whole or not at all, and then remove those that are not needed any more."""
        path = self.path(state.step)
        save(state.state_dict(), path)
        options = {"start_step": state.step + 1, "wandb_id": state.wandb_id}
        with atomic_path(self.folder / OPTIONS_FILE) as temporary:
            temporary.write_text(json.dumps(options))
        for old in self.files()[: -self.keep]:
            if old != self.path(int(state.best.get("step", -1))):
                old.unlink()
        return path

    def path(self, step: int) -> Path:
        return self.folder / f"iteration_{step}.pt"

    def files(self) -> list[Path]:
        """All checkpoints, the newest last."""
        return [path for _, path in numbered_files(self.folder, "iteration_", ".pt")]


def load_newest(state: TrainState, files: Sequence[Path]) -> Path | None:
    """Load the last of `files` that can be read. Returns it."""
    for path in reversed(files):
        try:
            content = read(path)
        except UserError as error:
            logger.warning("%s; trying the one before", error)
            continue
        state.load_state_dict(content, path)
        return path
    return None
