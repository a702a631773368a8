"""The method, ready to run: networks are loaded at their first use, and optimized for their input sizes."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from arguments.domain import DomainConfig
from configs.paths import weight_file
from models.cuda_graph import CudaGraphs
from models.e4e import E4E
from models.frozen import cast_once, optimize
from models.inversion_file import Origin
from models.sfe import (
    Coarse,
    DirectionEditor,
    Edits,
    FeatureEditor,
    Inversion,
    Inverter,
    decode,
    decode_coarse,
    delta,
    invert,
    invert_e4e,
)
from models.stylegan2.generator import Generator, Styles
from models.stylegan2.ops.native import memory_format
from models.weights import load_e4e, load_feature_editor, load_generator, load_inverter
from utils.devices import conv_layout, send
from utils.errors import UserError
from utils.malloc import trim
from utils.memory import mapped_files, release

N = TypeVar("N", bound=nn.Module)
P = ParamSpec("P")
R = TypeVar("R")

_DECODED = {"cpu": 1}  # images at once: on a CPU, several take memory and save no time
_DECODED_ELSEWHERE = 8


def inference(method: Callable[Concatenate[Any, P], R]) -> Callable[Concatenate[Any, P], R]:
    """Run a method of Method in inference mode, and under autocast if its `dtype` is not float32."""

    @wraps(method)
    def run(self: "Method", *args: P.args, **kwargs: P.kwargs) -> R:
        half = self.dtype != torch.float32
        with torch.inference_mode(), torch.autocast(self.device.type, self.dtype, enabled=half):
            return method(self, *args, **kwargs)

    return run


class Method(ABC):
    """What both methods (stage 1 and stage 2) share."""

    def __init__(
        self, domain: DomainConfig, checkpoint: str, device: torch.device, editor: DirectionEditor,
        dtype: torch.dtype = torch.float32, compile: bool = False, cuda_graph: bool = False,
    ) -> None:  # fmt: skip
        """`checkpoint`: file of the trained part; `editor`: applies directions.

        `dtype`: of the convolutions and matrix products; latents, normalisation and images stay float32. `compile`:
        run the networks through torch.compile. `cuda_graph`: run them as CUDA graphs, on an NVIDIA GPU.
        """
        self.domain = domain
        self.checkpoint = weight_file(checkpoint)
        self.device = device
        self.layer = domain.feature_layer
        self.dtype, self.compile = dtype, compile
        self._graphs = CudaGraphs(device) if cuda_graph else None
        self._editor = editor
        self._e4e_inversions: WeakKeyDictionary[Inversion, tuple[Tensor, Coarse]] = WeakKeyDictionary()

    @cached_property
    def origin(self) -> Origin:
        """The networks that inversions of this method belong to. Reads the weight files' indices."""
        return Origin.of(self.domain, self.checkpoint)

    # ---- networks ----

    @cached_property
    def decoder(self) -> Generator:
        config = self.domain.generator
        decoder = load_generator(weight_file(self.domain.weights["generator"]), config)
        decoder = self._ready(decoder, decoder.affine(torch.empty(0, config.n_styles, config.style_dim)))
        self._speed_up(decoder, "affine", "trunk", "head")
        return decoder

    @cached_property
    def e4e(self) -> E4E:
        e4e = load_e4e(weight_file(self.domain.weights["e4e"]), self.domain)
        return self._ready(e4e, torch.empty(0, 3, e4e.size, e4e.size))

    @property
    def inverter(self) -> Inverter:
        return self._trained[0]

    @cached_property
    def _trained(self) -> tuple[Inverter, FeatureEditor | None]:
        inverter, editor = self._load(self.checkpoint)
        image = torch.empty(0, 3, inverter.size, inverter.size)
        maps = torch.empty(0, self.domain.feature_channels, self.domain.feature_size, self.domain.feature_size)
        inverter.fs_backbone = self._ready(inverter.fs_backbone, image)
        inverter.fuser = self._ready(inverter.fuser, maps, maps)
        return inverter, editor and self._ready(editor, maps, maps)

    @abstractmethod
    def _load(self, path: Path) -> tuple[Inverter, FeatureEditor | None]:
        """The trained networks of the checkpoint."""

    def _ready(self, network: N, *inputs: Tensor | Styles) -> N:
        """The network, optimized for inputs of these sizes (given with batch size 0), on the device.

        Weights that are used unchanged stay mapped to the file: the system reclaims their memory when it is short.
        """
        winograd = self.device.type == "cpu" and self.dtype == torch.float32 and not self.compile
        layout = conv_layout(self.device, self.dtype)
        network = optimize(network, *inputs, winograd=winograd, layout=layout)
        network = cast_once(network, self.dtype).to(self.device)
        release(mapped_files(network.state_dict().values()))  # most weights were copied into another layout
        trim()
        self._speed_up(network, "forward")
        return network

    def _speed_up(self, network: nn.Module, *functions: str) -> None:
        """Run these functions of the network as CUDA graphs or through torch.compile, if the options want it."""
        if self._graphs is None and not self.compile:
            return
        faster = torch.compile if self._graphs is None else self._graphs.of
        for name in functions:
            setattr(network, name, faster(getattr(network, name)))

    # ---- the method ----

    @inference
    def invert(self, x: Tensor) -> Inversion:
        """x B×3×H×W in [-1, 1] → its Inversion. No image is decoded, and e4e does not run."""
        return invert(self.inverter, self.decoder, send(x, self.device))[0]

    def complete(self, inversion: Inversion) -> Inversion:
        """The same with everything that edits need: w_e4e, if the method uses it. Later edits run no encoder."""
        return inversion

    @inference
    def reconstruct(self, inversion: Inversion) -> Tensor:
        """The inversion's images, B×3×size×size."""
        coarse = self._coarse(self.decoder.affine(inversion.w))
        return self._decode(inversion.features, torch.zeros_like(inversion.features), coarse)

    @inference
    def edit(self, inversion: Inversion, edits: Edits, mask: Tensor | None = None) -> Tensor:
        """Every image at every step of the edits: (B·P)×3×size×size, the steps of the first image first.

        Args:
            edits: direction names, each with P powers. Step j applies all the edits at once, each at its j-th power:
                the latent moves are summed, and the features change by one delta. `[("age", [1, 2, 3])]` is one
                direction at three powers, `[("age", [5]), ("smile", [2])]` one image with both edits.
            mask: 1×1×H×W or B×1×H×W in [0, 1] of any size: where it is 1, F is unchanged.

        Raises UserError for an unknown direction, an impossible power, no edits, or different numbers of powers.
        """
        steps = _steps(edits)
        styles = self._edited(inversion.image, inversion.w, edits)
        if mask is not None:
            mask = _repeat(send(mask, self.device).expand(len(inversion.w), -1, -1, -1), steps)
        change, coarse = self._delta(inversion, edits, styles, mask)
        return self._decode(_repeat(inversion.features, steps), change, coarse)

    @inference
    def e4e_images(self, images: Inversion | Tensor, edits: Edits = ()) -> Tensor:
        """The results of e4e alone: the inversion, B×3×size×size, or the edits as in `edit`, (B·P)×3×size×size.

        images: B×3×H×W in [-1, 1], or their Inversion, whose next edit is then faster.
        """
        image = images.image if isinstance(images, Inversion) else send(images, self.device)
        w, coarse = self._e4e_inversion(images) if isinstance(images, Inversion) else self._invert_e4e(image)
        if edits:
            coarse = self._coarse(self._edited(image, w, edits))
        return decode(self.decoder, coarse.features, coarse, self.layer).float()

    def _edited(self, image: Tensor, w: Tensor, edits: Edits) -> Styles:
        """The styles of latents w (B×n_styles×D) of the images at every step of the edits."""
        steps = _steps(edits)
        rows = [(name, [*powers] * len(w)) for name, powers in edits]
        image = image if len(image) == 1 else _repeat(image, steps)
        return self._editor.apply(_repeat(w, steps), rows, self.decoder.affine, image)

    def _e4e_inversion(self, inversion: Inversion) -> tuple[Tensor, Coarse]:
        """As `_invert_e4e`, of the inversion's images; made once."""
        if inversion not in self._e4e_inversions:
            w = inversion.w_e4e
            self._e4e_inversions[inversion] = (
                self._invert_e4e(inversion.image) if w is None else (w, self._coarse(self.decoder.affine(w)))
            )
        return self._e4e_inversions[inversion]

    def _invert_e4e(self, image: Tensor) -> tuple[Tensor, Coarse]:
        """e4e's w of the images, and the decoder's state for it."""
        w = invert_e4e(self.e4e, self.decoder, image)
        return w, self._coarse(self.decoder.affine(w))

    def _coarse(self, styles: Styles) -> Coarse:
        return decode_coarse(self.decoder, styles, self.layer)

    @abstractmethod
    def _delta(
        self, inversion: Inversion, edits: Edits, styles: Styles, mask: Tensor | None
    ) -> tuple[Tensor, Coarse]:
        """What the edits change in the features, (B·P)×C×h×w, and the decoder's state for the edited `styles`."""

    @abstractmethod
    def _features(self, features: Tensor, delta: Tensor) -> Tensor:
        """The features that the decoder reads."""

    def _decode(self, features: Tensor, delta: Tensor, coarse: Coarse) -> Tensor:
        count = _DECODED.get(self.device.type, _DECODED_ELSEWHERE)
        images = []
        for i in (slice(i, i + count) for i in range(0, len(features), count)):
            part = Coarse([style[i] for style in coarse.styles], coarse.features[i], coarse.rgb[i])
            images.append(decode(self.decoder, self._features(features[i], delta[i]), part, self.layer))
        return torch.cat(images).float()


