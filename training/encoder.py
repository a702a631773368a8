"""Training of a domain's W+ encoder (e4e, arXiv 2102.02766) from pictures and from the generator's own.

e4e keeps its latents near the generator's by a discriminator of latents. Here pictures whose w is known do that: half
of each batch are drawn from the generator, and the encoder learns their w.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Adam

from arguments.domain import DomainConfig
from arguments.loop_options import EncoderTrainArgs
from configs.paths import weight_file
from criteria.predictor_loss import PredictorLoss
from models.e4e import E4E
from models.weights import load_generator
from training.generator import channels_last, mixed_w
from training.optimizers import set_cosine_lr

MIXING = 0.5  # probability that a generated picture has two w


class EncoderTrainer:
    """The encoder, its optimizer, and the frozen generator."""

    def __init__(self, domain: DomainConfig, options: EncoderTrainArgs, device: torch.device) -> None:
        self.options, self.device, self.size = options, device, domain.encoder_size
        self.decoder = load_generator(weight_file(domain.weights["generator"]), domain.generator).to(device)
        self.encoder = channels_last(E4E(domain).to(device)).train()
        self.optimizer = Adam(self.encoder.parameters(), options.lr)
        self.distance: PredictorLoss | None = None
        if options.predictor:
            self.distance = PredictorLoss(weight_file(domain.weights["predictor"])).to(device)

    def step(self, number: int, images: Tensor) -> dict[str, float]:
        """images B×3×size×size in [-1, 1]; the second half of them gives way to the generator's. Returns the losses."""
        options = self.options
        set_cosine_lr(self.optimizer, options.lr, number, options.steps)
        known = len(images) // 2
        with torch.no_grad():
            w = mixed_w(self.decoder, known, MIXING, self.device)
            images = torch.cat([images[: len(images) - known].to(self.device), self.decoder(self.decoder.affine(w))])
        with torch.autocast(self.device.type, torch.bfloat16, enabled=options.precision == "bf16"):
            offsets = self.encoder(self._shrink(images))
            found = self.decode(offsets)
        losses = {
            "l2": options.l2 * F.mse_loss(found.float(), images),
            "w": options.w * F.mse_loss((offsets[-known:] + self.decoder.latent_avg).float(), w),
            "delta": options.delta * (offsets - offsets[:, :1]).float().square().sum(dim=2).mean(),
        }
        if self.distance is not None:
            losses["predictor"] = options.predictor * self.distance(found.float(), images)
        total = torch.stack(list(losses.values())).sum()
        self.optimizer.zero_grad()
        total.backward()
        self.optimizer.step()
        return {name: float(loss.detach()) for name, loss in losses.items()}

    def decode(self, offsets: Tensor) -> Tensor:
        """The pictures of the encoder's offsets."""
        return self.decoder(self.decoder.affine(offsets + self.decoder.latent_avg))

    def encode(self, images: Tensor) -> Tensor:
        """Offsets of B×3×size×size pictures."""
        return self.encoder(self._shrink(images.to(self.device)))

    def _shrink(self, images: Tensor) -> Tensor:
        if images.shape[-1] == self.size:
            return images
        return F.interpolate(images, size=(self.size, self.size), mode="bilinear", align_corners=False)
