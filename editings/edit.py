"""The interfaces of edits and families of edits, and the two edits that most families make."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from editings.clip_text import ClipEncoder
from models.stylegan2.generator import Styles

Range = tuple[float, float]  # the lowest and the highest power that still look natural
LatentT = TypeVar("LatentT")


class Edit(Protocol[LatentT]):
    """One direction, ready for use: its tensors are on the latent's device, in the latent's dtype."""

    def __call__(self, latent: LatentT, power: Tensor, image: Tensor | None) -> LatentT:
        """The *move*, to be added to `latent`, for power B (one per row).

        `latent` is w (B×n_styles×D) or the styles (a list of B×C), and so is the move. `image` is the edited image,
        B×3×H×W or 1×3×H×W in [-1, 1]; only DeltaEdit reads it.
        """


@dataclass(frozen=True)
class Resources:
    """What the families of one editor share. Files are read at their first use."""

    folder: Path  # of the direction files
    device: torch.device
    encoders: dict[tuple[Path, Path], ClipEncoder]

    def clip(self, weights: Path, templates: str) -> ClipEncoder:
        """The CLIP of both text families: one network, and every phrase is embedded once."""
        key = (weights, self.folder / templates)
        if key not in self.encoders:
            self.encoders[key] = ClipEncoder(*key, self.device)
        return self.encoders[key]


class Family(ABC, Generic[LatentT]):
    """A kind of edits: makes an `Edit` for a direction's name, from the domain's data."""

    def __init__(self, spec: Mapping[str, Any], resources: Resources) -> None:
        self.spec = spec
        self.resources = resources
        self.directions: dict[str, Range] = self.read_directions()

    def read_directions(self) -> dict[str, Range]:
        """Name -> useful powers."""
        return {name: as_range(entry["range"]) for name, entry in self.spec["directions"].items()}

    def knows(self, name: str) -> bool:
        return name in self.directions

    def useful_range(self, name: str) -> Range:
        return self.directions[name]

    def files(self, name: str) -> list[Path]:
        """The files that the edit reads."""
        entries = (self.spec, self.spec["directions"].get(name, {}))
        return [self.resources.folder / entry["file"] for entry in entries if "file" in entry]

    @abstractmethod
    def edit(self, name: str, like: LatentT) -> Edit[LatentT]:
        """Read the direction's files and prepare it for latents shaped as `like`.

        Raises UserError for a file that is missing, damaged, or made for another generator.
        """


class WFamily(Family[Tensor]):
    """Edits that move w (B×n_styles×D)."""


class SFamily(Family[Styles]):
    """Edits that move StyleSpace: a list of B×C, one per conv and toRGB."""


@dataclass(frozen=True)
class LinearW:
    """power · direction, for a direction of 1×D (the same for all styles) or n_styles×D."""

    direction: Tensor

    def __call__(self, latent: Tensor, power: Tensor, image: Tensor | None) -> Tensor:
        return (power[:, None, None] * self.direction).expand_as(latent)


@dataclass(frozen=True)
class LinearS:
    """power · direction, for a direction of one vector (C) per layer."""

    direction: list[Tensor]

    def __call__(self, latent: Styles, power: Tensor, image: Tensor | None) -> Styles:
        return [power[:, None] * layer for layer in self.direction]


def conv_layers(n_layers: int) -> list[int]:
    """Which of the StyleSpace layers are convolutions; the others (1, 4, 7, …) are toRGB."""
    return [layer for layer in range(n_layers) if layer % 3 != 1]


def as_range(values: Any) -> Range:
    low, high = values
    return float(low), float(high)
