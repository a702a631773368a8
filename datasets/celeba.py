"""The attributes of CelebA's images, in each of the layouts in which they are published."""

import csv
import difflib
from collections.abc import Iterator
from pathlib import Path

from utils.errors import UserError
from utils.files import IMAGE_SUFFIXES

SOURCE = "it comes with CelebAMask-HQ, https://github.com/switchablenorms/CelebAMask-HQ"


class CelebaAttributes:
    """Which images of the table have one attribute. Images are identified by the stem of their file name."""

    def __init__(self, path: Path, attribute: str) -> None:
        """The file: `CelebAMask-HQ-attribute-anno.txt` or `list_attr_celeba.txt` (a line with the count, one with the
        names, then `N.jpg  1 -1 …`, one line an image), or Kaggle's `list_attr_celeba.csv` (separated by commas, the
        names in the first line). The separator distinguishes them.

        Raises UserError if the table is missing or ill-formed, or lacks the attribute.
        """
        if not path.is_file():
            raise UserError(f"attribute table {path} does not exist; {SOURCE}: name it by --celeba_attr_table_pth")
        self.path = path
        self._has: dict[str, bool] = {}
        rows = _rows(path)
        first, names = next(rows, (0, []))
        number, fields = next(rows, (0, []))
        if first == 1 and len(fields) == len(names):  # without a count, the first column may have a name, too
            names = names[1:]
        if attribute not in names:
            close = difflib.get_close_matches(attribute, names, n=3, cutoff=0.4) or names[:40]
            raise UserError(f"{path} has no attribute '{attribute}'; nearest: {', '.join(close) or 'none'}")
        column = 1 + names.index(attribute)
        while fields:
            if len(fields) != 1 + len(names) or fields[column] not in ("1", "-1"):
                raise UserError(f"{path}, line {number}: wanted: a file name and {len(names)} times 1 or -1")
            self._has[_key(fields[0])] = fields[column] == "1"
            number, fields = next(rows, (0, []))

    def has(self, path: Path) -> bool | None:
        """Whether this image has the attribute; None if the image is not in the table."""
        return self._has.get(_key(path.name))


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line numbers and fields, from the line with the names on; empty lines are left out."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        head = [file.readline() for _ in range(2)]
        separator = next((mark for mark in ",;" if mark in "".join(head)), "")
        file.seek(0)
        lines = csv.reader(file, delimiter=separator) if separator else (line.split() for line in file)
        try:
            for number, line in enumerate(lines, start=1):
                fields = [field.strip() for field in line]
                if any(fields) and not (number == 1 and len(fields) == 1 and fields[0].isdecimal()):  # the count
                    yield number, fields
        except csv.Error as error:
            raise UserError(f"{path} is not an attribute table ({error}); {SOURCE}") from None


def _key(name: str) -> str:
    """00012.png is the table's 12.jpg, and so is 12.jpg.png, which `output_names` makes of it."""
    path = Path(name)
    while path.suffix.lower() in IMAGE_SUFFIXES:
        path = path.with_suffix("")
    return str(int(path.name)) if path.name.isdecimal() else path.name
