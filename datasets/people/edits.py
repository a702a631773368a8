"""True edits: the picture of the same person with a direction applied."""

from dataclasses import replace
from functools import cache

from configs.paths import ROOT
from datasets.people.factors import COLUMNS, Factors
from datasets.people.splits import Subject
from datasets.recipes import Recipe, read_recipes


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
