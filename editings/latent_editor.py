"""Finds the family of an edit by its name and moves latents with it."""

import difflib
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from arguments.domain import DomainConfig
from configs.paths import weight_file
from editings.deltaedit import DeltaEdit
from editings.edit import Edit, Range, Resources, SFamily, WFamily
from editings.fs_boundaries import FSBoundaries
from editings.ganspace import GANSpace
from editings.interfacegan import InterfaceGAN
from editings.styleclip_global import StyleCLIPGlobal
from editings.styleclip_mapper import StyleCLIPMapper
from editings.stylespace import StyleSpace
from editings.text_edit import TextFamily
from models.stylegan2.generator import Styles
from utils.errors import UserError

FAMILIES: dict[str, type[WFamily] | type[SFamily]] = {
    "interfacegan": InterfaceGAN,
    "ganspace": GANSpace,
    "fs_boundaries": FSBoundaries,
    "stylespace": StyleSpace,
    "styleclip_mapper": StyleCLIPMapper,
    "styleclip_global": StyleCLIPGlobal,
    "deltaedit": DeltaEdit,
}
# Beyond it a power must be a typing error: useful powers end at 45, and far beyond them images fall apart.
MAX_POWER = 1000.0

Powers = Sequence[float] | float  # one per image, or one for all


class LatentEditor:
    """Edits latents by direction name and power.

    Files are read at their first use, and each direction, network and phrase is read or computed once.

    Args:
        domain: its `editings` hold the directions as data, by family (see configs/domains/human_faces.yaml).
        editings_dir: folder of the direction files; the default is the domain's.
        device: of the latents, directions and networks.
    """

    def __init__(
        self, domain: DomainConfig, editings_dir: Path | None = None, device: torch.device | str = "cpu"
    ) -> None:
        self.domain = domain
        resources = Resources(editings_dir or weight_file(domain.editings_dir), torch.device(device), encoders={})
        self._families = {name: _family(domain.name, name, spec, resources) for name, spec in domain.editings.items()}
        self._edits: dict[tuple[str, torch.dtype], Edit] = {}

    def available(self) -> dict[str, dict[str, Range]]:
        """Family -> direction -> (lowest, highest) useful power; text edits appear as their pattern."""
        return {name: dict(family.directions) for name, family in self._families.items()}

    def text_families(self) -> dict[str, TextFamily]:
        """Those whose directions are named by words."""
        return {name: family for name, family in self._families.items() if isinstance(family, TextFamily)}

    def apply(
        self,
        w: Tensor,
        edits: Sequence[tuple[str, Powers]],
        affine: Callable[[Tensor], Styles],
        image: Tensor | None = None,
    ) -> Styles:
        """Styles after all the edits at once: the sum of their moves, each computed from the unedited latent.

        Args:
            w: B×n_styles×D, W+ latents.
            edits: direction names, each with one power per row of w, or one for all.
            affine: the generator's map from W+ to StyleSpace (`Generator.affine`).
            image: the images, B×3×H×W in [-1, 1]; 1×3×H×W is used for the whole batch. Only DeltaEdit needs them.

        Returns:
            StyleSpace, a list of B×C, in w's dtype.

        Raises UserError for an unknown name, a power that is not finite or beyond ±1000, or a bad direction file.
        """
        in_w: list[tuple[str, WFamily, Tensor]] = []
        in_s: list[tuple[str, SFamily, Tensor]] = []
        for name, powers in edits:
            family = self._find(name)
            values = _checked_powers(name, powers, family.useful_range(name))
            if len(values) not in (1, len(w)):
                raise UserError(f"editing '{name}': {len(values)} powers for {len(w)} images; give one, or one each")
            power = _column(values, w)
            if isinstance(family, WFamily):
                in_w.append((name, family, power))
            else:
                in_s.append((name, family, power))

        edited_w = w
        for name, w_family, power in in_w:
            edited_w = edited_w + self._edit(name, w_family, w)(w, power, image)
        styles = affine(edited_w)
        if in_s:
            unedited = affine(w) if in_w else styles
            for name, s_family, power in in_s:
                move = self._edit(name, s_family, unedited)(unedited, power, image)
                styles = [style + change for style, change in zip(styles, move, strict=True)]
        return styles

    def useful_range(self, name: str) -> Range:
        """(lowest, highest) useful power. Raises UserError for an unknown name."""
        return self._find(name).useful_range(name)

    def check(self, name: str, powers: Powers = ()) -> None:
        """Raise UserError for an unknown name or an impossible power. Reads no files."""
        _checked_powers(name, powers, self._find(name).useful_range(name))

    def check_files(self, names: Iterable[str]) -> None:
        """Raise UserError if a file is missing that one of these edits reads; reads none."""
        wanted = {path: name for name in names for path in self._find(name).files(name)}
        missing = [f"{path} (editing '{name}')" for path, name in wanted.items() if not path.exists()]
        if missing:
            exist = "does not exist" if len(missing) == 1 else "do not exist"
            fetch = "scripts/download_weights.py fetches the published files"
            raise UserError(f"{' and '.join(missing)} {exist}; {fetch}")

    def _edit(self, name: str, family: WFamily | SFamily, like: Tensor | Styles) -> Edit:
        """The edit, which is made at its first use."""
        dtype = like.dtype if isinstance(like, Tensor) else like[0].dtype
        if (name, dtype) not in self._edits:
            # Tensors made in inference mode could not be used in training later.
            with torch.inference_mode(False), torch.no_grad():
                self._edits[name, dtype] = family.edit(name, like)  # type: ignore[arg-type]
        return self._edits[name, dtype]

    def _find(self, name: str) -> WFamily | SFamily:
        for family in self._families.values():
            if family.knows(name):
                if isinstance(family, TextFamily):
                    family.parse(name)
                return family
        names = {known.casefold(): known for family in self._families.values() for known in family.directions}
        close = [names[match] for match in difflib.get_close_matches(name.casefold(), names, n=3, cutoff=0.5)]
        hint = f"nearest: {', '.join(repr(match) for match in close)}" if close else "no name is similar"
        raise UserError(
            f"editing '{name}' is not among the directions of {self.domain.name}; {hint}; "
            "all are listed in available_directions.txt"
        )


def _column(powers: Sequence[float], w: Tensor) -> Tensor:
    """A power for each row of w, written where w is: a copy from the CPU would wait for the GPU."""
    if len(powers) == 1:
        return w.new_full((len(w),), powers[0])
    return torch.cat([w.new_full((1,), power) for power in powers])


def _family(domain: str, name: str, spec: dict, resources: Resources) -> WFamily | SFamily:
    if name not in FAMILIES:
        raise UserError(f"domain {domain}: editings.{name} is not a family; there are: {', '.join(FAMILIES)}")
    try:
        return FAMILIES[name](spec, resources)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"domain {domain}: editings.{name} lacks something or is ill-formed: {error!r}") from error


def _checked_powers(name: str, powers: Powers, useful: Range) -> list[float]:
    values = [float(power) for power in (powers if isinstance(powers, Iterable) else [powers])]
    for value in values:
        if not math.isfinite(value) or abs(value) > MAX_POWER:
            low, high = useful
            raise UserError(
                f"editing '{name}': power {value:g} is not a finite number from {-MAX_POWER:g} to {MAX_POWER:g}; "
                f"useful are {low:g} to {high:g}"
            )
    return values
