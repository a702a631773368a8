"""Edits that are named by words: `{prefix}_{neutral}_{target}_{number}`."""

import math
from pathlib import Path
from typing import ClassVar, NamedTuple

from torch import Tensor

from configs.paths import weight_file
from editings.clip_text import ClipEncoder
from editings.edit import Range, SFamily, as_range
from utils.errors import UserError


class TextEdit(NamedTuple):
    """The parts of a name, e.g. "face with hair", "face with fire hair" and 0.10."""

    neutral: str
    target: str
    threshold: float


class TextFamily(SFamily):
    """A family whose directions come from CLIP's text space: any two phrases define one."""

    prefix: ClassVar[str]
    number: ClassVar[str]  # what the name's last part is called
    example: ClassVar[str]

    @property
    def pattern(self) -> str:
        return f"{self.prefix}_{{neutral}}_{{target}}_{{{self.number}}}"

    def read_directions(self) -> dict[str, Range]:
        return {self.pattern: as_range(self.spec["range"])}

    def knows(self, name: str) -> bool:
        return name == self.prefix or name.startswith(f"{self.prefix}_")

    def useful_range(self, name: str) -> Range:
        return self.directions[self.pattern]

    def parse(self, name: str) -> TextEdit:
        """Split a name into its parts. Raises UserError saying what is wrong with it."""
        parts = name.removeprefix(self.prefix).removeprefix("_").split("_")
        fault = ""
        if len(parts) != 3:
            fault = f"it has {len(parts)} parts between underscores after '{self.prefix}', wanted 3"
        elif not parts[0].strip() or not parts[1].strip():
            fault = "a phrase is empty"
        elif not _is_threshold(parts[2]):
            fault = f"{self.number} is '{parts[2]}', wanted a number from 0 such as 0.10"
        if fault:
            raise UserError(
                f"editing '{name}': {fault}; a text edit is called {self.pattern}, the phrases without "
                f"underscores, for example '{self.example}'"
            )
        return TextEdit(parts[0], parts[1], float(parts[2]))

    def files(self, name: str = "") -> list[Path]:
        """Every file that its edits read, whatever their names."""
        weights = [weight_file(self.spec[key]) for key in ("clip", "mapper") if key in self.spec]
        tables = [self.spec[key] for key in ("templates", "relevance", "statistics") if key in self.spec]
        return weights + [self.resources.folder / table for table in tables]

    @property
    def clip(self) -> ClipEncoder:
        """Shared by both text families."""
        return self.resources.clip(weight_file(self.spec["clip"]), self.spec["templates"])

    def text_difference(self, edit: TextEdit) -> Tensor:
        """CLIP's embedding of the target minus that of the neutral phrase (E), not normalised."""
        difference = self.clip.text(edit.target) - self.clip.text(edit.neutral)
        if not difference.any():
            raise UserError(f"the phrases '{edit.neutral}' and '{edit.target}' mean the same to CLIP: nothing to edit")
        return difference


def _is_threshold(text: str) -> bool:
    try:
        value = float(text)
    except ValueError:
        return False
    return math.isfinite(value) and value >= 0
