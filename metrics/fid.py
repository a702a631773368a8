"""Fréchet Inception distance (arXiv 1706.08500), in the convention of pytorch-fid."""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from configs.paths import Paths, weight_file
from metrics.base import FULL, Metric, unit
from models.weights import load_frozen, read_tensors
from utils.errors import UserError
from utils.files import atomic_path

FEATURES = 2048  # of Inception's last pooling
_SOURCE = "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"


def load_inception(path: Path) -> nn.Module:
    """TensorFlow's Inception of 2015 as pytorch-fid ported it, without the classifier: B×3×299×299 → B×2048, frozen."""
    if not path.is_file():
        raise UserError(
            f"{path}, which FID needs, does not exist; fetch it from {_SOURCE}{path.name} or with: "
            f"python scripts/download_weights.py --only {path.name}"
        )
    return load_frozen(inception, read_tensors(path), str(path), ignored=("fc.", "AuxLogits."))


def inception() -> nn.Module:
    """The network of `load_inception`, without weights."""
    from pytorch_fid.inception import FIDInceptionA, FIDInceptionC, FIDInceptionE_1, FIDInceptionE_2
    from torchvision.models import Inception3

    network = Inception3(aux_logits=False, init_weights=False)
    network.Mixed_5b = FIDInceptionA(192, pool_features=32)
    network.Mixed_5c = FIDInceptionA(256, pool_features=64)
    network.Mixed_5d = FIDInceptionA(288, pool_features=64)
    network.Mixed_6b = FIDInceptionC(768, channels_7x7=128)
    network.Mixed_6c = FIDInceptionC(768, channels_7x7=160)
    network.Mixed_6d = FIDInceptionC(768, channels_7x7=160)
    network.Mixed_6e = FIDInceptionC(768, channels_7x7=192)
    network.Mixed_7b = FIDInceptionE_1(1280)
    network.Mixed_7c = FIDInceptionE_2(2048)
    network.fc = nn.Identity()
    return network


@dataclass(frozen=True)
class Gaussian:
    """Mean (D) and covariance (D×D, divisor n − 1) of features, float64."""

    mean: np.ndarray
    covariance: np.ndarray

    @classmethod
    def of(cls, features: Tensor) -> "Gaussian":
        """Of n×D features in memory."""
        numbers = features.double().cpu().numpy()
        return cls(numbers.mean(axis=0), np.cov(numbers, rowvar=False))

    def save(self, path: Path) -> None:
        """As `.npz`, in the layout that pytorch-fid reads and writes."""
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, mu=self.mean, sigma=self.covariance)

    @classmethod
    def load(cls, path: Path) -> "Gaussian":
        """Raises UserError if the file is missing or holds no such statistics."""
        if not path.is_file():
            raise UserError(f"{path} does not exist; wanted: FID statistics that --save_fid_stats or pytorch-fid wrote")
        try:
            with np.load(path, allow_pickle=False) as content:
                mean, covariance = content["mu"].astype(np.float64), content["sigma"].astype(np.float64)
        except (OSError, ValueError, KeyError, AttributeError, zipfile.BadZipFile) as error:
            raise UserError(f"{path} holds no FID statistics ({error}); wanted: an .npz of mu and sigma") from None
        if mean.shape != (FEATURES,) or covariance.shape != (FEATURES, FEATURES):
            raise UserError(
                f"{path} holds statistics of shape {mean.shape} and {covariance.shape}; wanted: those of {FEATURES} "
                "Inception features"
            )
        return cls(mean, covariance)


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """|mean difference|² + tr(A + B − 2·√(A·B)).

    With A = R·Rᵀ and B = S·Sᵀ, tr √(A·B) is the sum of the singular values of Rᵀ·S. Unlike the root of A·B, this is
    exact to rounding also for covariances without full rank, as of sets with fewer images than features.
    """
    difference = a.mean - b.mean
    cross = torch.linalg.svdvals(_root(a.covariance).T @ _root(b.covariance)).sum().item()
    return float(difference @ difference + np.trace(a.covariance) + np.trace(b.covariance) - 2 * cross)


def _root(matrix: np.ndarray) -> Tensor:
    """D×D positive semidefinite, of rank k → D×k whose product with its transpose is `matrix`."""
    values, vectors = torch.linalg.eigh(torch.from_numpy(matrix))
    kept = values > values.max() * len(values) * torch.finfo(values.dtype).eps
    return vectors[:, kept] * values[kept].sqrt()


class FeatureStatistics:
    """Mean and covariance of a stream of features; memory does not depend on their number."""

    def __init__(self) -> None:
        self.count = 0
        self.sum = torch.zeros(FEATURES, dtype=torch.float64)
        self.products = torch.zeros(FEATURES, FEATURES, dtype=torch.float64)

    def add(self, features: Tensor) -> None:
        """features: n×2048."""
        features = features.double().cpu()
        self.count += len(features)
        self.sum += features.sum(dim=0)
        self.products.addmm_(features.T, features)

    def merge(self, other: "FeatureStatistics") -> None:
        self.count += other.count
        self.sum += other.sum
        self.products += other.products

    def gaussian(self) -> Gaussian:
        """Raises UserError for fewer than two images."""
        if self.count < 2:
            raise UserError(f"FID was given {self.count} images of a set; wanted: 2 or more")
        mean = self.sum / self.count
        covariance = (self.products - self.count * torch.outer(mean, mean)) / (self.count - 1)
        return Gaussian(mean.numpy(), covariance.numpy())


class FID(Metric):
    """Distance between the set of real images and that of fake ones, regardless of pairs."""

    view = FULL
    columns: ClassVar = {"fid": False}

    def __init__(self, device: torch.device, reference: Gaussian | None = None) -> None:
        """`reference`: statistics that replace the real images, which are then not read."""
        super().__init__(device)
        self.network = load_inception(weight_file(Paths.inception)).to(device)
        self.reference = reference
        self.real, self.fake = FeatureStatistics(), FeatureStatistics()

    @torch.inference_mode()
    def features(self, images: Tensor) -> Tensor:
        """B×3×H×W uint8 → B×2048."""
        small = F.interpolate(unit(images, self.device), size=(299, 299), mode="bilinear", align_corners=False)
        return self.network(2 * small - 1)

    def add(self, real: Tensor, fake: Tensor, names: Sequence[str]) -> None:
        self.add_real(real)
        self.add_fake(fake)

    def add_real(self, images: Tensor) -> None:
        """B×3×H×W uint8."""
        if self.reference is None:
            self.real.add(self.features(images))

    def add_fake(self, images: Tensor) -> None:
        """B×3×H×W uint8."""
        self.fake.add(self.features(images))

    def reference_statistics(self) -> Gaussian:
        """Those of the real images."""
        return self.real.gaussian() if self.reference is None else self.reference

    def compute(self) -> dict[str, float]:
        return {"fid": frechet_distance(self.reference_statistics(), self.fake.gaussian())}

    def state(self) -> tuple[FeatureStatistics, FeatureStatistics]:
        return self.real, self.fake

    def merge(self, state: tuple[FeatureStatistics, FeatureStatistics]) -> None:
        self.real.merge(state[0])
        self.fake.merge(state[1])
