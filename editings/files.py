"""Read direction files; every error is one line that names the file."""

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
    content = _read(path, lambda p: torch.load(p, map_location="cpu", weights_only=True))
    if not isinstance(content, Tensor):
        raise wrong_content(path, f"a {type(content).__name__}", "a tensor")
    return content


def read_array(path: Path) -> Tensor:
    """A `.npy` file of numbers."""
    array = _read(path, lambda p: np.load(p, allow_pickle=False))
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
        raise wrong_content(path, f"a {getattr(array, 'dtype', type(array).__name__)} array", "an array of floats")
    return torch.from_numpy(array)


def read_pickle(path: Path) -> Any:
    """A pickle of lists, dicts and arrays; nothing that it names is imported or run."""
    return _read(path, safe_pickle.load)


def read_lines(path: Path) -> list[str]:
    """The lines of a text file without their ends; empty ones are left out."""
    text = _read(path, lambda p: p.read_text(encoding="utf-8"))
    return [line.strip() for line in text.splitlines() if line.strip()]


def wrong_content(path: Path, content: object, wanted: object) -> UserError:
    """The error for a readable file with the wrong content, or for another generator."""
    return UserError(
        f"{path} holds {content}; wanted: {wanted}; check that it is the published file, made for exp.domain"
    )


def check_shape(path: Path, tensor: Tensor, *wanted: int) -> Tensor:
    """The tensor itself. Raises UserError if it has another shape."""
    if tuple(tensor.shape) != wanted:
        raise wrong_content(path, _times(tensor.shape), _times(wanted))
    return tensor


def _times(shape: Any) -> str:
    return "×".join(map(str, shape)) or "one number"


def _read(path: Path, reader: Callable[[Path], T]) -> T:
    if not path.is_file():
        raise UserError(f"{path} does not exist; scripts/download_weights.py fetches the published files")
    try:
        return reader(path)
    except UserError:
        raise
    # What zipfile, pickle, torch and NumPy raise on a damaged file.
    except (OSError, RuntimeError, ValueError, EOFError, LookupError, pickle.UnpicklingError) as error:
        raise UserError(
            f"{path} cannot be read ({type(error).__name__}); it is damaged or of another format: "
            "fetch it again with scripts/download_weights.py"
        ) from error
