"""Inversion and editing by StyleFeatureEditor (CVPR 2024, arXiv 2406.10601)."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arguments.domain import DomainConfig
from configs.paths import weight_file
from models.e4e import E4E
from models.frozen import optimize
from models.inverter import FeatureFusion, Inverter
from models.stylegan2.generator import Generator, Styles
from models.weights import load_e4e, load_feature_editor, load_generator, load_inverter
from utils.errors import UserError
from utils.malloc import trim
from utils.memory import mapped_files, release

M = TypeVar("M", bound=nn.Module)
P = ParamSpec("P")
R = TypeVar("R")

Stack = Sequence[tuple[str, Sequence[float]]]  # direction names, each with P powers


def _inference(method: Callable[Concatenate[Any, P], R]) -> Callable[Concatenate[Any, P], R]:
    """Run a method of Method without autograd state, and in its `dtype` where that is not float32."""

    @wraps(method)
    def run(self: "Method", *args: P.args, **kwargs: P.kwargs) -> R:
        half = self.dtype != torch.float32
        with torch.inference_mode(), torch.autocast(self.device.type, self.dtype, enabled=half):
            return method(self, *args, **kwargs)

    return run


class LatentEditor(Protocol):
    """What a method needs of editings.latent_editor.LatentEditor."""

    def edit_many(
        self, w: Tensor, edits: Sequence[tuple[str, Tensor]], affine: Callable[[Tensor], Styles],
        image: Tensor | None = None,
    ) -> Styles:  # fmt: skip
        """Styles of w (B×n_styles×D) after all the edits at once; every row has its own powers."""

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

    def __init__(
        self, domain: DomainConfig, checkpoint: str, device: torch.device, editor: LatentEditor,
        dtype: torch.dtype = torch.float32, compile: bool = False,
    ) -> None:  # fmt: skip
        """`checkpoint`: file of the trained part; `editor`: finds and applies the directions.

        `dtype`: of the convolutions and matrix products; latents, normalisation and pictures stay float32. `compile`:
        run the networks through torch.compile.
        """
        self.domain = domain
        self.checkpoint = weight_file(checkpoint)
        self.device = device
        self.latent_editor = editor
        self.layer = domain.feature_layer
        self.dtype, self.compile = dtype, compile
        self._files: list[tuple[int, int]] = []  # address ranges of the mapped weight files

    @cached_property
    def decoder(self) -> Generator:
        path = weight_file(self.domain.weights["generator"])
        return self._ready(load_generator(path, self.domain.generator))

    @cached_property
    def e4e(self) -> E4E:
        return self._ready(load_e4e(weight_file(self.domain.weights["e4e"]), self.domain), frugal=True)

    def _ready(self, network: M, frugal: bool = False) -> M:
        """The network optimised, on the device, its methods compiled if so wished; `frugal` as in `optimize`."""
        network = optimize(network, frugal).to(self.device)
        self._files += mapped_files(network.state_dict().values())
        self._give_back()
        trim()
        if self.compile:
            for name in ("forward", "trunk", "head", "features"):
                if hasattr(network, name):
                    setattr(network, name, torch.compile(getattr(network, name)))
        return network

    def _give_back(self) -> None:
        """Release the pages of weights that were read once, or copied into another layout."""
        release(self._files)

    @_inference
    def invert(self, x: Tensor) -> Inversion:
        """x B×3×H×W in [-1, 1] → its Inversion. No picture is made, and e4e is not run."""
        x = x.to(self.device)
        small = self.shrink(x)
        offsets, content = self.inverter.fs_backbone(small)
        w = offsets + self.decoder.latent_avg
        features = self.inverter.fuser(content, self.decoder.features(self.decoder.affine(w), self.layer))
        self._give_back()
        return Inversion(x, small, w, features)

    def shrink(self, x: Tensor) -> Tensor:
        """x as the encoders see it, B×3×S×S."""
        size = self.domain.encoder_size
        return F.interpolate(x, size=(size, size), mode="bilinear", align_corners=False)

    @_inference
    def reconstruct(self, inversion: Inversion) -> Tensor:
        """The inversion's pictures, B×3×size×size."""
        styles = self.decoder.affine(inversion.w)
        _, rgb = self.decoder.trunk(styles, self.layer)
        return self._decode(inversion.features, torch.zeros_like(inversion.features), rgb, styles)

    @_inference
    def edit(self, inversion: Inversion, edits: Stack, mask: Tensor | None = None) -> Tensor:
        """Every picture at every step of the stack: (B·P)×3×size×size, the steps of the first picture first.

        Args:
            edits: direction names, each with P powers. Step j makes all the edits at once, each at its j-th power: the
                latent moves are summed, and the features change by one delta. `[("age", [1, 2, 3])]` is one direction
                at three powers, `[("age", [5]), ("smile", [2])]` one picture with both edits.
            mask: 1×1×H×W or B×1×H×W in [0, 1] of any size: where it is 1, F is left as it is.

        Raises UserError for an unknown direction, a power that makes no sense, or a stack that is empty or ragged.
        """
        rows, edited = _steps(edits), self._edited(inversion, edits)
        styles = edited(inversion.w)
        delta, rgb = self._delta(inversion, styles, edited)
        if mask is not None:
            mask = F.interpolate(mask.to(delta), size=delta.shape[-2:], mode="bilinear", align_corners=False)
            delta = delta * (1 - _repeat(mask.expand(len(inversion.w), -1, -1, -1), rows))
        return self._decode(_repeat(inversion.features, rows), delta, rgb, styles)

    @_inference
    def e4e_pictures(self, inversion: Inversion, edits: Stack = ()) -> Tensor:
        """What e4e alone gives: the inversion, B×3×size×size, or the edits as in `edit`, (B·P)×3×size×size."""
        w = self._e4e_latents(inversion)
        styles = self._edited(inversion, edits)(w) if edits else self.decoder.affine(w)
        return self.decoder(styles).float()

    def _edited(self, inversion: Inversion, edits: Stack) -> Callable[[Tensor], Styles]:
        """What makes, of B latents of the inversion's pictures, the styles of all steps of the stack."""
        rows = _steps(edits)
        image = _repeat(inversion.image, rows)
        powers = [(name, inversion.w.new_tensor(list(values)).repeat(len(inversion.w))) for name, values in edits]
        return lambda w: self.latent_editor.edit_many(_repeat(w, rows), powers, self.decoder.affine, image)

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
        inverter.fs_backbone = self._ready(inverter.fs_backbone, frugal=True)
        inverter.fuser = self._ready(inverter.fuser)
        return inverter, editor and self._ready(editor)

    @abstractmethod
    def _load(self, path: Path) -> tuple[Inverter, FeatureFusion | None]:
        """The trained networks of the checkpoint."""

    @abstractmethod
    def _delta(
        self, inversion: Inversion, styles: Styles, edited: Callable[[Tensor], Styles]
    ) -> tuple[Tensor, Tensor]:
        """Original minus edited features, (B·P)×C×h×w, and the RGB picture of that resolution made from `styles`.

        `styles` are those of the inversion's w after the edit, and `edited` makes the same of another w.
        """

    @abstractmethod
    def _fuse(self, features: Tensor, delta: Tensor) -> Tensor:
        """The features that the decoder reads."""

    def _decode(self, features: Tensor, delta: Tensor, rgb: Tensor, styles: Styles) -> Tensor:
        """The pictures, one by one: together they would take memory and save no time."""
        pictures = []
        for i in (slice(i, i + 1) for i in range(len(features))):
            fused = self._fuse(features[i], delta[i])
            pictures.append(self.decoder.head(fused, rgb[i], [style[i] for style in styles], self.layer))
        self._give_back()
        return torch.cat(pictures).float()


