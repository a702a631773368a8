"""Training of a domain's generator: init → build → resume → loop."""

import logging
import math
import random
import time
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from omegaconf import OmegaConf
from torchvision.utils import make_grid
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from arguments.domain import load_domain
from arguments.generator_options import GeneratorTrainConfig
from datasets.training import TrainingPictures
from models.checkpoints import save
from training.checkpoints import CheckpointFolder, TrainState, load_newest
from training.generator import GeneratorTrainer
from training.loggers import Console, JsonLines, PictureFiles
from utils.devices import resolve_device
from utils.errors import UserError
from utils.images import to_image
from utils.stopping import sigterm_asks

logger = logging.getLogger(__name__)

SAMPLES = 64  # pictures of the same z at every checkpoint


class GeneratorRunner:
    """One run; it goes on from the newest checkpoint in its folder, and can be killed at any time.

    The folder gets, at each checkpoint: `iteration_{step}.pt` with every state, the newest few of which are kept;
    `generators/step_{step}.pt`, the averaged generator in the layout that a domain's weights.generator wants, all of
    which are kept, so that the best can be found afterwards; `samples/`, `stats.jsonl` and `curves.png`.
    """

    def __init__(self, config: GeneratorTrainConfig) -> None:
        """Raises UserError if the domain, the pictures or the folder's checkpoints are not as wanted."""
        self.config, self.train = config, config.train
        if not config.exp.name:
            raise UserError("exp.name is empty; wanted the name of the folder for checkpoints and samples")
        domain = load_domain(config.exp.domain)
        generator, data, seed = domain.generator, config.data, config.exp.seed
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        self.pictures = TrainingPictures(data.train_dir, generator.size, seed, data.workers, mirror=domain.mirror)
        self.trainer = GeneratorTrainer(generator, self.train, resolve_device(self.train.device))
        self.sample_z = torch.randn(SAMPLES, generator.style_dim, generator=torch.Generator().manual_seed(seed))
        self.folder = Path(config.exp.exp_dir) / config.exp.name
        self.checkpoints = CheckpointFolder(self.folder, self.train.keep_checkpoints)
        trainer = self.trainer
        self.state = TrainState(
            {"generator": trainer.generator, "g_ema": trainer.average, "discriminator": trainer.discriminator},
            {"generator_opt": trainer.generator_opt, "disc_opt": trainer.disc_opt},
            {"pictures": self.pictures, "path_length": trainer.path_length},
            trainer.latent_avg(),
        )
        self.losses: list[dict[str, float]] = []  # of the steps since the last line in the log

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
            for step in tqdm(steps, "generator", unit="step", disable=None):
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
        losses = self.trainer.step(step, self.pictures.next_batch(self.train.batch_size).images)
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

    @torch.inference_mode()
    def _save(self) -> None:
        """Checkpoint, generator, samples and curves."""
        average, self.state.latent_avg = self.trainer.average, self.trainer.latent_avg()
        path = self.checkpoints.save(self.state)
        generator = {"g_ema": average.state_dict(), "latent_avg": self.state.latent_avg}
        save(generator, self.folder / "generators" / f"step_{self.state.step:07d}.pt")
        w = average.mapping(self.sample_z.to(self.trainer.device))[:, None]
        pictures = average(average.affine(w.expand(-1, average.config.n_styles, -1)))
        grid = to_image(make_grid(pictures.clamp(-1, 1), nrow=8, padding=0).cpu())
        for sink in self.sinks:
            sink.pictures(self.state.step, "samples", [], grid)
            sink.flush()
        logger.info("wrote %s", path)
