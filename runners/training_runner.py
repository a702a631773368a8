"""Training of both stages: init → build → resume → loop."""

import json
import logging
import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.optim import Optimizer
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from arguments.domain import DomainConfig
from arguments.train_options import TrainConfig
from configs.paths import weight_file
from datasets.images import ImageFolder, transform_size
from datasets.training_images import TrainingImages
from metrics.metric_set import MetricSet
from models.weights import export_light
from training import distributed, experiment
from training.loggers import Console, JsonLines, PictureFiles, Shot, Sink, WeightsAndBiases
from training.losses import LossBuilder
from training.optimizers import set_cosine_lr
from training.parts import LIGHT_NAMES, build_discriminator, build_optimizer, build_stage
from training.state import CheckpointFolder, Stateful, TrainState, load_newest
from training.trainer import DivergedError, Trainer
from utils.devices import resolve_device
from utils.drawing import picture_grid
from utils.errors import UserError
from utils.files import atomic_path
from utils.images import to_image
from utils.parallel import ahead, batches
from utils.processes import own_device, rank_and_size
from utils.stopping import sigterm_asks

logger = logging.getLogger(__name__)


class TrainingRunner:
    """One run of one stage.

    Under torchrun all processes make the same random draws, and only their pictures differ; the first one writes.
    """

    def __init__(self, config: TrainConfig, domain: DomainConfig) -> None:
        """`config` has passed `training.preflight.check`, which gave `domain`."""
        self.config, self.train, self.domain = config, config.train, domain
        self.sinks: list[Sink] = []
        self.losses: list[dict[str, float]] = []  # of the steps since the last line in the log

    def run(self) -> Path:
        """Train up to the last step, or until SIGTERM asks to stop. Returns the experiment's folder."""
        self._setup_device()
        self._setup_datasets()
        self._setup_method()
        self._setup_experiment_dir()
        self._resume()
        self._setup_loggers()
        try:
            with sigterm_asks() as asked, self._steps() as steps:
                for step in steps:
                    self.train_step(step)
                    self.save_train_logs(step)
                    best = step % self.train.val_step == 0 and self.validate(step)
                    stop = distributed.any_process(asked(), self.device)
                    if best or stop or step % self.train.checkpoint_step == 0 or step == self.train.steps:
                        self.save_checkpoint()
                    if stop:
                        logger.info("stopped by SIGTERM after step %d; train.resume=auto goes on from there", step)
                        break
        finally:
            for sink in self.sinks:
                sink.close()
        if self.state.step == self.train.steps and self.first:
            self._export()
        distributed.leave()
        return self.folder

    # ---- init and build ----

    def _setup_device(self) -> None:
        self.rank, self.ranks = rank_and_size()
        self.first = self.rank == 0
        self.device = resolve_device(own_device(self.config.model.device))
        if self.train.precision == "fp16" and self.device.type == "cpu":
            raise UserError("train.precision=fp16 wants a GPU; on the CPU there are bf16 and fp32")
        distributed.join(self.device)
        seed = self.config.exp.seed
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)

    def _setup_datasets(self) -> None:
        data, size, workers = self.config.data, self.domain.generator.size, self.config.model.workers
        seed = self.config.exp.seed
        if transform_size(data.transform, size) != size:
            raise UserError(f"data.transform is {data.transform}; training wants the generator's size, {size} px")
        self.pictures = TrainingImages(
            data.input_train_dir, size, seed, workers, self.rank, self.ranks, self.domain.mirror
        )
        self.validation = ImageFolder(data.input_val_dir, size) if data.input_val_dir else None
        self.special = ImageFolder(data.special_dir, size) if data.special_dir else None
        if self.validation is not None:
            MetricSet(self.train.val_metrics, self.device)  # a missing weight file is told now, not hours later

    def _setup_method(self) -> None:
        """The stage, its discriminator, what they learn by, and all of that as one state."""
        options = self.config.optimizers
        predictor = self.domain.weights.get("predictor")
        losses = LossBuilder(
            self.config.encoder_losses, self.config.disc_losses, self.domain.encoder_size, self.device,
            weight_file(predictor) if predictor else None,
        )  # fmt: skip
        self.stage = build_stage(self.config, self.domain, self.device)
        self.stage.encoder = distributed.synchronise_batch_norm(self.stage.encoder, self.device)
        optimizer = build_optimizer(self.train.encoder_optimizer, self.stage.encoder.parameters(), options)
        networks, optimizers = self.stage.saved(), {"encoder_opt": optimizer}
        disc: nn.Module | None = None
        disc_optimizer: Optimizer | None = None
        if self.train.train_dis:
            disc = networks["discriminator"] = build_discriminator(self.config, self.domain, self.device)
            disc_optimizer = build_optimizer(self.train.disc_optimizer, disc.parameters(), options)
            optimizers["disc_opt"] = disc_optimizer
        elif self.config.encoder_losses.adv:
            logger.info("encoder_losses.adv is left out, as train.train_dis is False")
        self.trainer = Trainer(
            self.stage, optimizer, disc, disc_optimizer, losses, self.device, self.train.precision
        )
        others: dict[str, Stateful] = {"pictures": self.pictures, "scaler": self.trainer.scaler}
        self.state = TrainState(networks, optimizers, others, self.stage.decoder.latent_avg, self.train.start_step - 1)

    def _setup_experiment_dir(self) -> None:
        chosen = experiment.choose(self.config) if self.first else None
        if chosen is not None:
            experiment.prepare(chosen.folder, self.config)
            logger.info("experiment: %s", chosen.folder)
        chosen = distributed.of_first(chosen)
        assert chosen is not None
        self.folder, self.candidates = chosen.folder, chosen.candidates
        self.checkpoints = CheckpointFolder(self.folder, self.train.keep_checkpoints)

    def _resume(self) -> None:
        if self.first:
            self.checkpoints.remove_leftovers()
        path = load_newest(self.state, self.candidates)
        if path is not None:
            logger.info("going on from %s, after step %d", path, self.state.step)
        elif self.candidates:
            raise UserError(f"none of the checkpoints in {self.candidates[-1].parent} can be read")

    def _setup_loggers(self) -> None:
        if not self.first:
            return
        self.sinks = [
            Console(self.state.step + 1, self.train.steps), JsonLines(self.folder, self.state.step),
            PictureFiles(self.folder),
        ]  # fmt: skip
        if self.config.exp.wandb:
            wandb = WeightsAndBiases(self.config, self.folder, self.state.wandb_id)
            self.state.wandb_id = wandb.run.id
            self.sinks.append(wandb)

    # ---- loop ----

    @contextmanager
    def _steps(self) -> Iterator[Iterator[int]]:
        """The steps to make, under a progress bar that is hidden where nobody looks."""
        steps = range(self.state.step + 1, self.train.steps + 1)
        with logging_redirect_tqdm(), tqdm(steps, "train", unit="step", disable=None if self.first else True) as bar:
            yield iter(bar)

    def train_step(self, step: int) -> None:
        """One step of the trained network and, in its phase, of the discriminator."""
        adversarial = self.train.train_dis and step >= self.train.dis_train_start_step
        size = self.config.model.batch_size
        if self.train.train_dis and not adversarial:
            size = self.train.bs_used_before_adv_loss or size
        if self.train.lr_decay == "cosine":
            self._decay(step)
        taken = [self.pictures.next_batch(size) for _ in range(self.train.grad_accumulation)]
        try:
            self.losses.append(self.trainer.step(step, taken, adversarial))
        except DivergedError as error:
            good = self.checkpoints.files()[-1:]
            wanted = f"the last good checkpoint is {good[0]}" if good else "there is no checkpoint yet"
            raise UserError(f"{error}; {wanted}") from None
        self.state.step = step

    def _decay(self, step: int) -> None:
        options, first = self.config.optimizers, self.train.start_step
        names = {"encoder_opt": self.train.encoder_optimizer, "disc_opt": self.train.disc_optimizer}
        for key, optimizer in self.state.optimizers.items():
            lr = getattr(options, names[key]).lr
            set_cosine_lr(optimizer, lr, step - first, self.train.steps - first + 1)

    def save_train_logs(self, step: int) -> None:
        """Means of the losses since the last line, every train.log_step steps."""
        if step % self.train.log_step:
            return
        names = dict.fromkeys(name for losses in self.losses for name in losses)
        means = {name: fmean(losses[name] for losses in self.losses if name in losses) for name in names}
        self.losses.clear()
        self._log(step, {f"train/{k}": v for k, v in distributed.mean_over_processes(means, self.device).items()})

    @torch.inference_mode()
    def validate(self, step: int) -> bool:
        """Measure the inversions of the validation pictures as they are made, and show the special ones.

        Returns whether this is the best result so far, by the first of train.val_metrics.
        """
        self.stage.eval()
        best = self._measure(step, self.validation) if self.validation is not None and self.train.val_metrics else False
        if self.special is not None and self.first:
            self._show(step, self.special)
        self.stage.train()
        return best

    def _measure(self, step: int, folder: ImageFolder) -> bool:
        metrics = MetricSet(self.train.val_metrics, self.device)
        for samples in batches(self._readable(folder, self.rank, self.ranks), self.config.metrics.batch_size):
            names, images = zip(*samples, strict=True)
            real = torch.stack(images)
            metrics.update(real, self.stage.reconstruct(real.to(self.device)).float().cpu(), names)
        metrics.reduce()
        values = metrics.compute()
        self._log(step, {f"val/{name}": value for name, value in values.items()})
        if self.first:
            with atomic_path(self.folder / "metrics" / f"iteration_{step}.json") as temporary:
                temporary.write_text(json.dumps(values, indent=1) + "\n")
        name, value = next(iter(values.items()))
        sign = 1 if metrics.columns[name] else -1
        if math.isnan(value) or (self.state.best and sign * value <= sign * self.state.best["value"]):
            return False
        self.state.best = {"step": step, "value": value}
        return True

    def _readable(self, folder: ImageFolder, first: int = 0, stride: int = 1) -> Iterator[tuple[str, torch.Tensor]]:
        """Every so-many-th picture with its name, read ahead; damaged ones are skipped, and told."""

        def read(index: int) -> tuple[str, torch.Tensor | UserError]:
            try:
                return folder.names[index], folder[index]
            except UserError as error:
                return folder.names[index], error

        indices = range(first, len(folder), stride)
        pictures = ahead(read, indices, self.config.model.workers)
        hidden = None if self.first else True
        for name, picture in tqdm(pictures, folder.folder.name, len(indices), leave=False, disable=hidden):
            if isinstance(picture, UserError):
                logger.warning("skipped picture: %s", picture)
            else:
                yield name, picture

    def _show(self, step: int, special: ImageFolder) -> None:
        rows: list[tuple[str, list[Image.Image]]] = []
        for name, x in self._readable(special):
            rows.append((name, [to_image(x), to_image(self.stage.reconstruct(x[None].to(self.device))[0])]))
        grid = picture_grid(rows)
        shots = [Shot(f"{name}: picture, inversion", picture_grid([(name, pair)])) for name, pair in rows]
        for sink in self.sinks:
            sink.pictures(step, "special", shots, grid)

    def _log(self, step: int, values: dict[str, float]) -> None:
        for sink in self.sinks:
            sink.numbers(step, values)

    def save_checkpoint(self) -> None:
        """The state after the step that was made last."""
        if self.first:
            path = self.checkpoints.save(self.state)
            logger.info("wrote %s", path)
            for sink in self.sinks:
                sink.flush()

    def _export(self) -> None:
        """The trained network in the published light format."""
        light = self.folder / LIGHT_NAMES[self.train.train_runner]
        export_light(self.checkpoints.path(self.state.step), light)
        logger.info("wrote %s", light)
