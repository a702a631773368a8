"""Files and folders: writing that never leaves half a file and never touches an input, and finding images."""

import os
import re
import secrets
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from utils import file_locks
from utils.errors import UserError

HEIF_SUFFIXES = frozenset({".heic", ".heif", ".hif"})  # read where pillow-heif is installed
SAVED_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".tif", ".tiff", ".webp"})
IMAGE_SUFFIXES = SAVED_SUFFIXES | {
    ".jpe", ".jfif", ".mpo", ".apng", ".gif", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".jpx", ".jpf", ".avif",
}  # fmt: skip
if find_spec("pillow_heif"):
    IMAGE_SUFFIXES |= HEIF_SUFFIXES

INVERSION_SUFFIX = ".safetensors"

_HIDDEN = "hidden"
_LINK = "links to folders"
_CLOSED = "folders that cannot be opened"
_OWN = "results of this run"
_HEIF = "HEIC, which want: pip install pillow-heif"
_FORMAT = "of formats that are not read"
_NO_FILE = "no regular files"
_NAMED = 3  # files that are named for each reason
_TEMPORARY = re.compile(r"\.[0-9a-f]{16}\.\w+")  # names of the files of atomic_path


def check_writable(path: str | Path) -> None:
    """Fail early if a file could not be written at `path`; creates nothing.

    Missing folders are fine if they could be made. Raises UserError naming the path and what is in its way.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise UserError(f"{path}: is a folder; give the name of a file in it")
        # A dangling link counts as being in the way: mkdir would fail on it.
        folder = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
        if not folder.is_dir():
            raise UserError(f"{path}: cannot be written, because {folder} is not a folder; choose another place")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise UserError(f"{path}: cannot be written, because {folder} is not writable; choose another place")
    except (OSError, ValueError) as error:  # a name too long or with a NUL in it
        raise UserError(f"{path}: is not a usable file name ({error}); choose another") from error


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary file beside `path` that replaces it once the block has ended without error.

    The temporary file has the suffix of `path`, since some writers choose the format by it, and a leading dot, so
    that `list_images` skips it. Missing folders are made. Readers see the old file or the whole new one, even
    after a power cut; when the block raises, the old file is unchanged and the temporary one is removed. It is
    locked as long as it is in use, so that `remove_temporaries` of another run leaves it alone.

    Raises UserError if the folder cannot be made or written; what the block raises passes through.
    """
    path = Path(path)
    check_writable(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary, lock = _locked_file(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); choose another place") from error
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)
    finally:
        os.close(lock)
        temporary.unlink(missing_ok=True)


def _locked_file(path: Path) -> tuple[Path, int]:
    """A new temporary file beside `path`, and the descriptor that holds its lock; a killed process releases it."""
    while True:
        temporary = path.with_name(f".{secrets.token_hex(8)}{path.suffix}")
        # Unlike tempfile's, this file gets the permissions that the umask asks for.
        lock = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        with suppress(OSError):  # a file system without locks
            file_locks.lock(lock)
        if os.fstat(lock).st_nlink:  # nobody removed it before the lock
            return temporary, lock
        os.close(lock)


def remove_temporaries(folder: Path) -> None:
    """Remove what killed processes left of `atomic_path` under `folder`; files that are being written stay."""
    for path in folder.rglob(".*"):
        if _TEMPORARY.fullmatch(path.name):
            with suppress(OSError), path.open("rb") as file:  # locked, or gone by now
                if file_locks.lock(file, wait=False):
                    path.unlink()


def check_apart(outputs: Iterable[str | Path], inputs: Iterable[str | Path]) -> None:
    """Fail before any work if one of the files to be written is one that is read. Raises UserError naming it."""
    there = {_identity(path): path for path in map(Path, outputs)}
    there.pop(None, None)
    for path in map(Path, inputs) if there else ():
        if output := there.get(_identity(path)):
            raise UserError(f"{output}: would be overwritten, but it is an input; choose another place for results")


