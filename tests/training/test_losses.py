"""Losses against their definitions and the published values."""

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from conftest import normal
from torch import Tensor, nn

from arguments.domain import load_domain
from arguments.train_options import DiscLossesArgs, EncoderLossesArgs, MainArgs, R1Args
from models.weights import load_discriminator
from training.losses import LossBuilder, logistic_loss, r1_penalty
from training.stages import Pairs

CPU = torch.device("cpu")


def builder(disc: DiscLossesArgs | None = None, **coefficients: float) -> LossBuilder:
    return LossBuilder(EncoderLossesArgs(**coefficients), disc or DiscLossesArgs(), size=8, device=CPU)


def pairs(**more: tuple[Tensor, Tensor]) -> Pairs:
    fake, real = normal(1, (4, 3, 32, 32)), normal(2, (4, 3, 32, 32))
    return Pairs(fake, real, fake, fake, **more)


def test_l2_is_the_mean_squared_error_of_images_averaged_to_the_small_size() -> None:
    it = pairs()
    small = [x.double().reshape(4, 3, 8, 4, 8, 4).mean(dim=(3, 5)) for x in (it.fake, it.real)]
    expected = ((small[0] - small[1]) ** 2).mean().item()
    assert builder(l2=1).encoder(it, None).parts["l2"].item() == pytest.approx(expected, rel=1e-5)


def test_feature_and_latent_losses() -> None:
    a, b = normal(3, (2, 5, 4, 4)), normal(4, (2, 5, 4, 4))
    c, d = normal(5, (2, 6, 7)), normal(6, (2, 6, 7))
    losses = builder(feat_rec=2, feat_rec_l1=3, l2_latent=5).encoder(pairs(features=(a, b), latents=(c, d)), None)
    expected = {
        "feat_rec": ((a - b) ** 2).mean().item(),
        "feat_rec_l1": (a - b).abs().mean().item(),
        "l2_latent": ((c - d) ** 2).mean().item(),
    }
    assert {name: value.item() for name, value in losses.parts.items()} == pytest.approx(expected, rel=1e-5)
    weights = {"feat_rec": 2, "feat_rec_l1": 3, "l2_latent": 5}
    assert losses.total.item() == pytest.approx(sum(weights[k] * v for k, v in expected.items()), rel=1e-5)


def test_features_are_not_detached() -> None:
    features = normal(3, (2, 5, 4, 4)).requires_grad_(), normal(4, (2, 5, 4, 4)).requires_grad_()
    builder(feat_rec=1).encoder(pairs(features=features), None).total.backward()
    assert all(x.grad is not None and x.grad.abs().max() > 0 for x in features)


def test_adv_is_the_mean_softplus_of_minus_the_logits_once_the_discriminator_learns() -> None:
    logits = torch.tensor([[0.0], [3.0]])
    losses = builder(l2=1, adv=0.5).encoder(pairs(), logits)
    assert losses.parts["adv"].item() == pytest.approx((math.log(2) + math.log(1 + math.exp(-3))) / 2, rel=1e-5)
    assert "adv" not in builder(l2=1, adv=0.5).encoder(pairs(), None).parts


def test_discriminators_main_loss_is_the_mean_of_its_two_halves() -> None:
    fake, real = torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([[-1.0]])  # 2B fakes weigh no more than B reals
    expected = (sum(math.log(1 + math.exp(x)) for x in (1, 2, 3)) / 3 + math.log(1 + math.e)) / 2
    assert logistic_loss(fake, real).item() == pytest.approx(expected, rel=1e-5)


def test_r1_of_a_discriminator_whose_gradient_is_known() -> None:
    class Squares(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x**2).sum(dim=(1, 2, 3))[:, None]  # gradient 2x

    x = normal(7, (3, 3, 8, 8))
    expected = 10 / 2 * (4 * x.double() ** 2).sum().item() / 3
    assert r1_penalty(Squares(), x, 10).item() == pytest.approx(expected, rel=1e-5)


def test_r1_joins_every_16th_step_and_weighs_16_times() -> None:
    torch.manual_seed(0)
    disc = nn.Sequential(nn.Conv2d(3, 4, 3), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(4 * 36, 1))
    x = normal(7, (3, 3, 8, 8))
    losses = builder(l2=1)
    assert [step for step in range(1, 50) if "r1" in losses.discriminator(disc, x, x, step).parts] == [16, 32, 48]
    with_r1, without = losses.discriminator(disc, x, x, 16), losses.discriminator(disc, x, x, 15)
    r1 = 16 * r1_penalty(disc, x, 10).item()
    assert with_r1.total.item() - without.total.item() == pytest.approx(r1, rel=1e-4)
    off = builder(DiscLossesArgs(MainArgs(2.0), R1Args(0.0)), l2=1).discriminator(disc, x, x, 16)
    assert set(off.parts) == {"main"} and off.total.item() == pytest.approx(2 * off.parts["main"].item())


def test_the_discriminators_loss_has_no_gradient_in_the_fakes() -> None:
    x = normal(7, (3, 3, 8, 8)).requires_grad_()
    disc = nn.Sequential(nn.Flatten(), nn.Linear(192, 1))
    builder(l2=1).discriminator(disc, x, x.detach(), 16).total.backward()
    assert x.grad is None


def test_r1_equals_the_published_one(standin: Callable[[str], Path], golden: Callable[[str, Tensor], None]) -> None:
    config = load_domain("human_faces").generator
    disc = load_discriminator(standin("stylegan2-ffhq-config-f.pkl"), config).requires_grad_(True)
    x = F.interpolate(normal(45, (8, 3, 16, 16)) * 0.5, size=1024, mode="bicubic", align_corners=False)[:2]
    golden("r1/loss", 16 * r1_penalty(disc, x, 10).reshape(1))


def test_a_coefficient_of_0_loads_nothing() -> None:
    """In a process of its own, since other tests import the networks."""
    code = """
import sys, torch
from arguments.train_options import DiscLossesArgs, EncoderLossesArgs
from training.losses import LossBuilder
losses = LossBuilder(EncoderLossesArgs(l2=1, lpips=0, id=0), DiscLossesArgs(), 8, torch.device("cpu"))
names = [name for name in sys.modules if name.startswith(("criteria.", "lpips", "torchvision"))]
print(list(losses.image_losses), names)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "['l2'] []"
