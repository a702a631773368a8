"""Training of a domain's attribute predictor from labelled images."""

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Adam

from arguments.domain import DomainConfig
from arguments.loop_options import PredictorTrainConfig
from datasets.labels import HIDDEN, Labels
from models.predictor import Predictor
from models.weights import save_predictor
from training.distributed import Process, synchronise_batch_norm
from training.optimizers import set_cosine_lr
from training.precision import in_layout
from training.state import TrainState
from training.tasks.network import NetworkTask
from utils.devices import send

NOISE = 0.1  # the largest standard deviation of the noise on images


class PredictorTask(NetworkTask):
    """The predictor and its optimizer. Besides what every run writes: `predictor.pt`."""

    name = "predictor"

    def __init__(self, config: PredictorTrainConfig, domain: DomainConfig, process: Process) -> None:
        self.options = config.train
        self.labels = Labels(config.data.train_dir)
        super().__init__(config, domain, process)

    def build(self) -> TrainState:
        self.predictor = in_layout(Predictor(self.labels.attributes).to(self.device), self.layout).train()
        synchronise_batch_norm(self.predictor, self.device)
        self.optimizer = Adam(self.predictor.parameters(), self.options.lr)
        return TrainState({"predictor": self.predictor}, {"predictor_opt": self.optimizer}, {"pictures": self.images})

    def learn(self, step: int, images: Tensor) -> Mapping[str, Tensor]:
        set_cosine_lr(self.optimizer, self.options.lr, step, self.options.steps)
        labels = self.labels.of(self.batch_names)
        table = send(torch.stack(list(labels.values())), self.device)  # attributes×B
        with self.precision.autocast():
            logits = self.predictor(_spoil(images.contiguous(memory_format=self.layout)))
        losses, hits, shown = [], [], 0
        for (name, label), on_device in zip(labels.items(), table, strict=True):
            if labelled := int((label != HIDDEN).sum()):
                losses.append(F.cross_entropy(logits[name].float(), on_device, ignore_index=HIDDEN))
                hits.append((logits[name].argmax(dim=1) == on_device).sum())  # HIDDEN is never an index
                shown += labelled
        loss = torch.stack(losses).mean() if losses else 0 * sum(value.sum() for value in logits.values())
        self.precision.backward(loss)
        return {"cross_entropy": loss, "accuracy": torch.stack(hits).sum() / shown if hits else 0 * loss}

    def export(self, folder: Path) -> None:
        save_predictor(self.predictor, folder / "predictor.pt")


def _spoil(images: Tensor) -> Tensor:
    """Noise, and blur by a smaller size, each of random strength: generated images are not as clean as drawn ones."""
    size = images.shape[-1]
    smaller = int(torch.randint(size // 2, size + 1, ()))
    if smaller < size:
        images = F.interpolate(images, size=(smaller, smaller), mode="bilinear", antialias=True)
        images = F.interpolate(images, size=(size, size), mode="bilinear")
    strength = NOISE * torch.rand(len(images), 1, 1, 1, device=images.device)
    return images + strength * torch.randn_like(images)
