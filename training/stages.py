"""The two stages of training (method of CVPR 2024, arXiv 2406.10601): from images to the pairs that losses compare."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random

import torch
from torch import Tensor, nn

from arguments.domain import DomainConfig
from datasets.true_edits import TrueEdit
from models.e4e import E4E
from models.frozen import cast_once
from models.sfe import (
    Coarse,
    DirectionEditor,
    FeatureEditor,
    Inversion,
    Inverter,
    decode,
    decode_coarse,
    delta,
    invert,
    invert_e4e,
)
from models.stylegan2.generator import Generator

DrawnEdit = tuple[str, float]  # direction, power


@dataclass(frozen=True)
class Pairs:
    """The inputs of one batch's losses. Images are N×3×size×size in [-1, 1], and N may be several times B."""

    fake: Tensor
    real: Tensor  # the target of each row of `fake`
    generator_fakes: Tensor  # of the adversarial loss, by which the trained network deceives the discriminator
    discriminator_fakes: Tensor  # what the discriminator learns to tell from real images
    features: tuple[Tensor, Tensor] | None = None  # F_k and F_w, each B×C×h×w
    latents: tuple[Tensor, Tensor] | None = None  # w and e4e's w, each B×n_styles×D


class Stage(nn.Module, ABC):
    """A trained network, `encoder`, and the frozen ones that it works with, which stay in eval mode."""

    encoder: nn.Module

    def __init__(self, domain: DomainConfig, decoder: Generator) -> None:
        super().__init__()
        self.decoder = decoder
        self.layer = domain.feature_layer

    def draw_edit(self, random: Random) -> DrawnEdit | None:
        """The edit of one batch; None where edits are not learned."""
        return None

    @abstractmethod
    def forward(
        self, x: Tensor, step: int, edit: DrawnEdit | None = None, true_edit: TrueEdit | None = None
    ) -> Pairs:
        """x B×3×size×size in [-1, 1], at training step `step`; `edit` from `draw_edit`.

        `true_edit`: further images, for stage 2 only.
        """

    @abstractmethod
    def reconstruct(self, x: Tensor) -> Tensor:
        """The inversions of x, as inference makes them."""

    @abstractmethod
    def saved(self) -> dict[str, nn.Module]:
        """The networks of a checkpoint, by the prefix of their keys."""

    def train(self, mode: bool = True) -> "Stage":
        super().train(False)
        self.encoder.train(mode)
        self.training = mode
        return self

    def _decode(self, features: Tensor, coarse: Coarse) -> Tensor:
        return decode(self.decoder, features, coarse, self.layer)


class InverterStage(Stage):
    """Stage 1 trains the Inverter: its inversion G(F_k, w), and G(w) from w alone, should both be x."""

    def __init__(
        self, domain: DomainConfig, inverter: Inverter, decoder: Generator, ramp: int, e4e: E4E | None = None
    ) -> None:  # fmt: skip
        """`ramp`: steps until F_k has fully replaced the decoder's own features, from 0 at step 0.

        `e4e`: only for the loss l2_latent.
        """
        super().__init__(domain, decoder)
        self.ramp = ramp
        self.encoder: Inverter = inverter
        self.e4e = e4e

    def forward(
        self, x: Tensor, step: int, edit: DrawnEdit | None = None, true_edit: TrueEdit | None = None
    ) -> Pairs:
        inversion, coarse = invert(self.encoder, self.decoder, x)
        mixed = torch.lerp(coarse.features, inversion.features, min(1.0, step / self.ramp))
        fake = torch.cat([self._decode(features, coarse) for features in (mixed, coarse.features)])
        latents = None
        if self.e4e is not None:
            with torch.no_grad():
                latents = inversion.w, invert_e4e(self.e4e, self.decoder, x)
        return Pairs(fake, torch.cat([x, x]), fake, fake, (inversion.features, coarse.features), latents)

    def reconstruct(self, x: Tensor) -> Tensor:
        inversion, coarse = invert(self.encoder, self.decoder, x)
        return self._decode(inversion.features, coarse)

    def saved(self) -> dict[str, nn.Module]:
        return {"encoder": self.encoder}


