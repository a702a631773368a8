"""The endless stream of training images: shuffled by a seed, and resumable at any sample."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datasets.images import relative_names
from utils.devices import send
from utils.errors import UserError
from utils.images import load_square, normalize, to_pixels
from utils.parallel import ahead

logger = logging.getLogger(__name__)

FLIP_PROBABILITY = 0.5


@dataclass(frozen=True)
class Batch:
    """Training images and their files."""

    pixels: Tensor  # B×3×size×size, uint8
    names: list[str]
    flipped: Tensor  # B, bool: mirrored left and right

    def images(self, device: torch.device) -> Tensor:
        """B×3×size×size float32 in [-1, 1] on the device: one copy of bytes, which a GPU does not wait for."""
        return normalize(send(self.pixels, device))


@dataclass(frozen=True)
class _Sample:
    pixels: Tensor  # 3×size×size, uint8
    name: str
    flipped: bool
    damaged: dict[str, str]  # file -> what is wrong with it, of the files that this sample replaces


class TrainingImages:
    """Every sample is a function of (seed, position), so neither threads nor restarts change the stream.

    Each epoch shuffles the images again and, with `mirror`, flips half of them. Of `ranks` processes, number `rank`
    reads the positions rank, rank + ranks, …: so N processes with batch B see at every step what one with batch N·B
    would, and the discriminator's interleaved groups are the same too. A damaged image is replaced by
    the next in the folder.
    """

    def __init__(
        self, folder: str | Path, size: int, seed: int, workers: int, rank: int = 0, ranks: int = 1,
        mirror: bool = True,
    ) -> None:  # fmt: skip
        """`workers`: threads that read ahead. Raises UserError if the folder is missing or has no image."""
        self.folder, self.size = Path(folder), size
        self.names = relative_names(self.folder)
        self.damaged: dict[str, str] = {}  # file -> what is wrong with it
        self.mirror = mirror
        self.position = 0  # samples read by all processes together
        self._seed, self._workers, self._rank, self._ranks = seed, workers, rank, ranks
        self._samples: Iterator[_Sample] | None = None

    def next_batch(self, size: int) -> Batch:
        """The next `size` images of this process. Raises UserError if no image of the folder can be read."""
        if self._samples is None:
            # Neither refers to this object, so that its threads end as soon as it is dropped, and not in the thread
            # that collects garbage, where waiting for them could block forever.
            positions = count(self.position + self._rank, self._ranks)
            draws = _draws(positions, len(self.names), self._seed, self.mirror)
            self._samples = ahead(partial(_read, self.folder, self.names, self.size), draws, self._workers)
        samples = list(islice(self._samples, size))
        self.position += size * self._ranks
        for name, reason in {name: reason for sample in samples for name, reason in sample.damaged.items()}.items():
            if name not in self.damaged:
                self.damaged[name] = reason
                logger.warning("skipped training image %d of %d: %s", len(self.damaged), len(self.names), reason)
        flipped = torch.tensor([sample.flipped for sample in samples])
        return Batch(torch.stack([sample.pixels for sample in samples]), [sample.name for sample in samples], flipped)

    def state_dict(self) -> dict[str, int]:
        return {"position": self.position, "pictures": len(self.names)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue at the sample where the state was saved."""
        if state["pictures"] != len(self.names):
            logger.warning(
                "%s holds %d images, %d when the checkpoint was written: their order has changed",
                self.folder, len(self.names), state["pictures"],
            )  # fmt: skip
        self.position = state["position"]
        self._samples = None


def _draws(positions: Iterator[int], size: int, seed: int, mirror: bool) -> Iterator[tuple[int, bool]]:
    """(image, flip) at each position."""
    epoch, order, flips = -1, np.empty(0, int), np.empty(0, bool)
    for position in positions:
        if position // size != epoch:
            epoch = position // size
            random = np.random.default_rng((seed, epoch))
            order = random.permutation(size)
            flips = random.random(size) < (FLIP_PROBABILITY if mirror else 0)
        yield int(order[position % size]), bool(flips[position % size])


def _read(folder: Path, names: list[str], size: int, draw: tuple[int, bool]) -> _Sample:
    index, flip = draw
    damaged: dict[str, str] = {}
    for offset in range(len(names)):
        name = names[(index + offset) % len(names)]
        try:
            pixels = to_pixels(load_square(folder / name, size)).contiguous()
        except UserError as error:
            damaged[name] = str(error)
            continue
        return _Sample(pixels.flip(-1) if flip else pixels, name, flip, damaged)
    first = next(iter(damaged.values()))
    raise UserError(f"{folder}: none of its {len(names)} images can be read; the first: {first}")