def _identity(path: Path) -> tuple[int, int] | None:
    """What two paths of one file share; None where there is no file."""
    try:
        # Resolved, as a folder that is not there yet may lead back: new/../photo.jpg.
        status = path.resolve().stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def check_folders_apart(source: Path, inputs: Iterable[str], target: Path, outputs: Iterable[str], option: str) -> None:
    """The same for whole folders: `inputs` below `source` are read, `outputs` below `target` written."""
    source, target = source.resolve(), target.resolve()
    if target.is_relative_to(source):
        read, inner = set(inputs), target.relative_to(source)
        clash = next((name for name in outputs if (inner / name).as_posix() in read), None)
    elif source.is_relative_to(target):
        written, inner = set(outputs), source.relative_to(target)
        read_names = ((inner / name).as_posix() for name in inputs)
        clash = next((name for name in read_names if name in written), None)
    else:
        return
    if clash is not None:
        raise UserError(f"{target / clash}: would be overwritten, but it is an input; choose another {option}")


def check_outside(results: Path, images: str | Path, option: str) -> None:
    """Fail if `results`, the folder of `option`, is below `images`, where images among the results would be found."""
    if results.resolve().is_relative_to(Path(images).resolve()):
        raise UserError(f"{option}: {results} is inside {images}, so results would be read as images; choose another")


def numbered_files(folder: Path, prefix: str, suffix: str) -> list[tuple[int, Path]]:
    """Files such as iteration_12.pt with their numbers, which rise; iteration_12_backup.pt, for one, is left out."""
    names = re.compile(re.escape(prefix) + r"(\d+)" + re.escape(suffix))
    matches = ((names.fullmatch(path.name), path) for path in folder.glob(f"{prefix}*{suffix}"))
    return sorted((int(match[1]), path) for match, path in matches if match)


def _sync(path: Path) -> None:
    """Wait until the file's data, or the folder's entries, are on the disk."""
    if os.name == "nt" and path.is_dir():  # Windows opens no folders
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class Listing:
    """The images below a folder, sorted.

    `left_out` says in one line what else is there and why it was left out; "" if nothing was.
    """

    paths: list[Path]
    left_out: str


def find_images(
    folder: str | Path, without: str | Path | None = None, also: frozenset[str] = frozenset()
) -> Listing:
    """All images below `folder`: see IMAGE_SUFFIXES, in either case; `also` are further suffixes that count.

    Left out are hidden files and folders, which belong to other programs or are our own temporary ones (`._photo.jpg`,
    `.ipynb_checkpoints`, `.Trash-1000`), links to folders, and the folder `without`, where results are written.

    Raises UserError if `folder` does not exist, is a file or cannot be opened. No image is for the caller to judge.
    """
    folder, results = Path(folder), Path(without).resolve() if without is not None else None
    if not folder.is_dir():
        fault = "is a file" if folder.exists() else "does not exist"
        raise UserError(f"{folder}: {fault}; give a folder of images")
    paths: list[Path] = []
    left_out: dict[str, list[str]] = defaultdict(list)

    def leave_out(reason: str, path: Path, mark: str = "") -> None:
        left_out[reason].append(f"{path.relative_to(folder).as_posix()}{mark}")

    def closed(error: OSError) -> None:
        if Path(error.filename) == folder:
            raise UserError(f"{folder}: cannot be opened ({error.strerror}); give a folder of images") from error
        leave_out(_CLOSED, Path(error.filename), "/")

    for where, folders, files in os.walk(folder, onerror=closed):
        here = Path(where)
        for name in list(folders):
            path = here / name
            if name.startswith("."):
                leave_out(_HIDDEN, path, "/")
            elif path.is_symlink():
                leave_out(_LINK, path, "/")
            elif results is not None and path.resolve() == results:
                leave_out(_OWN, path, "/")
            else:
                continue
            folders.remove(name)
        for name in files:
            path, suffix = here / name, Path(name).suffix.lower()
            if name.startswith("."):
                leave_out(_HIDDEN, path)
            elif suffix in IMAGE_SUFFIXES | also:
                if path.is_file():
                    paths.append(path)
                else:
                    leave_out(_NO_FILE, path)
            else:
                leave_out(_HEIF if suffix in HEIF_SUFFIXES else _FORMAT, path)
    return Listing(sorted(paths), "; ".join(_reason(reason, names) for reason, names in sorted(left_out.items())))


def list_images(folder: str | Path) -> list[Path]:
    """The paths of `find_images`."""
    return find_images(folder).paths


def _reason(reason: str, names: list[str]) -> str:
    shown = ", ".join(sorted(names)[:_NAMED]) + (", …" if len(names) > _NAMED else "")
    return f"{len(names)} {reason} ({shown})"
