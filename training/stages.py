"""The two stages of training (method of CVPR 2024, arXiv 2406.10601): from pictures to the pairs that losses read."""

import random
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from arguments.domain import DomainConfig
from models.e4e import E4E
from models.inverter import FeatureFusion, Inverter
from models.methods import LatentEditor
from models.stylegan2.generator import Generator, Styles

FEATURE_RAMP = 10_000  # stage 1: steps until F_k replaces the decoder's own features in full


@dataclass(frozen=True)
class Pairs:
    """What the losses of one batch read. Pictures are N×3×size×size in [-1, 1], and N may be several times B."""

    fake: Tensor
    real: Tensor  # row by row what `fake` should be
    judged: Tensor  # pictures of the adversarial loss
    learned: Tensor  # pictures that the discriminator learns as fake
    features: tuple[Tensor, Tensor] | None = None  # F_k and F_w, each B×C×h×w
    latents: tuple[Tensor, Tensor] | None = None  # w and e4e's w, each B×n_styles×D


class Stage(nn.Module, ABC):
    """A trained network, `encoder`, and the frozen ones around it, which stay in eval mode."""

    encoder: nn.Module

    def __init__(self, domain: DomainConfig, decoder: Generator) -> None:
        super().__init__()
        self.decoder = decoder
        self.layer = domain.feature_layer
        self.small = domain.encoder_size

    @abstractmethod
    def forward(self, x: Tensor, step: int) -> Pairs:
        """x B×3×size×size in [-1, 1], at training step `step`."""

    @abstractmethod
    def reconstruct(self, x: Tensor) -> Tensor:
        """The inversion's pictures of x, as inference makes them."""

    @abstractmethod
    def saved(self) -> dict[str, nn.Module]:
        """The networks of a checkpoint, by the prefix of their keys."""

    def train(self, mode: bool = True) -> "Stage":
        super().train(False)
        self.encoder.train(mode)
        self.training = mode
        return self

    def _shrink(self, x: Tensor) -> Tensor:
        """As the encoders see it."""
        return F.interpolate(x, size=(self.small, self.small), mode="bilinear", align_corners=False)

    def _head(self, out: Tensor, rgb: Tensor, styles: Styles) -> Tensor:
        """The decoder's picture from what its trunk gave; `out` may have been replaced by features.

        Backward computes the activations anew, block by block: 2 GB less per picture at 1024 px, and on the CPU no
        slower, since fresh memory costs it as much as the convs.
        """
        for first in range(self.layer, 2 * len(self.decoder.to_rgbs) + 1, 2):
            out, rgb = checkpoint(
                self.decoder.blocks, out, rgb, styles, first, first + 2, use_reentrant=False, preserve_rng_state=False
            )
        return rgb

    def _invert(self, x: Tensor, inverter: Inverter) -> "_Inverted":
        offsets, content = inverter.fs_backbone(self._shrink(x))
        w = offsets + self.decoder.latent_avg
        styles = self.decoder.affine(w)
        own, rgb = self.decoder.trunk(styles, self.layer)
        return _Inverted(w, styles, own, rgb, inverter.fuser(content, own))


@dataclass(frozen=True)
class _Inverted:
    w: Tensor  # B×n_styles×D
    styles: Styles
    own: Tensor  # F_w, B×C×h×w
    rgb: Tensor  # the decoder's picture at that resolution, B×3×h×w
    fused: Tensor  # F_k, B×C×h×w


