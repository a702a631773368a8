"""Training of a StyleGAN2 generator (Karras et al., arXiv 1912.04958): its losses, and one step of them."""

import copy
import math
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam

from arguments.domain import GeneratorConfig
from arguments.loop_options import GeneratorTrainArgs
from models.stylegan2.discriminator import Discriminator
from models.stylegan2.generator import Generator
from training.losses import r1_penalty

M = TypeVar("M", bound=nn.Module)


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

    def __init__(self) -> None:
        self.mean = 0.0

    def __call__(self, images: Tensor, w: Tensor) -> Tensor:
        """images B×3×H×W, made from w B×n_styles×D → penalty; moves the running mean."""
        noise = torch.randn_like(images) / math.sqrt(images.shape[2] * images.shape[3])
        (gradient,) = torch.autograd.grad((images * noise).sum(), w, create_graph=True)
        lengths = gradient.square().sum(dim=2).mean(dim=1).sqrt()
        self.mean += self.DECAY * (lengths.mean().item() - self.mean)
        return (lengths - self.mean).square().mean()

    def state_dict(self) -> dict[str, float]:
        return {"mean": self.mean}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.mean = state["mean"]


class GeneratorTrainer:
    """Generator, its moving average, discriminator and their optimizers.

    Activations lie channels_last, which on a CPU is up to 1.6 times as fast. With train.precision=bf16 the adversarial
    losses are computed in bfloat16; weights, and the penalties on gradients, stay in float32.
    """

    def __init__(self, config: GeneratorConfig, options: GeneratorTrainArgs, device: torch.device) -> None:
        self.options, self.device = options, device
        self.generator = channels_last(Generator(config).to(device)).train()
        if not options.noise:
            for conv in (self.generator.conv1, *self.generator.convs):
                conv.noise.weight.requires_grad_(False)  # it stays 0
        self.average = copy.deepcopy(self.generator).eval().requires_grad_(False)
        self.discriminator = channels_last(Discriminator(config).to(device)).train()
        beta1, beta2 = options.betas
        self.generator_opt = Adam(self.generator.parameters(), options.lr, (beta1, beta2))
        self.disc_opt = Adam(self.discriminator.parameters(), options.lr, (beta1, beta2))
        self.path_length = PathLength()

    def step(self, number: int, real: Tensor) -> dict[str, float]:
        """One step of both networks on pictures `real`, B×3×size×size in [-1, 1]. Returns the losses by name."""
        real = real.to(self.device, memory_format=torch.channels_last)
        fake, found = self._learn_generator(number, len(real))
        self._follow()
        found |= self._learn_discriminator(number, fake, real)
        return {name: float(value) for name, value in found.items()}

    @torch.no_grad()
    def latent_avg(self) -> Tensor:
        """The mean w of the averaged generator, D; from the same 10,000 z at each call."""
        z = torch.randn(10000, self.average.config.style_dim, generator=torch.Generator().manual_seed(0))
        return self.average.mapping(z.to(self.device)).mean(dim=0)

    def _learn_generator(self, number: int, count: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the pictures, too: the discriminator learns from the same ones."""
        options = self.options
        self.discriminator.requires_grad_(False)
        with self._precision():
            fake = self._pictures(mixed_w(self.generator, count, options.mixing, self.device))
            loss = F.softplus(-self._logits(fake)).mean()
        loss.backward()
        found = {"generator": loss.detach()}
        if options.path_length and number % options.path_length_every == 0:
            w = mixed_w(self.generator, max(count // 2, 1), options.mixing, self.device)  # half, as in the paper
            penalty = self.path_length(self._pictures(w), w)
            (penalty * options.path_length * options.path_length_every).backward()
            found["path_length"] = penalty.detach()
        self.generator_opt.step()
        self.generator_opt.zero_grad()
        return fake.detach(), found

    def _learn_discriminator(self, number: int, fake: Tensor, real: Tensor) -> dict[str, Tensor]:
        options = self.options
        self.discriminator.requires_grad_(True)
        with self._precision():
            fake_logits, real_logits = self._logits(fake), self._logits(real)
        loss = F.softplus(fake_logits).mean() + F.softplus(-real_logits).mean()
        found = {
            "discriminator": loss.detach(), "real_logit": real_logits.detach().mean(),
            "fake_logit": fake_logits.detach().mean(),
        }  # fmt: skip
        if options.r1 and number % options.r1_every == 0:
            penalty = r1_penalty(self.discriminator, real, options.r1)
            loss = loss + penalty * options.r1_every
            found["r1"] = penalty.detach()
        loss.backward()
        self.disc_opt.step()
        self.disc_opt.zero_grad()
        return found

    def _pictures(self, w: Tensor) -> Tensor:
        return self.generator(self.generator.affine(w))

    def _logits(self, images: Tensor) -> Tensor:
        return self.discriminator(images).float()

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.options.precision == "bf16")

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the average towards the generator."""
        for mean, value in zip(self.average.parameters(), self.generator.parameters(), strict=True):
            mean.lerp_(value, 1 - self.options.ema)


def channels_last(module: M) -> M:
    """`module.to(memory_format=…)` for modules that have weights of five dimensions, too."""
    for parameter in module.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return module
