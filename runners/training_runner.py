"""Training: builds the parts of a run, and runs the loop."""

import logging
from pathlib import Path

from omegaconf import OmegaConf
from torch import nn
from torch.optim import Optimizer

from arguments.domain import DomainConfig, load_domain
from arguments.loop_options import LoopConfig
from arguments.train_options import TrainConfig
from configs.paths import weight_file
from datasets.images import ImageFolder, transform_size
from datasets.training_images import TrainingImages
from datasets.true_edits import TrueEdits
from metrics.metric_set import MetricSet
from training import distributed, experiment
from training.distributed import synchronise_batch_norm
from training.loggers import Console, ImageFiles, JsonLines, Sink, WeightsAndBiases
from training.loop import Plan, TrainingLoop
from training.losses import LossBuilder
from training.parts import build_discriminator, build_optimizer, build_stage
from training.recompute import recompute
from training.tasks.network import NetworkTask
from training.tasks.sfe import SFETask
from utils.errors import UserError
from utils.files import check_outside
from utils.processes import gather, leave
from utils.seeds import seed_everything

logger = logging.getLogger(__name__)


class TrainingRunner:
    """One run of one stage. Under torchrun the first process writes."""

    def __init__(self, config: TrainConfig, domain: DomainConfig) -> None:
        """`config` has passed `training.preflight.check`, which gave `domain`."""
        self.config, self.train, self.domain = config, config.train, domain

    def run(self) -> Path:
        """Train up to the last step, or until SIGTERM asks to stop. Returns the experiment's folder."""
        self.setup()
        self._setup_experiment_dir()
        self.loop.resume(self.candidates)
        self.loop.run(self._loggers())
        leave()
        return self.loop.folder

    def setup(self) -> None:
        """Build everything that is trained; no file is written."""
        self._setup_device()
        self._setup_datasets()
        self._setup_method()

    def _setup_device(self) -> None:
        self.process = distributed.join(self.config.model.device, tf32=self.config.model.tf32)
        if self.train.precision == "fp16" and self.process.device.type == "cpu":
            raise UserError("train.precision=fp16 wants a GPU; on the CPU there are bf16 and fp32")
        seed_everything(self.config.exp.seed)

    def _setup_datasets(self) -> None:
        data, size, workers = self.config.data, self.domain.generator.size, self.config.model.workers
        if transform_size(data.transform, size) != size:
            raise UserError(f"data.transform is {data.transform}; training wants the generator's size, {size} px")
        self.images = TrainingImages(
            data.input_train_dir, size, self.config.exp.seed, workers, self.process.rank, self.process.ranks,
            self.domain.mirror,
        )  # fmt: skip
        self.validation = ImageFolder(data.input_val_dir, size) if data.input_val_dir else None
        self.special = ImageFolder(data.special_dir, size) if data.special_dir else None
        self.true_edits = TrueEdits(self.train.true_edits, size) if self.train.true_edits else None
        if self.validation is not None:
            MetricSet(self.train.val_metrics, self.process.device)  # a missing file is an error now, not hours later

    def _setup_method(self) -> None:
        """The stage, its discriminator, losses and optimizers."""
        device, options = self.process.device, self.config.optimizers
        predictor = self.domain.weights.get("predictor")
        losses = LossBuilder(
            self.config.encoder_losses, self.config.disc_losses, self.domain.encoder_size, device,
            weight_file(predictor) if predictor else None,
        )  # fmt: skip
        directions = self.true_edits.rows if self.true_edits is not None else ()
        stage = build_stage(self.config, self.domain, device, directions)
        stage.encoder = synchronise_batch_norm(stage.encoder, device)
        if self.train.activation_checkpointing:
            stage.encoder = recompute(stage.encoder)
        optimizer = build_optimizer(self.train.encoder_optimizer, stage.encoder.parameters(), options)
        discriminator: nn.Module | None = None
        disc_optimizer: Optimizer | None = None
        if self.train.train_dis:
            discriminator = build_discriminator(self.config, self.domain, device)
            disc_optimizer = build_optimizer(self.train.disc_optimizer, discriminator.parameters(), options)
        elif self.config.encoder_losses.adv:
            logger.info("encoder_losses.adv is left out, as train.train_dis is False")
        self.task = SFETask(
            self.config, self.process, stage, optimizer, discriminator, disc_optimizer, losses, self.images,
            self.validation, self.special, self.true_edits,
        )  # fmt: skip

    def _setup_experiment_dir(self) -> None:
        chosen = experiment.choose(self.config) if self.process.first else None
        if chosen is not None:
            experiment.prepare(chosen.folder, self.config)
            logger.info("experiment: %s", chosen.folder)
        chosen = gather(chosen)[0]
        assert chosen is not None
        self.candidates = chosen.candidates
        train = self.train
        plan = Plan(
            train.steps, train.log_step, train.keep_checkpoints, self.config.exp.seed, train.checkpoint_step,
            val_step=train.val_step, clip_grad_norm=train.clip_grad_norm,
        )  # fmt: skip
        self.loop = TrainingLoop(self.task, plan, self.process, chosen.folder)

    def _loggers(self) -> list[Sink]:
        if not self.process.first:
            return []
        sinks = file_sinks(self.loop)
        if self.config.exp.wandb:
            wandb = WeightsAndBiases(self.config, self.loop.folder, self.task.state.wandb_id)
            self.task.state.wandb_id = wandb.run.id
            sinks.append(wandb)
        return sinks


def train_network(config: LoopConfig, make_task: type[NetworkTask]) -> Path:
    """Train one network of a domain up to train.steps, or until SIGTERM asks to stop. Returns the folder.

    The run resumes from the newest checkpoint in its folder, which gets, at each checkpoint: `iteration_{step}.pt` with
    every state, the newest few of which are kept; what the task exports; `stats.jsonl` and `curves.png`.

    Raises UserError if the domain, the images or the folder's checkpoints do not fit.
    """
    train = config.train
    if not config.exp.name:
        raise UserError("exp.name is empty; wanted the name of the folder for checkpoints and samples")
    if not config.data.train_dir:
        raise UserError("data.train_dir is empty; wanted a folder of aligned images")
    folder = Path(config.exp.exp_dir) / config.exp.name
    check_outside(folder, config.data.train_dir, "exp.exp_dir")
    domain = load_domain(config.exp.domain)
    process = distributed.join(train.device)
    seed_everything(config.exp.seed)
    plan = Plan(
        train.steps, train.log_step, train.keep_checkpoints, config.exp.seed,
        checkpoint_minutes=train.checkpoint_minutes, clip_grad_norm=train.clip_grad_norm,
    )  # fmt: skip
    loop = TrainingLoop(make_task(config, domain, process), plan, process, folder)
    if process.first:
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(OmegaConf.structured(config), folder / "config.yaml")
    loop.resume(loop.checkpoints.files())
    loop.run(file_sinks(loop) if process.first else [])
    leave()
    return folder


def file_sinks(loop: TrainingLoop) -> list[Sink]:
    """Console and files."""
    step = loop.state.step
    return [Console(step + 1, loop.plan.steps), JsonLines(loop.folder, step), ImageFiles(loop.folder)]