class InverterStage(Stage):
    """Stage 1 trains the Inverter: its inversion G(F_k, w), and G(w) from w alone, should both be x."""

    def __init__(self, domain: DomainConfig, inverter: Inverter, decoder: Generator, e4e: E4E | None = None) -> None:
        """`e4e` is needed for the loss l2_latent only."""
        super().__init__(domain, decoder)
        self.encoder: Inverter = inverter
        self.e4e = e4e

    def forward(self, x: Tensor, step: int) -> Pairs:
        it = self._invert(x, self.encoder)
        mixed = torch.lerp(it.own, it.fused, min(1.0, step / FEATURE_RAMP))
        fake = torch.cat([self._head(features, it.rgb, it.styles) for features in (mixed, it.own)])
        latents = None
        if self.e4e is not None:
            with torch.no_grad():
                latents = it.w, self.e4e(self._shrink(x)) + self.decoder.latent_avg
        return Pairs(fake, torch.cat([x, x]), fake, fake, (it.fused, it.own), latents)

    def reconstruct(self, x: Tensor) -> Tensor:
        it = self._invert(x, self.encoder)
        return self._head(it.fused, it.rgb, it.styles)

    def saved(self) -> dict[str, nn.Module]:
        return {"encoder": self.encoder}


class EditorStage(Stage):
    """Stage 2 trains the Feature Editor: on inversions of x, and on edits of pictures whose edit is known.

    Those are e4e's: x_E = G(w_e4e) is to become y_E = G(edited w_e4e).
    """

    def __init__(
        self, domain: DomainConfig, editor: FeatureFusion, inverter: Inverter, decoder: Generator, e4e: E4E,
        latent_editor: LatentEditor, edits: Mapping[str, Sequence[float]], judged_edits: Sequence[str] = (),
    ) -> None:  # fmt: skip
        """`edits`: direction -> powers; `judged_edits`: directions whose edits of x enter the adversarial loss."""
        super().__init__(domain, decoder)
        self.encoder: FeatureFusion = editor
        self.inverter = inverter
        self.e4e = e4e
        self.latent_editor = latent_editor
        self.edits = {name: list(powers) for name, powers in edits.items()}
        self.judged_edits = frozenset(judged_edits)

    def forward(self, x: Tensor, step: int) -> Pairs:
        name = random.choice(list(self.edits))
        power = random.choice(self.edits[name])
        with torch.no_grad():
            real = self._invert(x, self.inverter)
            source, target, delta = self._known_edit(x, name, power)
            it = self._invert(source, self.inverter)
        inversion = self._decode(real.fused, torch.zeros_like(delta), real.rgb, real.styles)
        edited = self._decode(it.fused, delta, *self._edit(it.w, name, power, source)[1:])
        judged = inversion
        if name in self.judged_edits:
            of_x = self._decode(real.fused, delta, *self._edit(real.w, name, power, x)[1:])
            judged = torch.cat([inversion, of_x])
        return Pairs(torch.cat([inversion, edited]), torch.cat([x, target]), judged, inversion)

    def reconstruct(self, x: Tensor) -> Tensor:
        it = self._invert(x, self.inverter)
        return self._decode(it.fused, torch.zeros_like(it.fused), it.rgb, it.styles)

    def saved(self) -> dict[str, nn.Module]:
        return {"encoder": self.encoder, "inverter": self.inverter}

    def _known_edit(self, x: Tensor, name: str, power: float) -> tuple[Tensor, Tensor, Tensor]:
        """e4e's picture of x, its edit, and the features of the first minus those of the second."""
        w = self.e4e(self._shrink(x)) + self.decoder.latent_avg
        styles = self.decoder.affine(w)
        features, rgb = self.decoder.trunk(styles, self.layer)
        source = self._head(features, rgb, styles)
        edited, rgb, styles = self._edit(w, name, power, source)
        return source, self._head(edited, rgb, styles), features - edited

    @torch.no_grad()  # the decoder up to the features does not depend on the Feature Editor
    def _edit(self, w: Tensor, name: str, power: float, image: Tensor) -> tuple[Tensor, Tensor, Styles]:
        """F_w of the edited w, the decoder's picture at that resolution, and the edited styles."""
        powers = torch.full((len(w),), power, dtype=w.dtype, device=w.device)
        styles = self.latent_editor.edit_many(w, [(name, powers)], self.decoder.affine, image)
        return *self.decoder.trunk(styles, self.layer), styles

    def _decode(self, features: Tensor, delta: Tensor, rgb: Tensor, styles: Styles) -> Tensor:
        return self._head(self.encoder(features, delta), rgb, styles)
