"""StyleFeatureEditor (CVPR 2024, arXiv 2406.10601): its networks, and its three steps, for inference and training.

    invert(x):  w = backbone(x) + latent_avg;  F_k = fuser([content(x), F_w(w)])
    delta:      F_w(w_e4e) − F_w(edited w_e4e), set to 0 where a mask leaves the image unedited
    decode:     G(F, styles) with F = F_k (stage 1) or feature_editor([F_k, delta]) (stage 2)

F_w are the decoder's own features at the feature layer, made from w; e4e gives the w in which edits are well behaved.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from arguments.domain import DomainConfig
from models.backbone import Backbone, conv3
from models.e4e import E4E
from models.stylegan2.generator import Generator, Styles

Edits = Sequence[tuple[str, Sequence[float]]]  # direction names, each with its powers


class DirectionEditor(Protocol):
    """Moves latents along directions, as editings.latent_editor.LatentEditor does."""

    def apply(
        self, w: Tensor, edits: Edits, affine: Callable[[Tensor], Styles], image: Tensor | None = None
    ) -> Styles:
        """Styles of w (B×n_styles×D) after all the edits at once; every direction has one power per row, or one.

        `affine` is the generator's, and `image` the images, B×3×H×W or 1×3×H×W in [-1, 1]. Raises UserError for an
        unknown direction or an impossible power.
        """


class FusionBlock(nn.Module):
    """x + (BN, conv3, BN, PReLU, conv3, BN)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(channels), conv3(channels, channels), nn.BatchNorm2d(channels), nn.PReLU(channels),
            conv3(channels, channels), nn.BatchNorm2d(channels),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class FeatureFusion(nn.Module):
    """Two feature maps to one."""

    def __init__(self, domain: DomainConfig) -> None:
        super().__init__()
        channels = domain.feature_channels
        # In the order of the published files: their optimizer states go by position.
        self.body = nn.Sequential(*(FusionBlock(channels) for _ in range(domain.inverter.fusion_blocks)))
        self.conv = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """a, b B×C×h×w → B×C×h×w."""
        return self.body(self.conv(torch.cat([a, b], dim=1)))


class FeatureEditor(FeatureFusion):
    """The network of stage 2: F_k and delta to the features that the decoder reads."""


class Inverter(nn.Module):
    """The network of stage 1, under the published key names: backbone and Fuser."""

    def __init__(self, domain: DomainConfig) -> None:
        super().__init__()
        self.size, self.layer = domain.encoder_size, domain.feature_layer
        self.fs_backbone = Backbone(domain)
        self.fuser = FeatureFusion(domain)

    def forward(self, x: Tensor, decoder: Generator) -> tuple[Tensor, Tensor, "Coarse"]:
        """x B×3×size×size in [-1, 1] → w B×n_styles×D, F_k B×C×h×w, and the decoder's state for w at F_k's layer."""
        offsets, content = self.fs_backbone(x)
        w = offsets + decoder.latent_avg
        coarse = decode_coarse(decoder, decoder.affine(w), self.layer)
        return w, self.fuser(content, coarse.features), coarse


class Coarse(NamedTuple):
    """The decoder's state at the feature layer."""

    styles: Styles
    features: Tensor  # F_w, B×C×h×w
    rgb: Tensor  # the image at that resolution, B×3×h×w


@dataclass(frozen=True, eq=False)
class Inversion:
    """B images as latents: made once, edited many times."""

    image: Tensor  # x, B×3×H×W in [-1, 1]
    w: Tensor  # B×n_styles×D, latent_avg added
    features: Tensor  # F_k, B×C×h×w
    w_e4e: Tensor | None = None  # e4e's w, B×n_styles×D, if it has been computed


def invert(inverter: Inverter, decoder: Generator, x: Tensor) -> tuple[Inversion, Coarse]:
    """x B×3×H×W in [-1, 1] → its Inversion, and the decoder's state for its w."""
    w, features, coarse = inverter(resized(x, inverter.size), decoder)
    return Inversion(x, w, features), coarse


def invert_e4e(e4e: E4E, decoder: Generator, x: Tensor) -> Tensor:
    """x B×3×H×W in [-1, 1] → e4e's w, B×n_styles×D."""
    return e4e(resized(x, e4e.size)) + decoder.latent_avg


def decode_coarse(decoder: Generator, styles: Styles, layer: int) -> Coarse:
    """The decoder up to the feature layer."""
    return Coarse(styles, *decoder.trunk(styles, layer))


def delta(original: Tensor, edited: Tensor, mask: Tensor | None = None) -> Tensor:
    """F_w of e4e's w minus F_w of the edited one, B×C×h×w each.

    mask: 1×1×H×W or B×1×H×W in [0, 1] of any size; where it is 1, delta is 0.
    """
    difference = original - edited
    if mask is None:
        return difference
    mask = F.interpolate(mask.to(difference), size=difference.shape[-2:], mode="bilinear", align_corners=False)
    return difference * (1 - mask)


def decode(decoder: Generator, features: Tensor, coarse: Coarse, layer: int) -> Tensor:
    """The image of `features` (B×C×h×w), which replace coarse.features: B×3×size×size, about [-1, 1].

    With gradients enabled, backward computes the activations again, block by block: 2 GB less per image at
    1024 px, and on the CPU no slower, since fresh memory costs it as much as the convs.
    """
    if not torch.is_grad_enabled():
        return decoder.head(features, coarse.rgb, coarse.styles, layer)
    out, rgb = features, coarse.rgb
    for first in range(layer, decoder.last_layer, 2):
        out, rgb = checkpoint(
            decoder.blocks, out, rgb, coarse.styles, first, first + 2, use_reentrant=False, preserve_rng_state=False
        )
    return rgb


def resized(x: Tensor, size: int) -> Tensor:
    """x at the size that an encoder reads: B×3×size×size, bilinear."""
    return F.interpolate(x, size=(size, size), mode="bilinear", align_corners=False)
