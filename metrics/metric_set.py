"""The metrics by name, and several of them over one stream of pairs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from datasets.images import Pair
from metrics.base import Metric, View
from metrics.distances import L2, LPIPS, MSSSIM
from metrics.fid import FID
from metrics.identity import ID, IDDlib, IDViT
from utils.errors import UserError
from utils.images import load_image, to_image
from utils.processes import gather, rank_and_size

METRICS: dict[str, type[Metric]] = {
    "l2": L2,
    "lpips": LPIPS,
    "msssim": MSSSIM,
    "fid": FID,
    "id": ID,
    "id_vit": IDViT,
    "id_dlib": IDDlib,
}


@dataclass
class Sample:
    """A pair as the metrics read it: view -> 3×H×W uint8."""

    name: str
    real: dict[View, Tensor]
    fake: dict[View, Tensor]


class MetricSet:
    """Metrics that share one pass over the pairs: each image is read, and scaled to a size, once for all of them."""

    def __init__(self, names: Sequence[str], device: torch.device) -> None:
        """Reads the networks of the metrics named. Raises UserError for an unknown name or missing weights."""
        for name in names:
            if name not in METRICS:
                raise UserError(f"there is no metric '{name}'; there are: {', '.join(METRICS)}")
        self.metrics: dict[str, Metric] = {name: METRICS[name](device) for name in names}

    @property
    def columns(self) -> dict[str, bool]:
        """Name of each number -> whether higher is better."""
        return {column: higher for metric in self.metrics.values() for column, higher in metric.columns.items()}

    def read(self, pair: Pair) -> Sample:
        """The pair's files. Raises UserError for a file that cannot be read; safe to call in threads."""
        views = {metric.view for metric in self.metrics.values()}
        real, fake = load_image(pair.real), load_image(pair.fake)
        return Sample(pair.name, {view: view(real) for view in views}, {view: view(fake) for view in views})

    def add(self, samples: Iterable[Sample]) -> None:
        """A batch of pairs."""
        samples = list(samples)
        for metric in self.metrics.values():
            view = metric.view

            def shapes(sample: Sample, view: View = view) -> tuple[torch.Size, torch.Size]:
                return sample.real[view].shape, sample.fake[view].shape

            for _, group in groupby(samples, key=shapes):  # images of one size are one batch
                batch = list(group)
                real, fake = (torch.stack([side[view] for side in sides]) for sides in _sides(batch))
                metric.add(real, fake, [sample.name for sample in batch])

    def update(self, real: Tensor, fake: Tensor, names: Sequence[str]) -> None:
        """A batch of pairs from memory: two B×3×H×W in [-1, 1], rounded to 8 bits as files are."""
        views = {metric.view for metric in self.metrics.values()}
        samples = []
        for name, *pair in zip(names, real, fake, strict=True):
            sides = [{view: view(image) for view in views} for image in map(to_image, pair)]
            samples.append(Sample(name, *sides))
        self.add(samples)

    def compute(self) -> dict[str, float]:
        """The number of every column over all pairs so far."""
        return {column: value for metric in self.metrics.values() for column, value in metric.compute().items()}

    def scores(self) -> dict[str, dict[str, float]]:
        """Column -> pair -> number, for the metrics that measure single pairs."""
        return {
            column: {name: row[i] for name, row in metric.scores.items()}
            for metric in self.metrics.values()
            if metric.scores
            for i, column in enumerate(metric.columns)
        }

    def skipped(self) -> dict[str, list[str]]:
        """Metric -> the pairs that it could not measure."""
        return {name: metric.skipped for name, metric in self.metrics.items() if metric.skipped}

    def state(self) -> dict[str, Any]:
        """Everything that was added, to be sent to another process."""
        return {name: metric.state() for name, metric in self.metrics.items()}

    def merge(self, state: dict[str, Any]) -> None:
        """Add the `state` of another process's set."""
        for name, metric in self.metrics.items():
            metric.merge(state[name])

    def reduce(self) -> None:
        """Collect the pairs of all of torchrun's processes in each of them. Call it once, before `compute`."""
        for rank, state in enumerate(gather(self.state())):
            if rank != rank_and_size()[0]:
                self.merge(state)


def _sides(samples: list[Sample]) -> tuple[list[dict[View, Tensor]], list[dict[View, Tensor]]]:
    return [sample.real for sample in samples], [sample.fake for sample in samples]
