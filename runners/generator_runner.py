"""Training of a domain's generator."""

import logging

import torch
from PIL import Image
from torchvision.utils import make_grid

from arguments.loop_options import GeneratorTrainConfig
from configs.paths import weight_file
from datasets.training_images import Batch
from models.weights import save
from runners.loop_runner import LoopRunner
from training.generator import GeneratorTrainer
from training.state import TrainState, adopt
from utils.images import to_image

logger = logging.getLogger(__name__)

SAMPLES = 64  # pictures of the same z at every checkpoint


class GeneratorRunner(LoopRunner):
    """Beside what every run writes: `generators/step_{step}.pt`, the averaged generator, all of which are kept, so that
    the best can be found afterwards; and `samples/`.
    """

    name = "generator"
    config: GeneratorTrainConfig

    def build(self) -> TrainState:
        generator = self.domain.generator
        self.trainer = trainer = GeneratorTrainer(generator, self.config.train, self.device)
        seed = torch.Generator().manual_seed(self.config.exp.seed)
        self.sample_z = torch.randn(SAMPLES, generator.style_dim, generator=seed)
        networks = {"generator": trainer.generator, "g_ema": trainer.average, "discriminator": trainer.discriminator}
        if start := self.config.train.start_from:
            logger.info("took over %d tensors of %s", adopt(networks, list(map(weight_file, start))), ", ".join(start))
        return TrainState(
            networks,
            {"generator_opt": trainer.generator_opt, "disc_opt": trainer.disc_opt},
            {"pictures": self.pictures, "path_length": trainer.path_length},
            trainer.latent_avg(),
        )

    def learn(self, step: int, batch: Batch) -> dict[str, float]:
        return self.trainer.step(step, batch.images)

    def export(self) -> Image.Image:
        average, self.state.latent_avg = self.trainer.average, self.trainer.latent_avg()
        generator = {"g_ema": average.state_dict(), "latent_avg": self.state.latent_avg}
        save(generator, self.folder / "generators" / f"step_{self.state.step:07d}.pt")
        w = average.mapping(self.sample_z.to(self.device))[:, None]
        pictures = average(average.affine(w.expand(-1, average.config.n_styles, -1)))
        return to_image(make_grid(pictures.clamp(-1, 1), nrow=8, padding=0).cpu())
