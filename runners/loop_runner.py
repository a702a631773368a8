"""Training of one network of a domain: init → build → resume → loop."""

import logging
import math
import random
import time
from abc import ABC, abstractmethod
from pathlib import Path
from statistics import fmean
from typing import ClassVar

import numpy as np
import torch
from omegaconf import OmegaConf
from PIL import Image
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from arguments.domain import load_domain
from arguments.loop_options import LoopConfig
from datasets.training_images import Batch, TrainingImages
from training.loggers import Console, JsonLines, PictureFiles, Sink
from training.state import CheckpointFolder, TrainState, load_newest
from utils.devices import resolve_device
from utils.errors import UserError
from utils.stopping import sigterm_asks

logger = logging.getLogger(__name__)


class LoopRunner(ABC):
    """One run; it goes on from the newest checkpoint in its folder, and can be killed at any time.

    The folder gets, at each checkpoint: `iteration_{step}.pt` with every state, the newest few of which are kept; the
    network in the layout that a domain's `weights` want, and pictures, as the kind of run has them; `stats.jsonl` and
    `curves.png`.
    """

    name: ClassVar[str]  # of what is trained

    def __init__(self, config: LoopConfig) -> None:
        """Raises UserError if the domain, the pictures or the folder's checkpoints are not as wanted."""
        self.config, self.train = config, config.train
        if not config.exp.name:
            raise UserError("exp.name is empty; wanted the name of the folder for checkpoints and samples")
        self.domain = load_domain(config.exp.domain)
        self.device = resolve_device(self.train.device)
        data, seed = config.data, config.exp.seed
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        size, mirror = self.domain.generator.size, self.domain.mirror
        self.pictures = TrainingImages(data.train_dir, size, seed, data.workers, mirror=mirror)
        self.folder = Path(config.exp.exp_dir) / config.exp.name
        self.checkpoints = CheckpointFolder(self.folder, self.train.keep_checkpoints)
        self.state = self.build()
        self.losses: list[dict[str, float]] = []  # of the steps since the last line in the log
        self.sinks: list[Sink] = []

    @abstractmethod
    def build(self) -> TrainState:
        """Make what is trained; all that changes is in the state."""

    @abstractmethod
    def learn(self, step: int, batch: Batch) -> dict[str, float]:
        """One step. Returns the losses by name."""

    @abstractmethod
    def export(self) -> Image.Image | None:
        """Write the network in the layout that the domain reads. Returns a picture of what it can do."""

    def run(self) -> Path:
        """Train up to train.steps, or until SIGTERM asks to stop. Returns the folder."""
        self._resume()
        self.sinks = [
            Console(self.state.step + 1, self.train.steps), JsonLines(self.folder, self.state.step),
            PictureFiles(self.folder),
        ]  # fmt: skip
        steps = range(self.state.step + 1, self.train.steps + 1)
        saved = time.monotonic()
        with sigterm_asks() as stop, logging_redirect_tqdm():
            for step in tqdm(steps, self.name, unit="step", disable=None):
                self._step(step)
                due = time.monotonic() - saved >= 60 * self.train.checkpoint_minutes
                if due or stop() or step == self.train.steps:
                    self._save()
                    saved = time.monotonic()
                if stop():
                    logger.info("stopped by SIGTERM after step %d; the same command goes on from there", step)
                    break
        return self.folder

    def _resume(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(OmegaConf.structured(self.config), self.folder / "config.yaml")
        self.checkpoints.remove_leftovers()
        files = self.checkpoints.files()
        path = load_newest(self.state, files)
        if path is not None:
            logger.info("going on from %s, after step %d", path, self.state.step)
        elif files:
            raise UserError(f"none of the checkpoints in {self.folder} can be read; move them away to start anew")

    def _step(self, step: int) -> None:
        losses = self.learn(step, self.pictures.next_batch(self.train.batch_size))
        if not all(map(math.isfinite, losses.values())):
            raise UserError(f"step {step}: the losses are {losses}; {self.folder} holds the last good checkpoints")
        self.losses.append(losses)
        self.state.step = step
        if step % self.train.log_step == 0:
            names = dict.fromkeys(name for losses in self.losses for name in losses)
            means = {name: fmean(losses[name] for losses in self.losses if name in losses) for name in names}
            for sink in self.sinks:
                sink.numbers(step, {"images": step * self.train.batch_size, **means})
            self.losses.clear()

    def _save(self) -> None:
        """Checkpoint, network, pictures and curves."""
        with torch.inference_mode():
            picture = self.export()
        path = self.checkpoints.save(self.state)
        for sink in self.sinks:
            if picture is not None:
                sink.pictures(self.state.step, "samples", [], picture)
            sink.flush()
        logger.info("wrote %s", path)
