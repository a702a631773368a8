"""Files of inversions: a safetensors file of one inverted image, which only the networks that made it can decode.

Tensors: `crop` size×size×3 uint8, `w` 1×n_styles×D, `features` 1×C×h×w, `w_e4e` 1×n_styles×D (where the method uses
it), float32; `quad` 4×2 float64, where the crop was cut out of a photograph. The metadata `inversion` is JSON: version,
domain, the weights' sums, and the photograph's path, size and sum.
"""

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from arguments.domain import DomainConfig
from configs.paths import weight_file
from models.sfe import Inversion
from utils.errors import UserError
from utils.file_sums import file_sum, weights_sum
from utils.files import INVERSION_SUFFIX, atomic_path
from utils.images import MIN_SIDE, normalize

VERSION = 1

_KEY = "inversion"  # of the metadata
_MAX_HEADER = 1 << 20  # bytes; ours has about 2000
_MAX_SIDE = 4096  # px of the crop
_MAX_CORNER = 1e6  # px of the photograph
_DAMAGED = (
    SafetensorError, OSError, LookupError, ValueError, TypeError, ArithmeticError, AttributeError, RecursionError
)  # fmt: skip
_GEOMETRY = ("generator", "encoder_size", "inverter", "e4e")  # of a domain: what its latents depend on


@dataclass(frozen=True)
class Origin:
    """The networks that made an inversion, and that alone can decode it."""

    domain: str
    domain_sum: str  # of the networks' geometry
    weights: dict[str, str]  # generator, e4e, trained part -> sum
    files: dict[str, str]  # the same -> name of the file

    @classmethod
    def of(cls, domain: DomainConfig, checkpoint: Path) -> "Origin":
        """Raises UserError if a file is missing."""
        geometry = json.dumps({key: asdict(domain)[key] for key in _GEOMETRY}, sort_keys=True)
        files = {role: weight_file(domain.weights[role]) for role in ("generator", "e4e")}
        files = {role: path for role, path in files.items() if path.is_file()} | {"trained part": checkpoint}
        return cls(
            domain.name, hashlib.sha256(geometry.encode()).hexdigest(),
            {role: weights_sum(path) for role, path in files.items()},
            {role: str(path) for role, path in files.items()},
        )  # fmt: skip

    def check(self, other: "Origin", source: str | Path) -> None:
        """Raise UserError naming what differs, unless an inversion of `other` can be decoded by these networks.

        source: the inversion's name in the error.
        """
        if other.domain_sum != self.domain_sum:
            same = " in another version" if other.domain == self.domain else ""
            raise UserError(
                f"{source}: was inverted in the domain {other.domain[:50]!r}{same}; this run's is {self.domain}, "
                "invert the image again"
            )
        for role, its_sum in other.weights.items():
            if its_sum != self.weights.get(role):
                here = self.files.get(role, "not there")
                raise UserError(
                    f"{source}: was inverted with another {role} ({other.files[role][:80]!r}, sum {its_sum[:12]!r}); "
                    f"this run's is {here}, sum '{self.weights.get(role, '')[:12]}'; give that one, or invert the "
                    "image again"
                )


@dataclass(frozen=True)
class Photograph:
    """The file that an image was read from, and what identifies it."""

    path: Path
    size: int  # bytes
    sum: str  # utils.file_sums.file_sum

    @classmethod
    def of(cls, path: Path) -> "Photograph":
        return cls(path, path.stat().st_size, file_sum(path))

    def is_still(self, path: Path) -> bool:
        """Whether this file is the photograph. A file of another size is not read."""
        try:
            return path.is_file() and path.stat().st_size == self.size and file_sum(path) == self.sum
        except (OSError, ValueError):  # a name too long, or with a NUL in it
            return False


@dataclass(frozen=True)
class SavedInversion:
    """What an inversion file holds."""

    photograph: Photograph
    crop: np.ndarray  # size×size×3 uint8
    inversion: Inversion  # of one image; its image is the crop
    quad: np.ndarray | None  # 4×2, the crop's corners in the photograph
    origin: Origin


def is_inversion_file(path: str | Path) -> bool:
    return Path(path).suffix.lower() == INVERSION_SUFFIX


def save_inversion(saved: SavedInversion, path: str | Path) -> None:
    """Write an inversion file, whole or not at all. Raises UserError if that cannot be done."""
    path = Path(path)
    check_inversion_path(path)
    inversion, origin = saved.inversion, saved.origin
    tensors = {"w": inversion.w, "features": inversion.features}
    roles = ["generator", "trained part"]
    if inversion.w_e4e is not None:
        tensors["w_e4e"] = inversion.w_e4e
        roles.append("e4e")
    tensors = {key: tensor.detach().cpu().float().contiguous() for key, tensor in tensors.items()}
    tensors["crop"] = torch.from_numpy(np.array(saved.crop))
    if saved.quad is not None:
        tensors["quad"] = torch.from_numpy(np.array(saved.quad, dtype=np.float64))
    photograph = saved.photograph
    facts = {
        "version": VERSION,
        "domain": {"name": origin.domain, "sum": origin.domain_sum},
        "weights": {role: {"file": Path(origin.files[role]).name, "sum": origin.weights[role]} for role in roles},
        "photograph": {"path": str(photograph.path.absolute()), "bytes": photograph.size, "sum": photograph.sum},
    }
    try:
        with atomic_path(path) as temporary:
            temporary.write_bytes(save(tensors, {_KEY: json.dumps(facts)}))  # save_file makes a new file
    except (OSError, SafetensorError) as error:  # a full disk
        raise UserError(f"{path}: cannot be written ({error}); choose another place") from error


