"""Inversion and editing by StyleFeatureEditor (CVPR 2024, arXiv 2406.10601)."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from arguments.domain import DomainConfig
from configs.paths import weight_file
from models.checkpoints import load_e4e, load_feature_editor, load_generator, load_inverter
from models.e4e import E4E
from models.frozen import optimize
from models.inverter import FeatureFusion, Inverter
from models.stylegan2.generator import Generator, Styles


class LatentEditor(Protocol):
    """What a method needs of editings.latent_editor.LatentEditor."""

    def edit(
        self, w: Tensor, name: str, powers: Tensor, affine: Callable[[Tensor], Styles], image: Tensor | None = None
    ) -> Styles:
        """Styles of w (B×n_styles×D) after the edit; every row has its own power."""

    def check(self, name: str, powers: Sequence[float] = ()) -> None:
        """Raise UserError for an unknown direction or a power that makes no sense; reads no files."""

    def available(self) -> dict[str, dict[str, tuple[float, float]]]:
        """Family -> direction -> useful powers."""


@dataclass
class Inversion:
    """B pictures as latents: made once by `Method.invert`, edited many times."""

    image: Tensor  # x, B×3×H×W in [-1, 1]
    small: Tensor  # x as the encoders see it, B×3×S×S
    w: Tensor  # B×n_styles×D, latent_avg added
    features: Tensor  # F_k, B×C×h×w
    w_e4e: Tensor | None = None  # B×n_styles×D; made, like the next, by the first edit
    e4e_features: Tensor | None = None  # F_w of w_e4e, B×C×h×w


class Method(ABC):
    """What the stage-1 and the stage-2 method share. Networks are loaded when something first needs them."""

    def __init__(self, domain: DomainConfig, checkpoint: str, device: torch.device, editor: LatentEditor) -> None:
        """`checkpoint`: file of the trained part; `editor`: finds and applies the directions."""
        self.domain = domain
        self.checkpoint = weight_file(checkpoint)
        self.device = device
        self.latent_editor = editor
        self.layer = domain.feature_layer

    @cached_property
    def decoder(self) -> Generator:
        path = weight_file(self.domain.weights["generator"])
        return optimize(load_generator(path, self.domain.generator)).to(self.device)

    @cached_property
    def e4e(self) -> E4E:
        return optimize(load_e4e(weight_file(self.domain.weights["e4e"]), self.domain)).to(self.device)

    @torch.inference_mode()
    def invert(self, x: Tensor) -> Inversion:
        """x B×3×H×W in [-1, 1] → its Inversion. No picture is made, and e4e is not run."""
        x = x.to(self.device)
        size = self.domain.encoder_size
        small = F.interpolate(x, size=(size, size), mode="bilinear", align_corners=False)
        offsets, content = self.inverter.fs_backbone(small)
        w = offsets + self.decoder.latent_avg
        features = self.inverter.fuser(content, self.decoder.features(self.decoder.affine(w), self.layer))
        return Inversion(x, small, w, features)

    @torch.inference_mode()
    def reconstruct(self, inversion: Inversion) -> Tensor:
        """The inversion's pictures, B×3×size×size."""
        return self.decoder(self.decoder.affine(inversion.w), self._fused(inversion.features, None), self.layer)

    @torch.inference_mode()
    def edit(self, inversion: Inversion, name: str, powers: Sequence[float], mask: Tensor | None = None) -> Tensor:
        """Every picture at every power: (B·P)×3×size×size, the powers of the first picture first.

        `mask`, 1×1×H×W or B×1×H×W in [0, 1] of any size: where it is 1, F is left as it is. Raises UserError for an
        unknown direction or a power that makes no sense.
        """
        rows = len(powers)
        w, image = _repeat(inversion.w, rows), _repeat(inversion.image, rows)
        power = torch.tensor(list(powers), dtype=w.dtype, device=w.device).repeat(len(inversion.w))
        styles = self.latent_editor.edit(w, name, power, self.decoder.affine, image)
        delta = self._delta(inversion, name, power, rows, image)
        if delta is not None and mask is not None:
            mask = F.interpolate(mask.to(delta), size=delta.shape[-2:], mode="bilinear", align_corners=False)
            delta = delta * (1 - (_repeat(mask, rows) if len(mask) > 1 else mask))
        return self.decoder(styles, self._fused(_repeat(inversion.features, rows), delta), self.layer)

    @torch.inference_mode()
    def e4e_pictures(self, inversion: Inversion, name: str | None = None, power: float = 0.0) -> Tensor:
        """What e4e alone gives, B×3×size×size: the inversion, or with `name` the edit."""
        w = self._e4e_latents(inversion)
        if name is None:
            return self.decoder(self.decoder.affine(w))
        powers = torch.full((len(w),), power, dtype=w.dtype, device=w.device)
        return self.decoder(self.latent_editor.edit(w, name, powers, self.decoder.affine, inversion.image))

    def _e4e_latents(self, inversion: Inversion) -> Tensor:
        if inversion.w_e4e is None:
            inversion.w_e4e = self.e4e(inversion.small) + self.decoder.latent_avg
        return inversion.w_e4e

    @property
    def inverter(self) -> Inverter:
        return self._trained[0]

    @cached_property
    def _trained(self) -> tuple[Inverter, FeatureFusion | None]:
        inverter, editor = self._load(self.checkpoint)
        return optimize(inverter).to(self.device), editor and optimize(editor).to(self.device)

    @abstractmethod
    def _load(self, path: Path) -> tuple[Inverter, FeatureFusion | None]:
        """The trained networks of the checkpoint."""

    @abstractmethod
    def _delta(self, inversion: Inversion, name: str, power: Tensor, rows: int, image: Tensor) -> Tensor | None:
        """Original minus edited features, or None where the method has no use for it."""

    @abstractmethod
    def _fused(self, features: Tensor, delta: Tensor | None) -> Tensor:
        """The features that the decoder reads; delta None stands for zero."""


class FSEInverter(Method):
    """Stage 1, `fse_inverter`: F_k is decoded as it is; an edit moves w alone."""

    def _load(self, path: Path) -> tuple[Inverter, None]:
        return load_inverter(path, self.domain), None

    def _delta(self, inversion: Inversion, name: str, power: Tensor, rows: int, image: Tensor) -> None:
        return None

    def _fused(self, features: Tensor, delta: Tensor | None) -> Tensor:
        return features


class FSEFull(Method):
    """Stage 2, `fse_full`: the Feature Editor applies to F_k what an edit does to the features of e4e's w."""

    def _load(self, path: Path) -> tuple[Inverter, FeatureFusion]:
        return load_feature_editor(path, self.domain)

    def _delta(self, inversion: Inversion, name: str, power: Tensor, rows: int, image: Tensor) -> Tensor:
        w = self._e4e_latents(inversion)
        if inversion.e4e_features is None:
            inversion.e4e_features = self.decoder.features(self.decoder.affine(w), self.layer)
        edited = self.latent_editor.edit(_repeat(w, rows), name, power, self.decoder.affine, image)
        return _repeat(inversion.e4e_features, rows) - self.decoder.features(edited, self.layer)

    def _fused(self, features: Tensor, delta: Tensor | None) -> Tensor:
        editor = self._trained[1]
        assert editor is not None
        return editor(features, torch.zeros_like(features) if delta is None else delta)


METHODS: dict[str, type[Method]] = {"fse_full": FSEFull, "fse_inverter": FSEInverter}


def _repeat(x: Tensor, rows: int) -> Tensor:
    """Every picture's row `rows` times in a row."""
    return x if rows == 1 else x.repeat_interleave(rows, dim=0)
