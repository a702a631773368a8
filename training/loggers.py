"""Logs of a run's numbers and images: console, files in the experiment's folder, Weights & Biases."""

import json
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from PIL import Image

from arguments.train_options import TrainConfig
from configs.paths import ROOT
from training.plots import plot_curves
from utils.errors import UserError
from utils.files import atomic_path
from utils.images import save_image

logger = logging.getLogger(__name__)

SOURCE_ROOMS = (
    "arguments", "configs", "criteria", "datasets", "editings", "metrics", "models", "runners", "scripts", "training",
    "utils",
)  # fmt: skip


@dataclass(frozen=True)
class Sheet:
    """Images for the log."""

    name: str
    grid: Image.Image  # all images as one
    images: Mapping[str, Image.Image] = field(default_factory=dict)  # caption -> image, of some of them


class Sink:
    """A destination of a run's logs."""

    def numbers(self, step: int, values: dict[str, float]) -> None:
        """Values by names such as train/l2."""

    def images(self, step: int, sheet: Sheet) -> None:
        """A sheet of images."""

    def flush(self) -> None:
        """A checkpoint was written."""

    def close(self) -> None:
        """The run ends."""


class Console(Sink):
    """One line for each step that is logged, with the time left."""

    def __init__(self, first_step: int, last_step: int) -> None:
        self._last_step = last_step
        self._since = first_step - 1, time.monotonic()

    def numbers(self, step: int, values: dict[str, float]) -> None:
        first, start = self._since
        left = (time.monotonic() - start) / max(step - first, 1) * (self._last_step - step)
        shown = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        logger.info("step %d of %d, %s left:  %s", step, self._last_step, timedelta(seconds=round(left)), shown)


class JsonLines(Sink):
    """`stats.jsonl`: one object for each logged step; and `curves.png`, drawn from it."""

    def __init__(self, folder: Path, last_step: int) -> None:
        """`last_step`: the last one done; rows that an interrupted run wrote after it are removed."""
        self.path = folder / "stats.jsonl"
        self.curves = folder / "curves.png"
        rows = [row for row in read_stats(self.path) if row["step"] <= last_step]
        with atomic_path(self.path) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def numbers(self, step: int, values: dict[str, float]) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps({"step": step, "time": round(time.time(), 3), **values}) + "\n")

    def flush(self) -> None:
        plot_curves(read_stats(self.path), self.curves)


class ImageFiles(Sink):
    """`{name}/step_{step}.png`: the grid."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def images(self, step: int, sheet: Sheet) -> None:
        save_image(sheet.grid, self.folder / sheet.name / f"step_{step:07d}.png")


class WeightsAndBiases(Sink):
    """Configuration, source, numbers and images on https://wandb.ai, or in the folder for `wandb sync` later."""

    def __init__(self, config: TrainConfig, folder: Path, run_id: str) -> None:
        """`run_id`: that of the resumed run, or ""."""
        import wandb

        key = os.environ.get("WANDB_KEY") or os.environ.get("WANDB_API_KEY")
        mode: Any = os.environ.get("WANDB_MODE") or ("online" if key else "offline")
        if mode == "offline":
            logger.info("Weights & Biases: offline, as WANDB_KEY is not set; `wandb sync` sends %s/wandb", folder)
        try:
            if key and mode == "online":
                wandb.login(key=key)
            self.run = wandb.init(
                project=config.exp.wandb_project, name=folder.name, id=run_id or None, dir=folder, mode=mode,
                resume="allow" if mode == "online" else None, config=asdict(config),
            )  # fmt: skip
        except wandb.Error as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"Weights & Biases: {reason}; check WANDB_KEY, or give exp.wandb=False") from None
        self.run.define_metric("step")
        self.run.define_metric("*", step_metric="step")
        self.run.log_code(str(ROOT), include_fn=_is_source)

    def numbers(self, step: int, values: dict[str, float]) -> None:
        self.run.log({"step": step, **values})

    def images(self, step: int, sheet: Sheet) -> None:
        import wandb

        images = [wandb.Image(image, caption=caption) for caption, image in sheet.images.items()]
        self.run.log({"step": step, sheet.name: images or [wandb.Image(sheet.grid)]})

    def close(self) -> None:
        self.run.finish()


def _is_source(path: str, root: str = str(ROOT)) -> bool:
    parts = Path(path).relative_to(root).parts
    return parts[0] in SOURCE_ROOMS and parts[-1].endswith((".py", ".yaml", ".cpp", ".cu", ".h"))


def read_stats(path: Path) -> list[dict[str, float]]:
    """The rows of a `stats.jsonl`; a last line that was cut off when the process was killed is left out."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows
