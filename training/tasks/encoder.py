"""Training of a domain's W+ encoder (e4e, arXiv 2102.02766) from real and generated images.

e4e keeps its latents near the generator's by a discriminator of latents. Here generated images do that: half of each
batch is drawn from the generator, and the encoder learns their known w.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Adam
from torchvision.utils import make_grid

from arguments.domain import DomainConfig
from arguments.loop_options import EncoderTrainConfig
from configs.paths import weight_file
from criteria.predictor_loss import PredictorLoss
from datasets.scores import Scores
from models.e4e import E4E
from models.weights import load_generator, save
from training.distributed import Process, synchronise_batch_norm
from training.loggers import Sheet
from training.optimizers import set_cosine_lr
from training.precision import in_layout
from training.state import TrainState
from training.tasks.generator import mixed_w
from training.tasks.network import NetworkTask
from utils.devices import send
from utils.images import to_image
from utils.modes import eval_mode

MIXING = 0.5  # probability that a generated image has two w
SAMPLES = 16  # images shown with their inversions at every checkpoint


class EncoderTask(NetworkTask):
    """The encoder, its optimizer, and the frozen generator.

    Besides what every run writes: `e4e.pt`, and `samples/`, pairs of image and inversion.
    """

    name = "encoder"

    def __init__(self, config: EncoderTrainConfig, domain: DomainConfig, process: Process) -> None:
        self.options = config.train
        self.scores: Scores | None = None
        if self.options.scores:
            self.scores = Scores(config.data.train_dir, domain.generator.style_dim)
        super().__init__(config, domain, process)

    def build(self) -> TrainState:
        domain, options, device = self.domain, self.options, self.device
        self.decoder = load_generator(weight_file(domain.weights["generator"]), domain.generator).to(device)
        self.encoder = in_layout(E4E(domain).to(device), self.layout).train()
        synchronise_batch_norm(self.encoder, device)
        self.optimizer = Adam(self.encoder.parameters(), options.lr)
        self.distance: PredictorLoss | None = None
        if options.predictor:
            self.distance = PredictorLoss(weight_file(domain.weights["predictor"])).to(device)
        return TrainState(
            {"encoder": self.encoder}, {"encoder_opt": self.optimizer}, {"pictures": self.images},
            self.decoder.latent_avg,
        )  # fmt: skip

    def learn(self, step: int, images: Tensor) -> Mapping[str, Tensor]:
        """The second half of the batch is replaced by generated images."""
        options = self.options
        set_cosine_lr(self.optimizer, options.lr, step, options.steps)
        self.shown = images[:SAMPLES]
        generated = len(images) // 2
        with torch.no_grad():
            w = mixed_w(self.decoder, generated, MIXING, self.device)
            images = torch.cat([images[: len(images) - generated], self.decoder(self.decoder.affine(w))])
            if self.scores is not None:
                w = torch.cat([self._known_w(self.scores, len(images) - generated), w])
        with self.precision.autocast():
            offsets = self.encoder(self._resize(images))
            decoded = self._decode(offsets)
        losses = {
            "l2": options.l2 * F.mse_loss(decoded.float(), images),
            "w": options.w * F.mse_loss((offsets[-len(w) :] + self.decoder.latent_avg).float(), w),
            "delta": options.delta * (offsets - offsets[:, :1]).float().square().sum(dim=2).mean(),
        }
        if self.distance is not None:
            losses["predictor"] = options.predictor * self.distance(decoded.float(), images)
        self.precision.backward(torch.stack(list(losses.values())).sum())
        return losses

    def _known_w(self, scores: Scores, count: int) -> Tensor:
        """w of the batch's first `count` images, count×n_styles×D."""
        z = send(scores.latents(self.batch.names[:count], self.batch.flipped[:count]), self.device)
        return self.decoder.mapping(z)[:, None].expand(-1, self.decoder.config.n_styles, -1)

    def export(self, folder: Path) -> Sheet:
        encoder = {f"encoder.{key}": value for key, value in self.encoder.state_dict().items()}
        save({"state_dict": encoder}, folder / "e4e.pt")
        with eval_mode(self.encoder):
            decoded = self._decode(self.encoder(self._resize(self.shown)))
        pairs = torch.stack([self.shown, decoded], dim=1).flatten(0, 1)
        return Sheet("samples", to_image(make_grid(pairs.clamp(-1, 1), nrow=8, padding=0)))

    def _decode(self, offsets: Tensor) -> Tensor:
        """The images of the encoder's offsets."""
        return self.decoder(self.decoder.affine(offsets + self.decoder.latent_avg))

    def _resize(self, images: Tensor) -> Tensor:
        """The images at the encoder's size."""
        size = self.domain.encoder_size
        if images.shape[-1] == size:
            return images
        return F.interpolate(images, size=(size, size), mode="bilinear", align_corners=False)
