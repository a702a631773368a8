"""True edits: the picture of the same person with a direction applied."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache

import numpy as np

from configs.paths import ROOT
from datasets.people.factors import COLUMNS, Factors
from datasets.people.splits import Subject, subject
from datasets.recipes import Recipe, read_recipes
from utils.errors import UserError

_SEED = 9  # of which person gets which edit


@cache
def recipes() -> dict[str, Recipe]:
    """Direction -> recipe, of configs/people_directions.yaml."""
    return read_recipes(ROOT / "configs" / "people_directions.yaml")


def edited(subject: Subject, direction: str, power: float) -> Subject:
    """The subject as the edit should make it. Details stay.

    Raises KeyError for a direction without recipe. Where nature forbids the change, the subject stays as it is.
    """
    recipe, scores = recipes()[direction], subject.scores.copy()
    for name, change in recipe.changes.items():
        column = COLUMNS.index(name)
        scores[column] = change.apply(scores[column], power / recipe.power)
    return replace(subject, scores=scores, factors=Factors.from_scores(scores))


def drawn_edit(index: int, powers: Mapping[str, Sequence[float]]) -> tuple[Subject, str, float]:
    """Person `index` of the training split, and a direction and power of `powers` that change this person."""
    person, rng = subject("train", index), np.random.default_rng([_SEED, index])
    for _ in range(100):
        direction = str(rng.choice(list(powers)))
        power = float(rng.choice(powers[direction]))
        if edited(person, direction, power).factors != person.factors:
            return person, direction, power
    raise UserError(f"none of {', '.join(powers)} changes person {index}; give more directions")
