"""Measures for evaluating the methods of a domain: its attribute predictor, SSIM and time."""

import statistics
import time
from collections.abc import Callable, Iterable
from itertools import islice

import torch
from torch import Tensor

from arguments.domain import DomainConfig
from configs.paths import weight_file
from criteria.predictor_loss import PredictorLoss
from utils.errors import UserError

BATCH = 20
TIMED_IMAGES = 30  # whose median time counts


class DomainMetrics:
    """Measures images, B×3×size×size float32 in [-1, 1], by the domain's predictor. Results are on the CPU."""

    def __init__(self, domain: DomainConfig, device: torch.device) -> None:
        """Raises UserError for a domain without a predictor, or where its file is missing."""
        if "predictor" not in domain.weights:
            raise UserError(f"domain {domain.name} has no weights.predictor; it is what measures the edits")
        self.traits, self.device = domain.traits, device
        self.distance = PredictorLoss(weight_file(domain.weights["predictor"])).to(device)
        self.predictor = self.distance.predictor

    def attributes(self, images: Tensor) -> Tensor:
        """The most likely value of every attribute, as its index: B×A int64."""
        values = [
            torch.stack([logits.argmax(dim=1) for logits in self.predictor(part.to(self.device)).values()], dim=1)
            for part in images.split(BATCH)
        ]
        return torch.cat(values).cpu()

    def log_odds(self, images: Tensor, trait_name: str) -> Tensor:
        """Of a trait of the domain: B."""
        trait = self.traits[trait_name]
        parts = (self.predictor(part.to(self.device)) for part in images.split(BATCH))
        return torch.cat([self.predictor.log_odds(logits, trait.attribute, trait.values) for logits in parts]).cpu()

    def distances(self, fake: Tensor, real: Tensor) -> Tensor:
        """LPIPS-like distances of pairs (criteria/predictor_loss.py): B."""
        pairs = zip(fake.split(BATCH), real.split(BATCH), strict=True)
        return torch.cat([self.distance.distances(a.to(self.device), b.to(self.device)).cpu() for a, b in pairs])

    def embeddings(self, images: Tensor) -> Tensor:
        """B×D. The Fréchet distance of the Gaussians of two sets of them is like FID."""
        return torch.cat([self.predictor.embedding(part.to(self.device)) for part in images.split(BATCH)]).cpu()


def ssim(fake: Tensor, real: Tensor) -> Tensor:
    """Structural similarity (Wang et al., 2004) of B pairs in [-1, 1], B; window 11, σ 1.5."""
    import piq

    return piq.ssim((fake + 1) / 2, (real + 1) / 2, data_range=1.0, reduction="none")


def milliseconds_per_image(method: Callable[[Tensor], Tensor], images: Iterable[Tensor]) -> float:
    """The median over the first TIMED_IMAGES, 1×3×H×W each."""
    times = []
    for image in islice(images, TIMED_IMAGES):
        start = time.perf_counter()
        method(image).cpu()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def rounded(images: Tensor) -> Tensor:
    """Images in [-1, 1] as a file of 8 bits holds them, on the CPU."""
    return images.clamp(-1, 1).add(1).mul(127.5).round().div(127.5).sub(1).cpu()
