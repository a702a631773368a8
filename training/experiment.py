"""The folder of a run: exp_dir/{name}_{000…}."""

import json
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from omegaconf import OmegaConf

from arguments.train_options import TrainConfig
from training.preflight import experiments_dir
from training.state import OPTIONS_FILE, CheckpointFolder
from utils.errors import UserError


@dataclass(frozen=True)
class Experiment:
    """Where a run writes, and the checkpoints that it may resume, the preferred one last."""

    folder: Path
    candidates: list[Path]


def choose(config: TrainConfig) -> Experiment:
    """A new folder, or that of the run that train.resume or train.resume_path continues. Writes nothing.

    A checkpoint of train.resume_path that is not the newest of its folder starts a new one: it must not overwrite
    later checkpoints.
    """
    name = re.escape(config.exp.name)
    runs = [d for d in experiments_dir(config).glob("*") if re.fullmatch(rf"{name}_\d{{3,}}", d.name) and d.is_dir()]
    runs.sort(key=_number)
    new = experiments_dir(config) / f"{config.exp.name}_{_number(runs[-1]) + 1 if runs else 0:03d}"
    if config.train.resume_path:
        path = _checkpoint(Path(config.train.resume_path))
        newest = CheckpointFolder(path.parent, 1).files()[-1:] == [path]
        here = any(folder.resolve() == path.parent.resolve() for folder in runs)
        return Experiment(path.parent if newest and here else new, [path])
    if config.train.resume and runs:
        return Experiment(runs[-1], CheckpointFolder(runs[-1], 1).files())
    return Experiment(new, [])


def prepare(folder: Path, config: TrainConfig) -> None:
    """Make the folder and record the configuration in it."""
    for part in ("metrics", "inference_results"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    OmegaConf.save(OmegaConf.structured(config), folder / "config.yaml")
    (folder / "run_command.sh").write_text(shlex.join([sys.executable, *sys.argv]) + "\n")


def _number(folder: Path) -> int:
    return int(folder.name.rpartition("_")[2])


def _checkpoint(path: Path) -> Path:
    """The checkpoint that a path names; for save_options.json, the one that was written before it."""
    if path.suffix != ".json":
        return path
    try:
        step = json.loads(path.read_text())["start_step"] - 1
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"train.resume_path: {path} is not a {OPTIONS_FILE} ({error!r})") from None
    return CheckpointFolder(path.parent, 1).path(step)
