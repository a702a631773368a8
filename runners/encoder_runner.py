"""Training of a domain's W+ encoder."""

import torch
from PIL import Image
from torchvision.utils import make_grid

from arguments.loop_options import EncoderTrainConfig
from datasets.training_images import Batch
from models.weights import save
from runners.loop_runner import LoopRunner
from training.encoder import EncoderTrainer
from training.state import TrainState
from utils.images import to_image

SAMPLES = 16  # pictures that are shown beside their inversions at every checkpoint


class EncoderRunner(LoopRunner):
    """Beside what every run writes: `e4e.pt`, and `samples/`, pairs of picture and inversion."""

    name = "encoder"
    config: EncoderTrainConfig

    def build(self) -> TrainState:
        self.trainer = trainer = EncoderTrainer(self.domain, self.config.train, self.device)
        return TrainState(
            {"encoder": trainer.encoder}, {"encoder_opt": trainer.optimizer}, {"pictures": self.pictures},
            trainer.decoder.latent_avg,
        )  # fmt: skip

    def learn(self, step: int, batch: Batch) -> dict[str, float]:
        self.shown = batch.images[:SAMPLES]
        return self.trainer.step(step, batch.images)

    def export(self) -> Image.Image:
        trainer = self.trainer
        encoder = {f"encoder.{key}": value for key, value in trainer.encoder.state_dict().items()}
        save({"state_dict": encoder}, self.folder / "e4e.pt")
        trainer.encoder.eval()
        found = trainer.decode(trainer.encode(self.shown)).cpu()
        trainer.encoder.train()
        pairs = torch.stack([self.shown, found], dim=1).flatten(0, 1)
        return to_image(make_grid(pairs.clamp(-1, 1), nrow=8, padding=0))
