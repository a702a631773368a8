"""A small network that predicts the attributes of an image, such as the hair's colour."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ResidualDown(nn.Module):
    """Half the resolution: conv3 of stride 2, conv3, plus a pooled 1×1 conv."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, 2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.skip = nn.Conv2d(in_channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.skip(F.avg_pool2d(x, 2)))


class Predictor(nn.Module):
    """x B×3×S×S in [-1, 1] → logits of every attribute's values.

    Its stages are used for a perceptual distance (criteria/predictor_loss.py), its embedding for a Fréchet distance.
    """

    WIDTHS = (24, 32, 48, 72, 96)  # after halving the resolution once, twice, …
    POOL = 4  # the last map is pooled to 4×4 px, so that positions count
    EMBEDDING = 128

    def __init__(self, attributes: Mapping[str, Sequence[str]]) -> None:
        """`attributes`: name -> its values, in the order of the logits."""
        super().__init__()
        self.attributes = {name: list(values) for name, values in attributes.items()}
        stem, *widths = self.WIDTHS
        self.stem = nn.Sequential(nn.Conv2d(3, stem, 3, 2, padding=1, bias=False), nn.BatchNorm2d(stem), nn.ReLU())
        self.stages = nn.ModuleList(
            ResidualDown(before, width) for before, width in zip(self.WIDTHS, widths, strict=False)
        )
        self.embed = nn.Linear(widths[-1] * self.POOL**2, self.EMBEDDING)
        self.head = nn.Linear(self.EMBEDDING, sum(map(len, self.attributes.values())))

    def features(self, x: Tensor) -> list[Tensor]:
        """The maps of stem and stages, B×C×h×w."""
        maps = [self.stem(x)]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps

    def embedding(self, x: Tensor) -> Tensor:
        """B×EMBEDDING."""
        return F.relu(self.embed(F.adaptive_avg_pool2d(self.features(x)[-1], self.POOL).flatten(1)))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Attribute -> logits, B×values."""
        logits = self.head(self.embedding(x)).split([len(values) for values in self.attributes.values()], dim=1)
        return dict(zip(self.attributes, logits, strict=True))

    def log_odds(self, logits: Mapping[str, Tensor], attribute: str, values: Sequence[str]) -> Tensor:
        """Log odds that the attribute has one of the values, B, from the logits of `forward`; above 0 means yes."""
        scores = logits[attribute].float()
        wanted = torch.tensor([value in values for value in self.attributes[attribute]], device=scores.device)
        return scores[:, wanted].logsumexp(dim=1) - scores[:, ~wanted].logsumexp(dim=1)