class FSEInverter(Method):
    """Stage 1, `fse_inverter`: F_k is decoded as it is; an edit moves w alone."""

    def _load(self, path: Path) -> tuple[Inverter, None]:
        return load_inverter(path, self.domain), None

    def _delta(
        self, inversion: Inversion, styles: Styles, edited: Callable[[Tensor], Styles]
    ) -> tuple[Tensor, Tensor]:
        out, rgb = self.decoder.trunk(styles, self.layer)
        return torch.zeros_like(out), rgb

    def _fuse(self, features: Tensor, delta: Tensor) -> Tensor:
        return features


class FSEFull(Method):
    """Stage 2, `fse_full`: the Feature Editor applies to F_k what an edit does to the features of e4e's w."""

    def _load(self, path: Path) -> tuple[Inverter, FeatureFusion]:
        return load_feature_editor(path, self.domain)

    def _delta(
        self, inversion: Inversion, styles: Styles, edited: Callable[[Tensor], Styles]
    ) -> tuple[Tensor, Tensor]:
        w = self._e4e_latents(inversion)
        parts = [styles, edited(w)]
        if inversion.e4e_features is None:
            parts.append(self.decoder.affine(w))
        count = len(styles[0])
        # One pass for all that goes through the lower layers.
        out, rgb = self.decoder.trunk([torch.cat(style) for style in zip(*parts, strict=True)], self.layer)
        if inversion.e4e_features is None:
            inversion.e4e_features = out[2 * count :].clone()
        return _repeat(inversion.e4e_features, count // len(w)) - out[count : 2 * count], rgb[:count]

    def _fuse(self, features: Tensor, delta: Tensor) -> Tensor:
        editor = self._trained[1]
        assert editor is not None
        return editor(features, delta)


METHODS: dict[str, type[Method]] = {"fse_full": FSEFull, "fse_inverter": FSEInverter}


def _steps(edits: Stack) -> int:
    """P, the number of powers that each edit of the stack has."""
    counts = [len(powers) for _, powers in edits]
    if len(set(counts)) != 1 or not counts[0]:
        found = ", ".join(f"{count} for '{name}'" for (name, _), count in zip(edits, counts, strict=True)) or "no edit"
        raise UserError(f"edits want equally many powers, one or more; given: {found}")
    return counts[0]


def _repeat(x: Tensor, rows: int) -> Tensor:
    """Every picture's row `rows` times in a row."""
    return x if rows == 1 else x.repeat_interleave(rows, dim=0)
