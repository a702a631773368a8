"""The losses of the trained network and of the discriminator."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arguments.train_options import DiscLossesArgs, EncoderLossesArgs
from training.stages import Pairs

ImageLoss = Callable[[Tensor, Tensor], Tensor]  # fake, real B×3×S×S in [-1, 1] → one number, the mean over B


@dataclass(frozen=True)
class Losses:
    """Losses by name, unweighted, and their sum weighted by the coefficients."""

    total: Tensor
    parts: Mapping[str, Tensor]


class LossBuilder:
    """All losses of a run. One whose coefficient is 0 is not computed, and its network is not loaded."""

    def __init__(
        self, encoder: EncoderLossesArgs, disc: DiscLossesArgs, size: int, device: torch.device,
        predictor: Path | None = None,
    ) -> None:  # fmt: skip
        """`size`: px that images are pooled to before they are compared; `predictor`: the file of that loss."""
        self.coefficients = {name: value for name, value in vars(encoder).items() if value}
        self.disc = disc
        self.size = size
        self.image_losses = {name: make(device) for name, make in IMAGE_LOSSES.items() if name in self.coefficients}
        if "predictor" in self.coefficients:
            from criteria.predictor_loss import PredictorLoss

            assert predictor is not None
            self.image_losses["predictor"] = PredictorLoss(predictor).to(device)

    def encoder(self, pairs: Pairs, logits: Tensor | None) -> Losses:
        """Losses of the trained network; `logits`: the discriminator's of pairs.generator_fakes, if it is used."""
        fake, real = pool(pairs.fake, self.size), pool(pairs.real, self.size)
        parts = {name: loss(fake, real) for name, loss in self.image_losses.items()}
        for name, compare in FEATURE_LOSSES.items():
            if name in self.coefficients:
                assert pairs.features is not None
                parts[name] = compare(pairs.features[0].float(), pairs.features[1].float())
        if "l2_latent" in self.coefficients:
            assert pairs.latents is not None
            parts["l2_latent"] = F.mse_loss(pairs.latents[0].float(), pairs.latents[1].float())
        if "adv" in self.coefficients and logits is not None:
            parts["adv"] = F.softplus(-logits.float()).mean()
        return Losses(torch.stack([part * self.coefficients[name] for name, part in parts.items()]).sum(), parts)

    def discriminator(self, discriminator: nn.Module, fake: Tensor, real: Tensor, step: int) -> Losses:
        """Losses of the discriminator for images N×3×H×W and M×3×H×W; R1 every N steps."""
        parts = {"main": logistic_loss(discriminator(fake.detach()).float(), discriminator(real).float())}
        total = parts["main"] * self.disc.main.coef
        if self.disc.r1.coef and step % self.disc.r1.hyper_d_reg_every == 0:
            parts["r1"] = r1_penalty(discriminator, real, self.disc.r1.coef) * self.disc.r1.hyper_d_reg_every
            total = total + parts["r1"]
        return Losses(total, parts)


def pool(x: Tensor, size: int) -> Tensor:
    """B×3×H×W → B×3×size×size, averaged, float32."""
    x = x.float()
    return x if x.shape[-2:] == (size, size) else F.adaptive_avg_pool2d(x, size)


def logistic_loss(fake: Tensor, real: Tensor) -> Tensor:
    """Mean of the halves for fake and for real logits (non-saturating GAN, arXiv 1406.2661)."""
    return (F.softplus(fake).mean() + F.softplus(-real).mean()) / 2


def r1_penalty(discriminator: nn.Module, real: Tensor, coefficient: float) -> Tensor:
    """coefficient / 2 · mean over the batch of the squared gradient norm at real images (arXiv 1801.04406).

    Always in float32: squared gradients of single pixels are too small for half precision.
    """
    with torch.autocast(real.device.type, enabled=False):
        real = real.detach().float().requires_grad_(True)
        (gradient,) = torch.autograd.grad(discriminator(real).sum(), real, create_graph=True)
        return coefficient / 2 * gradient.square().sum(dim=(1, 2, 3)).mean()


def _l2(device: torch.device) -> ImageLoss:
    return F.mse_loss


def _lpips(device: torch.device) -> ImageLoss:
    from criteria.lpips_loss import LPIPSLoss

    return LPIPSLoss().to(device)


def _lpips_scale(device: torch.device) -> ImageLoss:
    from criteria.lpips_loss import LPIPSScaleLoss

    return LPIPSScaleLoss().to(device)


def _id(device: torch.device) -> ImageLoss:
    from criteria.id_loss import IDLoss

    return IDLoss().to(device)


def _id_vit(device: torch.device) -> ImageLoss:
    from criteria.id_vit import IDViTLoss

    return IDViTLoss().to(device)


def _moco(device: torch.device) -> ImageLoss:
    from criteria.moco import MocoLoss

    return MocoLoss().to(device)


# Networks are imported only if their coefficient is not 0.
IMAGE_LOSSES: dict[str, Callable[[torch.device], ImageLoss]] = {
    "l2": _l2,
    "lpips": _lpips,
    "lpips_scale": _lpips_scale,
    "id": _id,
    "id_vit": _id_vit,
    "moco": _moco,
}
FEATURE_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"feat_rec": F.mse_loss, "feat_rec_l1": F.l1_loss}
