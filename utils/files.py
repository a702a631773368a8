"""Files and folders: writing that never leaves half a file, and finding pictures."""

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from utils.errors import UserError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".tif", ".tiff", ".webp"})
_TEMPORARY = re.compile(r"\.[0-9a-f]{16}\.\w+")  # names of the files of atomic_path


def check_writable(path: str | Path) -> None:
    """Fail early if a file could not be written at `path`; creates nothing.

    Missing folders are fine as long as they could be made. Raises UserError naming the path and what stands in its way.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise UserError(f"{path}: is a folder; give the name of a file in it")
        # A dangling link counts as standing in the way: mkdir would trip over it.
        folder = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
        if not folder.is_dir():
            raise UserError(f"{path}: cannot be written, because {folder} is not a folder; choose another place")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise UserError(f"{path}: cannot be written, because {folder} is not writable; choose another place")
    except (OSError, ValueError) as error:  # a name too long or with a NUL in it
        raise UserError(f"{path}: is no usable file name ({error}); choose another") from error


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary file beside `path` that takes its place once the block has ended well.

    The temporary file has the suffix of `path`, since some writers choose the format by it, and a leading dot, so
    that `list_images` never sees it. Missing folders are made. Readers see the old file or the whole new one, even
    after a power cut; when the block raises, the old file stays as it was and the temporary one is removed.

    Raises UserError if the folder cannot be made or written; what the block raises passes through.
    """
    path = Path(path)
    check_writable(path)
    temporary = path.with_name(f".{secrets.token_hex(8)}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)  # unlike tempfile's, this file gets the permissions the umask asks for
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); choose another place") from error
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def remove_temporaries(folder: Path) -> None:
    """Remove what killed processes left of `atomic_path` under `folder`; only while nobody writes there."""
    for path in folder.rglob(".*"):
        if _TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Wait until the file's data, or the folder's entries, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def list_images(folder: str | Path) -> list[Path]:
    """All pictures under `folder`, searched recursively and sorted: see IMAGE_SUFFIXES, in either case.

    Hidden files are left out: they are other programs' or our own temporary ones, like macOS's `._photo.jpg`.
    Raises UserError if `folder` does not exist or is a file. An empty list is for the caller to judge.
    """
    folder = Path(folder)
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "does not exist"
        raise UserError(f"{folder}: {found}; give a folder of pictures")
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    )