class FSEInverter(Method):
    """Stage 1, `fse_inverter`: F_k is decoded unchanged; an edit moves w alone."""

    def _load(self, path: Path) -> tuple[Inverter, None]:
        return load_inverter(path, self.domain), None

    def _delta(
        self, inversion: Inversion, edits: Edits, styles: Styles, mask: Tensor | None
    ) -> tuple[Tensor, Coarse]:
        coarse = self._coarse(styles)
        return torch.zeros_like(coarse.features), coarse

    def _features(self, features: Tensor, delta: Tensor) -> Tensor:
        return features


class FSEFull(Method):
    """Stage 2, `fse_full`: the Feature Editor applies to F_k what an edit does to the features of e4e's w."""

    def _load(self, path: Path) -> tuple[Inverter, FeatureEditor]:
        return load_feature_editor(path, self.domain)

    @inference
    def complete(self, inversion: Inversion) -> Inversion:
        return inversion if inversion.w_e4e is not None else replace(inversion, w_e4e=self._e4e_inversion(inversion)[0])

    @property
    def feature_editor(self) -> FeatureEditor:
        editor = self._trained[1]
        assert editor is not None
        return editor

    def _delta(
        self, inversion: Inversion, edits: Edits, styles: Styles, mask: Tensor | None
    ) -> tuple[Tensor, Coarse]:
        w, original = self._e4e_inversion(inversion)
        edited = self._edited(inversion.image, w, edits)
        count = len(styles[0])
        # One pass for both: in the lower layers, weights are most of what is read.
        both = self._coarse([torch.cat(pair) for pair in zip(styles, edited, strict=True)])
        change = delta(_repeat(original.features, count // len(w)), both.features[count:], mask)
        return change, Coarse(styles, both.features[:count], both.rgb[:count])

    def _features(self, features: Tensor, delta: Tensor) -> Tensor:
        return self.feature_editor(features, delta)


METHODS: dict[str, type[Method]] = {"fse_full": FSEFull, "fse_inverter": FSEInverter}


def _steps(edits: Edits) -> int:
    """P, the number of powers of each edit."""
    counts = [len(powers) for _, powers in edits]
    if len(set(counts)) != 1 or not counts[0]:
        given = ", ".join(f"{count} for '{name}'" for (name, _), count in zip(edits, counts, strict=True)) or "no edit"
        raise UserError(f"edits want equally many powers, one or more; given: {given}")
    return counts[0]


def _repeat(x: Tensor, rows: int) -> Tensor:
    """Every image's row `rows` times in a row; the layout is kept."""
    if rows == 1:
        return x
    return x.repeat_interleave(rows, dim=0).contiguous(memory_format=memory_format(x))
