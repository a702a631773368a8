"""Sums of files, by which one notices that a file is another one."""

import hashlib
import zipfile
from pathlib import Path

from utils.errors import UserError


def file_sum(path: Path) -> str:
    """SHA-256 of the file's bytes, as hexadecimal digits. Raises UserError if it cannot be read."""
    total = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                total.update(block)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    return total.hexdigest()


def weights_sum(path: Path) -> str:
    """A sum of what a weight file holds, as hexadecimal digits.

    A file of `torch.save` is a zip archive that lists a CRC-32 of each tensor. The sum is made of that list, so that
    gigabytes need not be read, and a renamed or rewritten copy has the same one. Of another file it is `file_sum`.

    Raises UserError if the file cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            parts = [(item.filename.partition("/")[2], item.CRC, item.file_size) for item in archive.infolist()]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return file_sum(path)
    tensors = sorted(part for part in parts if part[0].startswith("data/"))
    return hashlib.sha256(repr(tensors).encode()).hexdigest() if tensors else file_sum(path)
