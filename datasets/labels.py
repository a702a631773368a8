"""Labels of images: `labels.jsonl` in their folder, one object a line, the file's name and its attributes' values."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from utils.errors import UserError
from utils.files import atomic_path

FILE = "labels.jsonl"
HIDDEN = -1  # the label of an attribute that an image does not show; losses ignore it


def write_labels(folder: Path, rows: Iterable[tuple[str, Mapping[str, str | None]]]) -> None:
    """Write the labels of a folder: (file, attribute -> value or None) of each image."""
    with atomic_path(folder / FILE) as temporary:
        temporary.write_text("".join(json.dumps({"file": file, **row}) + "\n" for file, row in rows), encoding="utf-8")


class Labels:
    """The labels of a folder. A value of null says that the image does not show the attribute.

    `attributes`: name -> its values, sorted.
    """

    def __init__(self, folder: str | Path) -> None:
        """Raises UserError if the file is missing, or a line is malformed."""
        self.path = Path(folder) / FILE
        if not self.path.is_file():
            raise UserError(f'{self.path} does not exist; wanted lines such as {{"file": "a.png", "glasses": "round"}}')
        self.rows: dict[str, dict[str, str | None]] = {}
        for number, line in enumerate(self.path.read_text(encoding="utf-8").splitlines(), 1):
            self._add(number, line)
        names = list(dict.fromkeys(name for row in self.rows.values() for name in row))
        self.attributes = {
            name: sorted({value for row in self.rows.values() if (value := row.get(name)) is not None})
            for name in names
        }

    def of(self, files: list[str]) -> dict[str, Tensor]:
        """Attribute -> index into its values, or HIDDEN, for each file; int64. A file without a line shows none."""
        return {
            name: torch.tensor([self._index(self.rows.get(file, {}).get(name), values) for file in files])
            for name, values in self.attributes.items()
        }

    def _add(self, number: int, line: str) -> None:
        try:
            row = json.loads(line)
            file = row.pop("file")
            good = isinstance(file, str) and all(value is None or isinstance(value, str) for value in row.values())
        except (ValueError, KeyError, AttributeError, TypeError):
            good = False
        if not good:
            raise UserError(f'{self.path}, line {number}: wanted {{"file": NAME, ATTRIBUTE: TEXT or null, …}}')
        self.rows[file] = row

    @staticmethod
    def _index(value: str | None, values: list[str]) -> int:
        return HIDDEN if value is None else values.index(value)