class EditorStage(Stage):
    """Stage 2 trains the Feature Editor: on inversions of x, and on edits of images whose true edit is known.

    These come from e4e: x_E = G(w_e4e) should become y_E = G(edited w_e4e). With true edits, if the domain can draw
    them (this is not in the paper), edits of real images are compared with them, too.
    """

    def __init__(
        self, domain: DomainConfig, editor: FeatureEditor, inverter: Inverter, decoder: Generator, e4e: E4E,
        direction_editor: DirectionEditor, edits: Mapping[str, Sequence[float]], adversarial_edits: Sequence[str] = (),
        dtype: torch.dtype = torch.float32,
    ) -> None:  # fmt: skip
        """`edits`: direction -> powers; `adversarial_edits`: directions whose edits of x enter the adversarial loss.

        `dtype`: of the autocast that the stage runs under; float32: none.
        """
        super().__init__(domain, decoder)
        self.encoder: FeatureEditor = editor
        self.inverter = inverter
        self.e4e = e4e
        self.direction_editor = direction_editor
        self.edits = {name: list(powers) for name, powers in edits.items()}
        self.adversarial_edits = frozenset(adversarial_edits)
        self.dtype = dtype

    @cached_property
    def _inverter(self) -> Inverter:
        """The inverter as it runs; `inverter` keeps all digits for checkpoints.

        Made at the first step, before which a checkpoint may change the weights.
        """
        return cast_once(self.inverter, self.dtype)

    def draw_edit(self, random: Random) -> DrawnEdit:
        """A direction, then one of its powers, each with equal probability."""
        name = random.choice(list(self.edits))
        return name, random.choice(self.edits[name])

    def forward(
        self, x: Tensor, step: int, edit: DrawnEdit | None = None, true_edit: TrueEdit | None = None
    ) -> Pairs:
        assert edit is not None
        name, power = edit
        with torch.no_grad():
            real, coarse = invert(self._inverter, self.decoder, x)
            source, target, change = self._known_edit(x, name, power)
            known, _ = invert(self._inverter, self.decoder, source)
        inversion = self._edited_image(real, torch.zeros_like(change), coarse)
        edited = self._edited_image(known, change, self._edit(known.w, name, [power], source))
        generator_fakes = inversion
        if name in self.adversarial_edits:
            of_x = self._edited_image(real, change, self._edit(real.w, name, [power], x))
            generator_fakes = torch.cat([inversion, of_x])
        fake, real_images = [inversion, edited], [x, target]
        if true_edit is not None:
            fake.append(self._like_true(true_edit))
            real_images.append(true_edit.after)
        return Pairs(torch.cat(fake), torch.cat(real_images), generator_fakes, inversion)

    def reconstruct(self, x: Tensor) -> Tensor:
        inversion, coarse = invert(self._inverter, self.decoder, x)
        return self._edited_image(inversion, torch.zeros_like(inversion.features), coarse)

    def saved(self) -> dict[str, nn.Module]:
        return {"encoder": self.encoder, "inverter": self.inverter}

    def _like_true(self, true_edit: TrueEdit) -> Tensor:
        """The edits of images whose true edits are known, made as inference makes them."""
        x, name, powers = true_edit.before, true_edit.direction, true_edit.powers
        with torch.no_grad():
            inversion, _ = invert(self._inverter, self.decoder, x)
            w = invert_e4e(self.e4e, self.decoder, x)
            original = decode_coarse(self.decoder, self.decoder.affine(w), self.layer)
            change = delta(original.features, self._edit(w, name, powers, x).features)
        return self._edited_image(inversion, change, self._edit(inversion.w, name, powers, x))

    def _known_edit(self, x: Tensor, name: str, power: float) -> tuple[Tensor, Tensor, Tensor]:
        """e4e's image of x, its edit, and the features of the first minus those of the second."""
        w = invert_e4e(self.e4e, self.decoder, x)
        original = decode_coarse(self.decoder, self.decoder.affine(w), self.layer)
        source = self._decode(original.features, original)
        edited = self._edit(w, name, [power], source)
        return source, self._decode(edited.features, edited), delta(original.features, edited.features)

    @torch.no_grad()  # the decoder up to the features does not depend on the Feature Editor
    def _edit(self, w: Tensor, name: str, powers: Sequence[float], image: Tensor) -> Coarse:
        """The decoder's state for the edited w; one power, or one per row."""
        styles = self.direction_editor.apply(w, [(name, powers)], self.decoder.affine, image)
        return decode_coarse(self.decoder, styles, self.layer)

    def _edited_image(self, inversion: Inversion, change: Tensor, coarse: Coarse) -> Tensor:
        return self._decode(self.encoder(inversion.features, change), coarse)