def check_inversion_path(path: str | Path) -> None:
    """Raise UserError unless this is a name for an inversion file."""
    if not is_inversion_file(path):
        raise UserError(f"{path}: an inversion file is called .safetensors; choose such a name")


def load_inversion(path: str | Path, domain: DomainConfig, origin: Origin) -> SavedInversion:
    """Read an inversion file of these networks; the tensors are on the CPU.

    Nothing in the file is run, and no memory is allocated before shapes and types have been checked. The photograph is
    not read.

    Raises UserError if the file is missing, damaged, of a later version or of other networks.
    """
    path = Path(path)
    try:
        facts, tensors = _read(path, domain, origin)
        photograph = facts["photograph"]
        source = Photograph(Path(photograph["path"]), int(photograph["bytes"]), str(photograph["sum"]))
    except _BadFileError as error:
        raise UserError(f"{path}: is not an inversion file, or is damaged ({error}); invert the image again") from None
    except _DAMAGED as error:
        why = " ".join(str(error).split())[:200]
        raise UserError(
            f"{path}: is not an inversion file, or is damaged ({type(error).__name__}: {why}); invert the image again"
        ) from error
    crop = tensors["crop"]
    image = normalize(crop.permute(2, 0, 1)).contiguous()[None]
    inversion = Inversion(image, tensors["w"], tensors["features"], tensors.get("w_e4e"))
    quad = tensors["quad"].numpy() if "quad" in tensors else None
    return SavedInversion(source, crop.numpy(), inversion, quad, _origin(facts))


class _BadFileError(Exception):
    """What is wrong with the file."""


def _read(path: Path, domain: DomainConfig, origin: Origin) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not path.exists():
        raise UserError(f"{path}: does not exist; give the path of an inversion file")
    if not path.is_file():
        raise UserError(f"{path}: is not a regular file; give the path of an inversion file")
    with path.open("rb") as file:
        header = int.from_bytes(file.read(8), "little")
    if header > _MAX_HEADER:
        raise _BadFileError(f"its header has {header} bytes; wanted at most {_MAX_HEADER}")
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
        if _KEY not in metadata:
            raise _BadFileError(f"its metadata lacks '{_KEY}'")
        facts = json.loads(metadata[_KEY])
        version = int(facts["version"])
        if version != VERSION:
            raise UserError(f"{path}: is of version {version:.3g}; this one reads {VERSION}, get a newer program")
        origin.check(_origin(facts), path)
        names = set(file.keys())
        shapes = _shapes(domain)
        if odd := (names - {"w_e4e", "quad"}) ^ {"crop", "w", "features"}:
            raise _BadFileError(f"{min(odd)[:50]!r} is missing, or not wanted")
        if ("w_e4e" in names) != ("e4e" in facts["weights"]):
            raise _BadFileError("w_e4e and the sum of e4e go together")
        for name in names:
            part = file.get_slice(name)
            _check_tensor(name, list(part.get_shape()), part.get_dtype(), shapes)
        tensors = {name: file.get_tensor(name).clone() for name in names}
    for name in names - {"crop"}:
        if not tensors[name].isfinite().all():
            raise _BadFileError(f"'{name}' has numbers that are not finite")
    if "quad" in tensors:
        _check_quad(tensors["quad"].numpy())
    return facts, tensors


def _origin(facts: dict[str, Any]) -> Origin:
    weights = facts["weights"]
    if not {"generator", "trained part"} <= set(weights):
        raise _BadFileError("sums of weights are missing")
    return Origin(
        str(facts["domain"]["name"]), str(facts["domain"]["sum"]),
        {role: str(entry["sum"]) for role, entry in weights.items()},
        {role: str(entry["file"]) for role, entry in weights.items()},
    )  # fmt: skip


def _shapes(domain: DomainConfig) -> dict[str, tuple[list[int], str]]:
    w = [1, domain.generator.n_styles, domain.generator.style_dim], "F32"
    features = [1, domain.feature_channels, domain.feature_size, domain.feature_size], "F32"
    return {"w": w, "w_e4e": w, "features": features, "quad": ([4, 2], "F64")}


def _check_tensor(name: str, shape: list[int], dtype: str, shapes: dict[str, tuple[list[int], str]]) -> None:
    if name == "crop":
        side = shape[0] if shape else 0
        if not MIN_SIDE <= side <= _MAX_SIDE or shape != [side, side, 3] or dtype != "U8":
            raise _BadFileError(f"'crop' is {dtype} {shape}; wanted U8, size×size×3, {MIN_SIDE} to {_MAX_SIDE} px")
    elif (shape, dtype) != shapes[name]:
        wanted, kind = shapes[name]
        raise _BadFileError(f"'{name}' is {dtype} {shape}; wanted {kind} {wanted}")


def _check_quad(quad: np.ndarray) -> None:
    """Check for a square, as FFHQ's rule makes them, neither so small nor so far away that pasting would take long."""
    x, y = quad[3] - quad[0], quad[1] - quad[0]
    side = math.hypot(*x)
    off = max(np.abs(quad[2] - quad[0] - x - y).max(), np.abs(y - (-x[1], x[0])).max())
    if np.abs(quad).max() > _MAX_CORNER or side < 1 or off > 0.05 * side:
        raise _BadFileError(f"'quad' is not a square of 1 px or more within {_MAX_CORNER:g} px")
