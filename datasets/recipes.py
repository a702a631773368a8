"""Recipes of directions: what a direction does to the scores that images were drawn from (a YAML file).

    age: {family: interfacegan, scores: {age: {shift: 1.2}}, power: 5, range: [-10, 10]}
    fs_glasses: {family: fs_boundaries, scores: {glasses: {from: -0.8, to: 1.4}}, power: 15, range: [-20, 30]}

`power` moves the score by `shift`, or sets it to `to`; a negative power sets it to `from`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from torch import Tensor

from arguments.loader import read_yaml
from utils.errors import UserError

FAMILIES = ("interfacegan", "fs_boundaries")


@dataclass(frozen=True)
class Change:
    """What a direction does to one score: move it by `shift`, or set it to one of two values."""

    shift: float = 0.0
    ends: tuple[float, float] | None = None  # for negative powers and for positive ones

    def apply(self, score: float, strength: float) -> float:
        """The score after `strength` times the change; 1 is that of the recipe's power."""
        if self.ends is None:
            return score + strength * self.shift
        return self.ends[strength > 0]

    def between(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """N scores at the two ends of the change."""
        if self.ends is None:
            return scores - self.shift / 2, scores + self.shift / 2
        return scores.new_full(scores.shape, self.ends[0]), scores.new_full(scores.shape, self.ends[1])


@dataclass(frozen=True)
class Recipe:
    """A direction in terms of scores."""

    family: str  # one of FAMILIES
    power: float  # that makes the whole change
    range: tuple[float, float]  # of useful powers
    changes: Mapping[str, Change]  # score -> what becomes of it


def read_recipes(path: Path) -> dict[str, Recipe]:
    """Direction -> recipe. Raises UserError if the file is missing or a recipe is not as needed."""
    recipes = {}
    rows: Any = OmegaConf.to_container(read_yaml(path))
    for name, row in rows.items():
        try:
            recipes[str(name)] = _recipe(row)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(
                f"{path}: '{name}' is not a recipe ({error!r}); expected family, scores, power and range, as in "
                "age: {family: interfacegan, scores: {age: {shift: 1.2}}, power: 5, range: [-10, 10]}"
            ) from error
    return recipes


def _recipe(row: Mapping[str, Any]) -> Recipe:
    if row["family"] not in FAMILIES:
        raise ValueError(f"family is {row['family']}; expected {' or '.join(FAMILIES)}")
    low, high = map(float, row["range"])
    changes = {}
    for score, change in row["scores"].items():
        if set(change) == {"shift"}:
            changes[score] = Change(shift=float(change["shift"]))
        elif set(change) == {"from", "to"}:
            changes[score] = Change(ends=(float(change["from"]), float(change["to"])))
        else:
            raise ValueError(f"scores.{score} has {', '.join(change)}; expected shift, or from and to")
    return Recipe(row["family"], float(row["power"]), (low, high), changes)
