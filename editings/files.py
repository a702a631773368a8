"""Read direction files; whatever is wrong with one becomes a single line that names it."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from utils import safe_pickle
from utils.errors import UserError

T = TypeVar("T")


def read_tensor(path: Path) -> Tensor:
    """A `.pt` file that holds one tensor (for files that hold several, see models.weights)."""
    found = _read(path, lambda p: torch.load(p, map_location="cpu", weights_only=True))
    if not isinstance(found, Tensor):
        raise wrong_content(path, f"a {type(found).__name__}", "a tensor")
    return found


def read_array(path: Path) -> Tensor:
    """A `.npy` file of numbers."""
    found = _read(path, lambda p: np.load(p, allow_pickle=False))
    if not isinstance(found, np.ndarray) or found.dtype.kind != "f":
        raise wrong_content(path, f"a {getattr(found, 'dtype', type(found).__name__)} array", "an array of floats")
    return torch.from_numpy(found)


def read_pickle(path: Path) -> Any:
    """A pickle of lists, dicts and arrays; nothing that it names is imported or run."""
    return _read(path, safe_pickle.load)


def read_lines(path: Path) -> list[str]:
    """The lines of a text file without their ends; empty ones are left out."""
    text = _read(path, lambda p: p.read_text(encoding="utf-8"))
    return [line.strip() for line in text.splitlines() if line.strip()]


def wrong_content(path: Path, found: object, wanted: object) -> UserError:
    """The error for a file that can be read, but is not what its name says, or is for another generator."""
    return UserError(
        f"{path} holds {found}; wanted: {wanted}; check that it is the published file, made for exp.domain"
    )


def check_shape(path: Path, found: Tensor, *wanted: int) -> Tensor:
    """`found` itself, or UserError."""
    if tuple(found.shape) != wanted:
        raise wrong_content(path, _times(found.shape), _times(wanted))
    return found


def _times(shape: Any) -> str:
    return "×".join(map(str, shape)) or "one number"


def _read(path: Path, reader: Callable[[Path], T]) -> T:
    if not path.is_file():
        raise UserError(f"{path} does not exist; scripts/download_weights.py fetches the published files")
    try:
        return reader(path)
    except UserError:
        raise
    # What a damaged file makes zipfile, pickle, torch and NumPy raise.
    except (OSError, RuntimeError, ValueError, EOFError, LookupError, pickle.UnpicklingError) as error:
        raise UserError(
            f"{path} cannot be read ({type(error).__name__}); it is damaged or of another format: "
            "fetch it again with scripts/download_weights.py"
        ) from error
