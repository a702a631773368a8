"""Training of StyleFeatureEditor, both stages: the trained network, and the discriminator."""

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from random import Random

import torch
from PIL import Image
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import tqdm

from arguments.train_options import TrainConfig
from datasets.images import ImageFolder
from datasets.training_images import Batch, TrainingImages
from datasets.true_edits import TrueEdits
from metrics.metric_set import MetricSet
from models.weights import export_light
from training.distributed import Process
from training.ema import MovingAverage
from training.loggers import Sheet
from training.loop import Task, Validation
from training.losses import LossBuilder, Losses
from training.optimizers import set_cosine_lr
from training.parts import LIGHT_NAMES
from training.precision import Precision
from training.stages import DrawnEdit, Stage
from training.state import TrainState
from utils.devices import send
from utils.drawing import image_grid
from utils.errors import UserError
from utils.images import to_image
from utils.modes import eval_mode
from utils.parallel import ahead, batches
from utils.seeds import derive_seed

logger = logging.getLogger(__name__)


class SFETask(Task):
    """One stage. Networks run in the chosen precision; losses are computed in float32."""

    name = "train"

    def __init__(
        self, config: TrainConfig, process: Process, stage: Stage, optimizer: Optimizer,
        discriminator: nn.Module | None, disc_optimizer: Optimizer | None, losses: LossBuilder,
        images: TrainingImages, validation: ImageFolder | None, special: ImageFolder | None,
        true_edits: TrueEdits | None = None,
    ) -> None:  # fmt: skip
        """`validation`: images that metrics are measured on; `special`: a few whose inversions are shown.

        `true_edits`: pairs that stage 2 learns from besides e4e's.
        """
        self.config, self.train, self.process, self.device = config, config.train, process, process.device
        self.stage, self.discriminator, self.losses = stage, discriminator, losses
        self.images, self.validation, self.special = images, validation, special
        self.true_edits = true_edits
        self.precision = Precision(config.train.precision, process.device)
        self.batch_names = []
        networks, optimizers = dict(stage.saved()), {"encoder_opt": optimizer}
        self.ema = MovingAverage(stage.encoder, self.train.ema) if self.train.ema else None
        if self.ema is not None:
            networks["ema"] = self.ema.network
        if discriminator is not None and disc_optimizer is not None:
            networks["discriminator"], optimizers["disc_opt"] = discriminator, disc_optimizer
        self.state = TrainState(
            networks, optimizers, {"pictures": images, "scaler": self.precision.scaler}, stage.decoder.latent_avg,
            optional={"discriminator": "", "ema": "encoder"}, step=config.train.start_step - 1,
        )  # fmt: skip

    # ---- step ----

    def gradients(self, step: int) -> Mapping[str, Tensor]:
        """Of the trained network and, in the adversarial phase, of the discriminator, which gets the same images."""
        train = self.train
        adversarial = train.train_dis and step >= train.dis_train_start_step
        size = self.config.model.batch_size
        if train.train_dis and not adversarial:
            size = train.bs_used_before_adv_loss or size
        if train.lr_decay == "cosine":
            self._decay(step)
        drawn = [self.images.next_batch(size) for _ in range(train.grad_accumulation)]
        self.batch_names = [name for batch in drawn for name in batch.names]
        return self.learn(step, drawn, adversarial)

    def learn(self, step: int, drawn: list[Batch], adversarial: bool) -> dict[str, Tensor]:
        """Mean gradients and losses of the batches; `adversarial`: the discriminator is trained, too."""
        values: dict[str, list[Tensor]] = defaultdict(list)
        random = Random(derive_seed(self.config.exp.seed, step))  # of edits, which are the same in all processes
        for batch in drawn:
            images, edit = batch.images(self.device), self.stage.draw_edit(random)
            fake = self._learn_stage(step, images, edit, adversarial, len(drawn), values)
            if adversarial:
                self._learn_discriminator(step, images, fake, len(drawn), values)
        return {name: torch.stack(parts).mean() for name, parts in values.items()}

    def _learn_stage(
        self, step: int, images: Tensor, edit: DrawnEdit | None, adversarial: bool, share: int,
        values: dict[str, list[Tensor]],
    ) -> Tensor:  # fmt: skip
        """Returns the discriminator's fakes."""
        if self.discriminator is not None:
            self.discriminator.requires_grad_(False)
        with self.precision.autocast():
            true_edit = self.true_edits.draw(len(images), self.device) if self.true_edits is not None else None
            pairs = self.stage(images, step, edit, true_edit)
            discriminator = self.discriminator if adversarial else None
            logits = discriminator(pairs.generator_fakes) if discriminator is not None else None
        self._backward(self.losses.encoder(pairs, logits), share, values)
        return pairs.discriminator_fakes.detach()

    def _learn_discriminator(
        self, step: int, real: Tensor, fake: Tensor, share: int, values: dict[str, list[Tensor]]
    ) -> None:
        assert self.discriminator is not None
        self.discriminator.requires_grad_(True)
        with self.precision.autocast():
            losses = self.losses.discriminator(self.discriminator, fake, real, step)
        self._backward(losses, share, values, "disc_")

    def _backward(self, losses: Losses, share: int, values: dict[str, list[Tensor]], prefix: str = "") -> None:
        for name, value in {**losses.parts, "total": losses.total}.items():
            values[prefix + name].append(value.detach())
        self.precision.backward(losses.total / share)

    def _decay(self, step: int) -> None:
        options, first = self.config.optimizers, self.train.start_step
        names = {"encoder_opt": self.train.encoder_optimizer, "disc_opt": self.train.disc_optimizer}
        for key, optimizer in self.state.optimizers.items():
            lr = getattr(options, names[key]).lr
            set_cosine_lr(optimizer, lr, step - first, self.train.steps - first + 1)

    def updated(self, step: int) -> None:
        if self.ema is not None:
            self.ema.update()

    def logged(self, losses: Mapping[str, float]) -> dict[str, float]:
        return {f"train/{name}": value for name, value in losses.items()}

    # ---- validation ----

    def validate(self, step: int) -> Validation:
        """Measure inversions of the validation images, and show those of the special ones.

        The first of train.val_metrics decides which checkpoint is the best.
        """
        values: dict[str, float] = {}
        best = False
        sheets = []
        with eval_mode(self.stage), self._averaged():
            if self.validation is not None and self.train.val_metrics:
                values, best = self._measure(self.validation)
            if self.special is not None and self.process.first:
                sheets.append(self._sheet(self.special))
        return Validation(values, best, sheets)

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Use the moving average of the trained network, if there is one."""
        trained = self.stage.encoder
        if self.ema is not None:
            self.stage.encoder = self.ema.network
        try:
            yield
        finally:
            self.stage.encoder = trained

    def _measure(self, folder: ImageFolder) -> tuple[dict[str, float], bool]:
        metrics = MetricSet(self.train.val_metrics, self.device)
        readable = self._readable(folder, self.process.rank, self.process.ranks)
        for samples in batches(readable, self.config.metrics.batch_size):
            names, images = zip(*samples, strict=True)
            real = torch.stack(images)
            metrics.update(real, self._reconstruct(real).cpu(), names)
        metrics.reduce()
        values = metrics.compute()
        name, value = next(iter(values.items()))
        return values, self.state.improves(value, metrics.columns[name])

    def _reconstruct(self, images: Tensor) -> Tensor:
        """The inversions of images of the CPU, float32 on the device."""
        with self.precision.autocast():
            return self.stage.reconstruct(send(images, self.device)).float()

    def _readable(self, folder: ImageFolder, first: int = 0, stride: int = 1) -> Iterator[tuple[str, Tensor]]:
        """Every `stride`-th image with its name, read ahead; damaged ones are skipped, with a warning."""

        def read(index: int) -> tuple[str, Tensor | UserError]:
            try:
                return folder.names[index], folder[index]
            except UserError as error:
                return folder.names[index], error

        indices = range(first, len(folder), stride)
        images = ahead(read, indices, self.config.model.workers)
        hidden = None if self.process.first else True
        for name, image in tqdm(images, folder.folder.name, len(indices), leave=False, disable=hidden):
            if isinstance(image, UserError):
                logger.warning("skipped image: %s", image)
            else:
                yield name, image

    def _sheet(self, special: ImageFolder) -> Sheet:
        rows: list[tuple[str, list[Image.Image]]] = []
        for name, x in self._readable(special):
            rows.append((name, [to_image(x), to_image(self._reconstruct(x[None])[0])]))
        images = {f"{name}: image, inversion": image_grid([(name, pair)]) for name, pair in rows}
        return Sheet("special", image_grid(rows), images)

    def finish(self, folder: Path, checkpoint: Path) -> None:
        """Write the trained network in the published light format."""
        light = folder / LIGHT_NAMES[self.train.train_runner]
        export_light(checkpoint, light)
        logger.info("wrote %s", light)
