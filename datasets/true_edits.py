"""Images with their true edits: a folder with `before/NAME`, `after/NAME`, and edits.jsonl, a line for each pair."""

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from utils.devices import send
from utils.errors import UserError
from utils.files import atomic_path
from utils.images import load_square, normalize, to_pixels

FILE = "edits.jsonl"


@dataclass(frozen=True)
class TrueEdit:
    """B images, what one direction should make of them, and with which powers. Images are in [-1, 1]."""

    before: Tensor  # B×3×size×size
    after: Tensor  # B×3×size×size
    direction: str
    powers: list[float]  # B
    names: list[str]  # B


def write_edits(folder: Path, rows: Iterable[tuple[str, str, float]]) -> None:
    """Write the lines of a folder's pairs: file, direction and power."""
    with atomic_path(folder / FILE) as temporary:
        lines = (json.dumps({"file": name, "direction": direction, "power": power}) for name, direction, power in rows)
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


class TrueEdits:
    """The pairs of a folder."""

    def __init__(self, folder: str | Path, size: int) -> None:
        """`size`: pixels of the images. Raises UserError if a file is missing or a line is not as needed."""
        self.folder, self.size = Path(folder), size
        path = self.folder / FILE
        if not path.is_file():
            raise UserError(f"{path} does not exist; scripts/make_true_edits.py draws such a folder")
        self.rows: dict[str, list[tuple[str, float]]] = defaultdict(list)  # direction -> (file, power)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            try:
                row = json.loads(line)
                if Path(row["file"]).name != row["file"]:
                    raise ValueError("file is not a plain name")
                self.rows[str(row["direction"])].append((row["file"], float(row["power"])))
            except (ValueError, KeyError, TypeError) as error:
                expected = '{"file": "000001.png", "direction": "age", "power": 5}'
                raise UserError(f"{path}, line {number}: expected {expected}") from error
        if not self.rows:
            raise UserError(f"{path} holds no edit")
        for name, _ in (row for rows in self.rows.values() for row in rows):
            missing = [side for side in ("before", "after") if not (self.folder / side / name).is_file()]
            if missing:
                raise UserError(f"{self.folder / missing[0] / name} does not exist, but {path} names it")

    def draw(self, count: int, device: torch.device) -> TrueEdit:
        """`count` pairs of one direction on the device, by the global random generator.

        Raises UserError for a damaged image.
        """
        directions = list(self.rows)
        direction = directions[int(torch.randint(len(directions), ()))]
        rows = self.rows[direction]
        chosen = [rows[i] for i in torch.randint(len(rows), (count,)).tolist()]
        names, powers = [name for name, _ in chosen], [power for _, power in chosen]
        before, after = (self._read(side, names, device) for side in ("before", "after"))
        return TrueEdit(before, after, direction, powers, names)

    def _read(self, side: str, names: list[str], device: torch.device) -> Tensor:
        pixels = [to_pixels(load_square(self.folder / side / name, self.size)) for name in names]
        return normalize(send(torch.stack(pixels), device))
