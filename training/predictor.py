"""Training of a domain's attribute predictor from labelled pictures."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Adam

from arguments.loop_options import PredictorTrainArgs
from datasets.labels import HIDDEN
from models.predictor import Predictor
from training.generator import channels_last
from training.optimizers import set_cosine_lr

NOISE = 0.1  # the largest standard deviation of the noise on pictures


class PredictorTrainer:
    """The predictor and its optimizer."""

    def __init__(self, attributes: dict[str, list[str]], options: PredictorTrainArgs, device: torch.device) -> None:
        self.options, self.device = options, device
        self.predictor = channels_last(Predictor(attributes).to(device)).train()
        self.optimizer = Adam(self.predictor.parameters(), options.lr)

    def step(self, number: int, images: Tensor, labels: dict[str, Tensor]) -> dict[str, float]:
        """images B×3×S×S in [-1, 1]; labels: attribute -> indices B, or HIDDEN. Returns the losses by name."""
        set_cosine_lr(self.optimizer, self.options.lr, number, self.options.steps)
        images = _spoil(images.to(self.device, memory_format=torch.channels_last))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.options.precision == "bf16"):
            logits = self.predictor(images)
        losses, right, shown = [], 0, 0
        for name, label in labels.items():
            label = label.to(self.device)
            if (seen := label != HIDDEN).any():
                losses.append(F.cross_entropy(logits[name].float(), label, ignore_index=HIDDEN))
                right += int((logits[name].argmax(dim=1) == label)[seen].sum())
                shown += int(seen.sum())
        loss = torch.stack(losses).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"cross_entropy": float(loss.detach()), "accuracy": right / shown}


def _spoil(images: Tensor) -> Tensor:
    """Noise, and blur by a smaller size, each of random strength: generated pictures are not as clean as drawn ones."""
    size = images.shape[-1]
    smaller = int(torch.randint(size // 2, size + 1, ()))
    if smaller < size:
        images = F.interpolate(images, size=(smaller, smaller), mode="bilinear", antialias=True)
        images = F.interpolate(images, size=(size, size), mode="bilinear")
    strength = NOISE * torch.rand(len(images), 1, 1, 1, device=images.device)
    return images + strength * torch.randn_like(images)
