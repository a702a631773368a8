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
from models.stylegan2.discriminator import Discriminator
from models.stylegan2.generator import Generator
from models.weights import save
from training import distributed
from training.distributed import Process
from training.ema import MovingAverage
from training.loggers import Sheet
from training.losses import r1_penalty
from training.state import TrainState, adopt
from training.tasks.network import NetworkTask, channels_last
from utils.images import to_image

logger = logging.getLogger(__name__)

SAMPLES = 64  # pictures of the same z at every checkpoint


def mixed_w(generator: Generator, count: int, mixing: float, device: torch.device) -> Tensor:
    """w of `count` random pictures, B×n_styles×D; with probability `mixing` a second w from a random layer on."""
    n_styles, dim = generator.config.n_styles, generator.config.style_dim
    w = generator.mapping(torch.randn(2 * count, dim, device=device)).reshape(2, count, 1, dim)
    cut = torch.randint(1, n_styles, (count, 1, 1), device=device)
    cut = torch.where(torch.rand(count, 1, 1, device=device) < mixing, cut, n_styles)
    return torch.where(torch.arange(n_styles, device=device)[:, None] < cut, w[0], w[1])


class PathLength:
    """How much a step in w changes the picture is pulled towards its running mean, so that w stays even."""

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

    Activations are channels_last, which on a CPU is up to 1.6 times as fast. With train.precision=bf16 the adversarial
    losses are computed in bfloat16; weights, and the penalties on gradients, stay in float32.

    Besides what every run writes: `generators/step_{step}.pt`, the averaged generator, all of which are kept, so that
    the best can be chosen afterwards; and `samples/`.
    """

    name = "generator"

    def __init__(self, config: GeneratorTrainConfig, domain: DomainConfig, process: Process) -> None:
        self.options = config.train
        seed = torch.Generator().manual_seed(config.exp.seed)
        super().__init__(config, domain, process)
        self.sample_z = torch.randn(SAMPLES, domain.generator.style_dim, generator=seed)

    def build(self) -> TrainState:
        options, config = self.options, self.domain.generator
        self.generator = channels_last(Generator(config).to(self.device)).train()
        if not options.noise:
            for conv in (self.generator.conv1, *self.generator.convs):
                conv.noise.weight.requires_grad_(False)  # it stays 0
        self.ema = MovingAverage(self.generator, options.ema)
        self.discriminator = channels_last(Discriminator(config).to(self.device)).train()
        beta1, beta2 = options.betas
        generator_opt = Adam(self.generator.parameters(), options.lr, (beta1, beta2))
        disc_opt = Adam(self.discriminator.parameters(), options.lr, (beta1, beta2))
        self.path_length = PathLength(self.device)
        networks = {"generator": self.generator, "g_ema": self.ema.network, "discriminator": self.discriminator}
        if start := options.start_from:
            logger.info("took over %d tensors of %s", adopt(networks, list(map(weight_file, start))), ", ".join(start))
        return TrainState(
            networks, {"generator_opt": generator_opt, "disc_opt": disc_opt},
            {"pictures": self.pictures, "path_length": self.path_length}, self.latent_avg(),
        )  # fmt: skip

    def learn(self, step: int, images: Tensor) -> Mapping[str, Tensor]:
        real = images.contiguous(memory_format=torch.channels_last)
        fake, losses = self._learn_generator(step, len(real))
        return losses | self._learn_discriminator(step, fake, real)

    def updated(self, step: int) -> None:
        self.ema.update()

    def export(self, folder: Path) -> Sheet:
        average, self.state.latent_avg = self.ema.network, self.latent_avg()
        generator = {"g_ema": average.state_dict(), "latent_avg": self.state.latent_avg}
        save(generator, folder / "generators" / f"step_{self.state.step:07d}.pt")
        w = average.mapping(self.sample_z.to(self.device))[:, None]
        images = average(average.affine(w.expand(-1, average.config.n_styles, -1)))
        return Sheet("samples", to_image(make_grid(images.clamp(-1, 1), nrow=8, padding=0).cpu()))

    @torch.no_grad()
    def latent_avg(self) -> Tensor:
        """The mean w of the averaged generator, D; from the same 10,000 z at each call."""
        z = torch.randn(10000, self.domain.generator.style_dim, generator=torch.Generator().manual_seed(0))
        return self.ema.network.mapping(z.to(self.device)).mean(dim=0)

    def _learn_generator(self, step: int, count: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the pictures, too: the discriminator learns from the same ones."""
        options = self.options
        self.discriminator.requires_grad_(False)
        with self.precision.autocast():
            fake = self._images(mixed_w(self.generator, count, options.mixing, self.device))
            loss = F.softplus(-self._logits(fake)).mean()
        self.precision.backward(loss)
        losses = {"generator": loss.detach()}
        if options.path_length and step % options.path_length_every == 0:
            w = mixed_w(self.generator, max(count // 2, 1), options.mixing, self.device)  # half, as in the paper
            penalty = self.path_length(self._images(w), w)
            self.precision.backward(penalty * options.path_length * options.path_length_every)
            losses["path_length"] = penalty.detach()
        return fake.detach(), losses

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

    def _images(self, w: Tensor) -> Tensor:
        return self.generator(self.generator.affine(w))

    def _logits(self, images: Tensor) -> Tensor:
        return self.discriminator(images).float()
