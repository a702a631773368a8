"""A look into files of `torch.save` without importing torch."""

import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path

_MAX_PICKLE = 64 << 20  # bytes; names and shapes of the largest checkpoints take 1 MB


def strings(path: Path) -> Iterator[str]:
    """Every text in a checkpoint's pickle, in the order of the file: keys of state dicts are among them.

    Nothing is run, and no tensor is read. Yields nothing for a file that is not `torch.save`'s zip.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            inside = next((item for item in archive.infolist() if item.filename.endswith("/data.pkl")), None)
            if inside is None or inside.file_size > _MAX_PICKLE:
                return
            for opcode, argument, _ in pickletools.genops(archive.read(inside)):
                if "UNICODE" in opcode.name:
                    yield str(argument)
    except (zipfile.BadZipFile, OSError, ValueError, EOFError, NotImplementedError, RuntimeError):
        return  # the loader of the file reports what is wrong with it
