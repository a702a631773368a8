"""The interface of metrics: accumulators over pairs of images."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor


@dataclass(frozen=True)
class View:
    """The size at which a metric reads images: size×size px, scaled by Pillow; None: their own.

    Images have 8 bits, as in files, so a tensor and the file written from it give the same numbers.
    """

    size: int | None = None
    resample: Image.Resampling = Image.Resampling.BILINEAR

    def __call__(self, image: Image.Image) -> Tensor:
        """RGB image → 3×H×W uint8."""
        if self.size is not None and image.size != (self.size, self.size):
            image = image.resize((self.size, self.size), self.resample)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)


FULL = View()
AT_256 = View(256)
AT_1024 = View(1024, Image.Resampling.BICUBIC)


class Metric(ABC):
    """Takes pairs in batches and gives numbers at the end; can be distributed over processes.

    Its networks are read by the constructor, so a missing weight file is reported before the first image.
    """

    view: ClassVar[View]
    columns: ClassVar[dict[str, bool]]  # name of each number -> whether higher is better

    def __init__(self, device: torch.device) -> None:
        self.device = device

    @abstractmethod
    def add(self, real: Tensor, fake: Tensor, names: Sequence[str]) -> None:
        """Add pairs as `view` gives them: two B×3×H×W uint8 on the CPU, and a name for each pair."""

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """Each column's number over all pairs so far; NaN if there are too few."""

    @property
    def scores(self) -> dict[str, tuple[float, ...]]:
        """Pair -> its numbers in the order of `columns`; empty if the metric measures only whole sets."""
        return {}

    @property
    def skipped(self) -> list[str]:
        """Pairs that could not be measured."""
        return []

    @abstractmethod
    def state(self) -> Any:
        """Everything that was added, to be sent to another process."""

    @abstractmethod
    def merge(self, state: Any) -> None:
        """Add the `state` of another process's metric."""


class PairMetric(Metric):
    """A metric that is a mean over pairs. Pairs of the same name count once."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self._scores: dict[str, tuple[float, ...]] = {}

    @abstractmethod
    def measure(self, real: Tensor, fake: Tensor) -> Tensor:
        """Two B×3×H×W uint8 on the CPU → B×columns; NaN where a pair cannot be measured."""

    def add(self, real: Tensor, fake: Tensor, names: Sequence[str]) -> None:
        with torch.inference_mode():
            rows = self.measure(real, fake).tolist()
        self._scores |= {name: tuple(row) for name, row in zip(names, rows, strict=True)}

    def compute(self) -> dict[str, float]:
        columns = list(zip(*self.scores.values(), strict=True)) or [()] * len(self.columns)
        return {
            name: math.fsum(values) / len(values) if values else math.nan  # exact sums do not depend on the order
            for name, values in zip(self.columns, columns, strict=True)
        }

    @property
    def scores(self) -> dict[str, tuple[float, ...]]:
        return {name: row for name, row in sorted(self._scores.items()) if not any(map(math.isnan, row))}

    @property
    def skipped(self) -> list[str]:
        return sorted(name for name, row in self._scores.items() if any(map(math.isnan, row)))

    def state(self) -> dict[str, tuple[float, ...]]:
        return self._scores

    def merge(self, state: dict[str, tuple[float, ...]]) -> None:
        self._scores |= state


def unit(images: Tensor, device: torch.device) -> Tensor:
    """uint8 → float32 in [0, 1] on the device."""
    return images.to(device).float() / 255


def signed(images: Tensor, device: torch.device) -> Tensor:
    """uint8 → float32 in [-1, 1] on the device."""
    return images.to(device).float() / 127.5 - 1
