"""StyleGAN2 generator, skip architecture, with the key layout of `stylegan2-ffhq-config-f.pt`."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from arguments.domain import GeneratorConfig
from models.stylegan2.layers import EqualLinear, PixelNorm, StyledConv, ToRGB, normal

Styles = list[Tensor]  # StyleSpace: one B×C per conv and toRGB, in the order conv, rgb, (conv, conv, rgb) per block


class Constant(nn.Module):
    """The learned 4×4 input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.input = nn.Parameter(normal(1, channels, 4, 4))


class Generator(nn.Module):
    """Synthesis in two steps: `affine` turns w into StyleSpace, `forward` turns StyleSpace into an image.

    Layer outputs are numbered: 0 is the constant, 1 the conv at 4 px, 2 and 3 the convs at 8 px, and so on.
    In train mode every image gets new noise; in eval mode the noise is that of the buffers.
    """

    latent_avg: Tensor

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        channels, dim = config.channels, config.style_dim
        self.style = nn.Sequential(
            PixelNorm(), *(EqualLinear(dim, dim, lr_mul=0.01, activation=True) for _ in range(config.n_mlp))
        )
        self.input = Constant(channels[4])
        self.conv1 = StyledConv(channels[4], channels[4], dim)
        self.to_rgb1 = ToRGB(channels[4], dim)
        self.convs, self.to_rgbs = nn.ModuleList(), nn.ModuleList()
        for low, high in pairwise(config.resolutions):
            self.convs.append(StyledConv(channels[low], channels[high], dim, up=True))
            self.convs.append(StyledConv(channels[high], channels[high], dim))
            self.to_rgbs.append(ToRGB(channels[high], dim))
        self.noises = nn.Module()
        self.noises.register_buffer("noise_0", normal(1, 1, 4, 4))
        for i, size in enumerate(config.resolutions[1:]):
            self.noises.register_buffer(f"noise_{2 * i + 1}", normal(1, 1, size, size))
            self.noises.register_buffer(f"noise_{2 * i + 2}", normal(1, 1, size, size))
        self.register_buffer("latent_avg", torch.zeros(dim, device="cpu"), persistent=False)

    def mapping(self, z: Tensor) -> Tensor:
        """z B×D from N(0, 1) → w B×D."""
        return self.style(z)

    def affine(self, w: Tensor) -> Styles:
        """w B×n_styles×D → the styles of every conv and toRGB.

        The first two layers read w[0] and w[1]; block k reads w[2k+1 … 2k+3], so its toRGB shares a row with the next.
        """
        styles = [self.conv1.conv.modulation(w[:, 0]), self.to_rgb1.conv.modulation(w[:, 1])]
        for k, to_rgb in enumerate(self.to_rgbs):
            layers = (*self.convs[2 * k : 2 * k + 2], to_rgb)
            styles += [layer.conv.modulation(w[:, 2 * k + 1 + i]) for i, layer in enumerate(layers)]
        return styles

    @property
    def last_layer(self) -> int:
        """The number of the last conv's output."""
        return 2 * len(self.to_rgbs) + 1

    def forward(self, styles: Styles) -> Tensor:
        """The image, B×3×size×size, about [-1, 1]."""
        return self.head(*self.trunk(styles, 1), styles, 1)

    def trunk(self, styles: Styles, layer: int) -> tuple[Tensor, Tensor]:
        """Output of `layer` (odd: the second conv of its block) and the RGB image of its resolution."""
        out = self._conv(self.input.input.expand(len(styles[0]), -1, -1, -1), styles, 1)
        return self.blocks(out, self.to_rgb1(out, styles[1]), styles, 1, layer)

    def head(self, out: Tensor, rgb: Tensor, styles: Styles, layer: int) -> Tensor:
        """The image, from what `trunk` gave for `layer`; features may be in the place of its `out`.

        They replace the layer's output just before the next conv reads it: the toRGB of that resolution has read the
        output itself.
        """
        return self.blocks(out, rgb, styles, layer, self.last_layer)[1]

    def blocks(self, out: Tensor, rgb: Tensor, styles: Styles, first: int, last: int) -> tuple[Tensor, Tensor]:
        """Run the blocks whose convs are the layers first + 1 … last."""
        for i in range(first + 1, last, 2):
            out = self._conv(out, styles, i)  # a line each, so that the input is freed before the next
            out = self._conv(out, styles, i + 1)
            rgb = self.to_rgbs[i // 2 - 1](out, styles[3 * (i // 2) + 1], rgb)
        return out, rgb

    def _conv(self, out: Tensor, styles: Styles, layer: int) -> Tensor:
        conv = self.conv1 if layer == 1 else self.convs[layer - 2]
        # Every third of the styles belongs to a toRGB, so the convs 1, 2, 3, 4, … have the styles 0, 2, 3, 5, …
        noise = getattr(self.noises, f"noise_{layer - 1}")
        if self.training:
            noise = torch.randn(len(out), *noise.shape[1:], dtype=noise.dtype, device=noise.device)
        return conv(out, styles[layer - 1 + layer // 2], noise)
