"""Training of a domain's generator (StyleGAN2: Karras et al., arXiv 1912.04958): its losses, and what is kept."""

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Adam
from torchvision.utils import make_grid

from arguments.domain import DomainConfig
from arguments.loop_options import GeneratorTrainConfig
from configs.paths import weight_file
from criteria.predictor_loss import PredictorLoss
from datasets.scores import Scores
from models.stylegan2.discriminator import Discriminator
from models.stylegan2.generator import Generator
from models.weights import save
from training import distributed
from training.distributed import Process
from training.ema import MovingAverage
from training.loggers import Sheet
from training.losses import r1_penalty
from training.optimizers import cosine_decay
from training.precision import in_layout
from training.state import TrainState, adopt
from training.tasks.mapping import factor_distance, fit_mapping
from training.tasks.network import NetworkTask
from utils.devices import send
from utils.errors import UserError
from utils.images import to_image

logger = logging.getLogger(__name__)

FACTOR_BATCH = 128
SAMPLES = 64  # images of the same z at every checkpoint
LARGER_BATCH = 4  # times, at most, where there are fewer pixels
FACE = 0.4  # half the width of a face in an aligned image, of half the image's
PREDICTOR_SIZE = 64  # the predictor cannot read fewer pixels


def mixed_w(generator: Generator, count: int, mixing: float, device: torch.device) -> Tensor:
    """w of `count` random images, B×n_styles×D; with probability `mixing` a second w from a random layer on."""
    n_styles, dim = generator.config.n_styles, generator.config.style_dim
    w = generator.mapping(torch.randn(2 * count, dim, device=device)).reshape(2, count, 1, dim)
    cut = torch.randint(1, n_styles, (count, 1, 1), device=device)
    cut = torch.where(torch.rand(count, 1, 1, device=device) < mixing, cut, n_styles)
    return torch.where(torch.arange(n_styles, device=device)[:, None] < cut, w[0], w[1])


def paired_distance(fake: Tensor, real: Tensor, centre: float = 0) -> Tensor:
    """Distance of images B×3×S×S that should be the same: L1 of them, of their differences, of smaller versions.

    In the middle, where aligned faces lie, a difference counts 1 + `centre` times as much as at the border.
    """
    total = _weighted(fake - real, centre)
    for axis in (2, 3):
        total = total + 0.7 * _weighted(fake.diff(dim=axis) - real.diff(dim=axis), centre)
    while fake.shape[-1] > 8:
        fake, real = F.avg_pool2d(fake, 2), F.avg_pool2d(real, 2)
        total = total + 0.5 * _weighted(fake - real, centre)
    return total


def _weighted(difference: Tensor, centre: float) -> Tensor:
    """Mean of the absolute values of B×3×H×W; a Gaussian of height `centre` adds weight to the middle."""
    if not centre:
        return difference.abs().mean()
    y, x = (torch.linspace(-1, 1, n, device=difference.device) for n in difference.shape[2:])
    bell = torch.exp(-((y / FACE)[:, None].square() + (x / FACE).square()) / 2)
    return ((1 + centre * bell) * difference.abs()).mean()


def _images(generator: Generator, w: Tensor, size: int) -> Tensor:
    """The images of w B×n_styles×D, B×3×size×size."""
    layer = 2 * generator.config.resolutions.index(size) + 1
    return generator.trunk(generator.affine(w), layer)[1]


