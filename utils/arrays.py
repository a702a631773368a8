"""Reading .npz files of others: no code is run, and no more memory taken than the file is long."""

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from utils.errors import UserError


def load_npz(path: Path, names: Sequence[str], advice: str) -> dict[str, NDArray]:
    """The arrays `names` of a file that np.savez wrote. `advice` says in errors what to do.

    Raises UserError if the file is damaged, lacks one of the arrays, is compressed, or holds Python objects.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return {name: _read(archive, f"{name}.npy") for name in names}
    except (OSError, ValueError, KeyError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path} is damaged ({error}); {advice}") from error


def _read(archive: zipfile.ZipFile, member: str) -> NDArray:
    info = archive.getinfo(member)
    if info.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{member} is compressed")
    with archive.open(info) as file:
        read_header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
        shape, _, dtype = read_header[npy.read_magic(file)](file)
        if dtype.hasobject or int(np.prod(shape, dtype=object)) * dtype.itemsize > info.file_size:
            raise ValueError(f"{member} claims {shape} of {dtype} in {info.file_size} bytes")
    with archive.open(info) as file:
        return npy.read_array(file, allow_pickle=False)
