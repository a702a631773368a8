"""IR and IR-SE bodies (ArcFace, arXiv 1801.07698), as e4e and the face recognition networks use them."""

from torch import Tensor, nn

from models.backbone import Projection, conv3


class SqueezeExcite(nn.Module):
    """Scale each channel by a gate read from the channels' means (arXiv 1709.01507)."""

    REDUCTION = 16

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(1, channels // self.REDUCTION)
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, hidden, 1, bias=False)
        self.relu = nn.ReLU()
        self.fc2 = nn.Conv2d(hidden, channels, 1, bias=False)
        self.sigmoid = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.sigmoid(self.fc2(self.relu(self.fc1(self.avg_pool(x)))))


class IRBlock(nn.Module):
    """BN, conv3, PReLU, conv3 with the stride, BN, [SE], plus a strided pick of the input or 1×1 conv with BN."""

    def __init__(self, in_channels: int, channels: int, stride: int, squeeze_excite: bool) -> None:
        super().__init__()
        self.shortcut_layer: nn.Module
        if in_channels == channels:
            self.shortcut_layer = nn.MaxPool2d(1, stride)
        else:
            self.shortcut_layer = nn.Sequential(
                Projection(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(in_channels), conv3(in_channels, channels), nn.PReLU(channels),
            conv3(channels, channels, stride), nn.BatchNorm2d(channels),
            *([SqueezeExcite(channels)] if squeeze_excite else []),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.res_layer(x) + self.shortcut_layer(x)


class IRBody(nn.Module):
    """Stem and four stages, each of which halves the resolution: S×S → S/16×S/16."""

    def __init__(self, widths: list[int], blocks: list[int], squeeze_excite: bool) -> None:
        """`widths`: stem and four stages; `blocks`: how many blocks each stage has (IR-50: 3, 4, 14, 3)."""
        super().__init__()
        self.input_layer = nn.Sequential(conv3(3, widths[0]), nn.BatchNorm2d(widths[0]), nn.PReLU(widths[0]))
        units, previous = [], widths[0]
        for width, count in zip(widths[1:], blocks, strict=True):
            for n in range(count):
                units.append(IRBlock(previous, width, 2 if n == 0 else 1, squeeze_excite))
                previous = width
        self.body = nn.Sequential(*units)
        self._ends = [sum(blocks[: i + 1]) - 1 for i in range(len(blocks))]

    def stages(self, x: Tensor) -> list[Tensor]:
        """x B×3×S×S → the outputs of the four stages."""
        x = self.input_layer(x)
        outputs = []
        for i, unit in enumerate(self.body):
            x = unit(x)
            if i in self._ends:
                outputs.append(x)
        return outputs