class PathLength:
    """How much a step in w changes the image is pulled towards its running mean, so that w stays even."""

    DECAY = 0.01  # of the running mean, as in the paper

    def __init__(self, device: torch.device) -> None:
        self.mean = torch.zeros((), dtype=torch.float64, device=device)

    def __call__(self, images: Tensor, w: Tensor) -> Tensor:
        """images B×3×H×W, made from w B×n_styles×D → penalty; moves the running mean."""
        noise = torch.randn_like(images) / math.sqrt(images.shape[2] * images.shape[3])
        (gradient,) = torch.autograd.grad((images * noise).sum(), w, create_graph=True)
        lengths = gradient.square().sum(dim=2).mean(dim=1).sqrt()
        mean = lengths.detach().mean().double()
        distributed.average([mean])
        self.mean += self.DECAY * (mean - self.mean)
        return (lengths - self.mean).square().mean()

    def state_dict(self) -> dict[str, float]:
        return {"mean": float(self.mean)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.mean.fill_(state["mean"])


class GeneratorTask(NetworkTask):
    """Generator, its moving average, discriminator and their optimizers.

    On a CPU activations are channels_last, which is up to 1.6 times as fast. With train.precision=bf16 the adversarial
    losses are computed in bfloat16; weights, and the penalties on gradients, stay in float32.

    Besides what every run writes: `generators/step_{step}.pt`, the averaged generator, all of which are kept, so that
    the best can be chosen afterwards; and `samples/`.
    """

    name = "generator"

    def __init__(self, config: GeneratorTrainConfig, domain: DomainConfig, process: Process) -> None:
        self.options = config.train
        possible = [size for size in domain.generator.resolutions if size < domain.generator.size]
        if unknown := set(self.options.sizes) - set(possible):
            raise UserError(f"train.sizes names {min(unknown)} px; the generator has {', '.join(map(str, possible))}")
        known = config.train.paired or config.train.factors or config.train.mapping_steps
        self.scores = Scores(config.data.train_dir, domain.generator.style_dim) if known else None
        self.seed = config.exp.seed
        seed = torch.Generator().manual_seed(self.seed)
        super().__init__(config, domain, process)
        self.sample_z = torch.randn(SAMPLES, domain.generator.style_dim, generator=seed)

    def build(self) -> TrainState:
        options, config = self.options, self.domain.generator
        self.generator = in_layout(Generator(config).to(self.device), self.layout).train()
        if not options.noise:
            for conv in (self.generator.conv1, *self.generator.convs):
                conv.noise.weight.requires_grad_(False)  # it stays 0
        self.ema = MovingAverage(self.generator, options.ema)
        self.discriminator = in_layout(Discriminator(config).to(self.device), self.layout).train()
        beta1, beta2 = options.betas
        mapping = list(self.generator.style.parameters())
        rest = [value for name, value in self.generator.named_parameters() if not name.startswith("style.")]
        generator_opt = Adam([{"params": rest}, {"params": mapping}], options.lr, (beta1, beta2))
        disc_opt = Adam(self.discriminator.parameters(), options.lr, (beta1, beta2))
        self.path_length = PathLength(self.device)
        self.predictor = None
        if options.predictor:
            self.predictor = PredictorLoss(weight_file(self.domain.weights["predictor"])).to(self.device)
        networks = {"generator": self.generator, "g_ema": self.ema.network, "discriminator": self.discriminator}
        if start := options.start_from:
            logger.info("took over %d tensors of %s", adopt(networks, list(map(weight_file, start))), ", ".join(start))
        return TrainState(
            networks, {"generator_opt": generator_opt, "disc_opt": disc_opt},
            {"pictures": self.images, "path_length": self.path_length}, self.latent_avg(),
        )  # fmt: skip

    def gradients(self, step: int) -> Mapping[str, Tensor]:
        if step == 1 and self.options.mapping_steps:
            self._fit_mapping()
        self._set_rates(step)
        size = self._size(step)
        larger = min(self.domain.generator.size // size, LARGER_BATCH)
        images = self.next_images(self.batch_size * larger)
        return self.learn(step, F.adaptive_avg_pool2d(images, size) if size < images.shape[-1] else images)

    def learn(self, step: int, images: Tensor) -> Mapping[str, Tensor]:
        real = images.contiguous(memory_format=self.layout)
        adversarial = self.options.adversarial and real.shape[-1] == self.domain.generator.size
        fake, losses = self._learn_generator(step, real, bool(adversarial))
        return losses | self._learn_discriminator(step, fake, real) if adversarial else losses

    def _fit_mapping(self) -> None:
        """The same in every process of a training."""
        assert self.scores is not None
        logger.info("fitting the mapping network to %d factors", self.scores.n_factors)
        distance = fit_mapping(self.generator, self.scores, self.options.mapping_steps, self.seed)
        self.ema.network.load_state_dict(self.generator.state_dict())
        logger.info("w holds them with a mean squared error of %.4f", distance)

    def _set_rates(self, step: int) -> None:
        """The optimizers' learning rates: those of the options, also where a checkpoint was written with others."""
        lr = self.options.lr * (cosine_decay(step, self.options.steps) if self.options.lr_decay else 1)
        rest, mapping = self.state.optimizers["generator_opt"].param_groups
        rest["lr"], mapping["lr"] = lr, lr * self.options.mapping_lr
        for group in self.state.optimizers["disc_opt"].param_groups:
            group["lr"] = lr

    def _size(self, step: int) -> int:
        """Pixels at which this step trains."""
        sizes = (size for size, last in sorted(self.options.sizes.items()) if step <= last)
        return next(sizes, self.domain.generator.size)

    def updated(self, step: int) -> None:
        self.ema.update()

    def export(self, folder: Path) -> Sheet:
        average, self.state.latent_avg = self.ema.network, self.latent_avg()
        generator = {"g_ema": average.state_dict(), "latent_avg": self.state.latent_avg}
        save(generator, folder / "generators" / f"step_{self.state.step:07d}.pt")
        w = average.mapping(self.sample_z.to(self.device))[:, None].expand(-1, average.config.n_styles, -1)
        images = _images(average, w, self._size(self.state.step))  # layers above are not trained yet
        return Sheet("samples", to_image(make_grid(images.clamp(-1, 1), nrow=8, padding=0).cpu()))

    @torch.no_grad()
    def latent_avg(self) -> Tensor:
        """The mean w of the averaged generator, D; from the same 10,000 z at each call."""
        z = torch.randn(10000, self.domain.generator.style_dim, generator=torch.Generator().manual_seed(0))
        return self.ema.network.mapping(z.to(self.device)).mean(dim=0)

    def _learn_generator(self, step: int, real: Tensor, adversarial: bool) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the images, too: the discriminator learns from the same ones."""
        options, losses = self.options, {}
        self.discriminator.requires_grad_(False)
        with self.precision.autocast():
            if self.scores is not None and options.paired:
                z = send(self.scores.latents(self.batch.names, self.batch.flipped), self.device)
                w = self.generator.mapping(z)[:, None].expand(-1, self.generator.config.n_styles, -1)
            else:
                w = mixed_w(self.generator, len(real), options.mixing, self.device)
            fake = _images(self.generator, w, real.shape[-1])
            if adversarial:
                losses["generator"] = F.softplus(-self._logits(fake)).mean()
        if self.scores is not None and options.factors:
            z, factors = (send(x, self.device) for x in self.scores.draw(FACTOR_BATCH))
            losses["factors"] = factor_distance(self.generator.mapping(z), factors)
        if options.paired:
            losses["paired"] = paired_distance(fake.float(), real, options.paired_centre)
            if self.predictor is not None and real.shape[-1] >= PREDICTOR_SIZE:
                with self.precision.autocast():
                    losses["predictor"] = self.predictor(fake, real)
        weights = {
            "generator": options.adversarial, "paired": options.paired, "factors": options.factors,
            "predictor": options.predictor,
        }  # fmt: skip
        self.precision.backward(torch.stack([weights[name] * loss for name, loss in losses.items()]).sum())
        if adversarial and options.path_length and step % options.path_length_every == 0:
            w = mixed_w(self.generator, max(len(real) // 2, 1), options.mixing, self.device)  # half, as in the paper
            penalty = self.path_length(_images(self.generator, w, real.shape[-1]), w)
            self.precision.backward(penalty * options.path_length * options.path_length_every)
            losses["path_length"] = penalty
        return fake.detach(), {name: loss.detach() for name, loss in losses.items()}

    def _learn_discriminator(self, step: int, fake: Tensor, real: Tensor) -> dict[str, Tensor]:
        options = self.options
        self.discriminator.requires_grad_(True)
        with self.precision.autocast():
            fake_logits, real_logits = self._logits(fake), self._logits(real)
        loss = F.softplus(fake_logits).mean() + F.softplus(-real_logits).mean()
        losses = {
            "discriminator": loss.detach(), "real_logit": real_logits.detach().mean(),
            "fake_logit": fake_logits.detach().mean(),
        }  # fmt: skip
        if options.r1 and step % options.r1_every == 0:
            penalty = r1_penalty(self.discriminator, real, options.r1)
            loss = loss + penalty * options.r1_every
            losses["r1"] = penalty.detach()
        self.precision.backward(loss)
        return losses

    def _logits(self, images: Tensor) -> Tensor:
        return self.discriminator(images).float()
