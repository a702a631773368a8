"""The attributes of CelebA-HQ's pictures (CelebAMask-HQ-attribute-anno.txt)."""

import difflib
from pathlib import Path

from utils.errors import UserError

SOURCE = "it comes with CelebAMask-HQ, https://github.com/switchablenorms/CelebAMask-HQ"


class CelebaAttributes:
    """Which pictures of the table have one attribute. Pictures are told by their file name's stem."""

    def __init__(self, path: Path, attribute: str) -> None:
        """The file: a line with the count, one with the names, then `N.jpg  1 -1 …`, one line a picture.

        Raises UserError if the table is missing or ill-formed, or does not know the attribute.
        """
        if not path.is_file():
            raise UserError(f"attribute table {path} does not exist; {SOURCE}: name it by --celeba_attr_table_pth")
        self.path = path
        self._has: dict[str, bool] = {}
        with path.open(encoding="utf-8", errors="replace") as file:
            file.readline()
            names = file.readline().split()
            if attribute not in names:
                close = difflib.get_close_matches(attribute, names, n=3, cutoff=0.4) or names[:40]
                raise UserError(f"{path} has no attribute '{attribute}'; nearest: {', '.join(close) or 'none'}")
            column = 1 + names.index(attribute)
            for number, line in enumerate(file, start=3):
                fields = line.split()
                if not fields:
                    continue
                if len(fields) != 1 + len(names) or fields[column] not in ("1", "-1"):
                    raise UserError(f"{path}, line {number}: wanted: a file name and {len(names)} times 1 or -1")
                self._has[_key(fields[0])] = fields[column] == "1"

    def has(self, path: Path) -> bool | None:
        """Whether this picture has the attribute; None if the table does not know the picture."""
        return self._has.get(_key(path.name))


def _key(name: str) -> str:
    """00012.png is the table's 12.jpg."""
    stem = Path(name).stem
    return str(int(stem)) if stem.isdecimal() else stem
