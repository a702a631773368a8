"""The data sets of people: which person every image of a split shows, and the labels of it."""

from dataclasses import dataclass

import numpy as np

from datasets.people.camera import EYE, Window, crop_window, photo_window
from datasets.people.details import Details
from datasets.people.factors import N_SCORES, Factors, Scores
from datasets.people.person import Person, assemble
from datasets.people.render import Picture, render

SPLITS = ("train", "validation", "test", "unseen")  # unseen: each person has a detail that no other split has
CROP_SIZE, PHOTO_SIZE = 128, 768

# The bins of every label: upper bounds but the last's, and the names.
BINS: dict[str, tuple[tuple[float, ...], tuple[str, ...]]] = {
    "age": ((20, 35, 50, 65), ("teen", "young", "middle", "senior", "old")),
    "gender": ((0.3, 0.7), ("female", "between", "male")),
    "weight": ((0.38, 0.62), ("thin", "medium", "heavy")),
    "skin": ((0.2, 0.4, 0.6, 0.8), ("pale", "light", "tan", "brown", "dark")),
    "smile": ((0.15, 0.5), ("none", "slight", "wide")),
    "mouth": ((0.12, 0.35), ("closed", "parted", "open")),
    "frown": ((0.15,), ("no", "yes")),
    "brows": ((-0.3, 0.3), ("lowered", "level", "raised")),
    "eyes": ((-0.4, 0.4), ("narrow", "normal", "wide")),
    "yaw": ((-18, -6, 6, 18), ("far_left", "left", "front", "right", "far_right")),
    "pitch": ((-4, 4), ("down", "level", "up")),
    "hair": ((0.02, 0.12, 0.42, 0.62), ("bald", "cropped", "short", "chin", "long")),
    "volume": ((0.33, 0.67), ("flat", "medium", "full")),
    "fringe": ((-0.3, 0.25), ("back", "parted", "fringe")),
    "curl": ((0.25, 0.6), ("straight", "wavy", "curly")),
    "hair_light": ((0.2, 0.45, 0.7), ("black", "brown", "fair", "blond")),
    "hair_red": ((0.25,), ("no", "yes")),
    "grey": ((0.2, 0.6), ("no", "some", "grey")),
    "hairline": ((0.35,), ("full", "receding")),
    "beard": ((0.1, 0.3, 0.6), ("none", "stubble", "short", "long")),
    "moustache": ((0.4,), ("no", "yes")),
    "brow_thickness": ((0.33, 0.67), ("thin", "medium", "thick")),
    "glasses": ((0.5,), ("none", "clear", "dark")),
    "makeup": ((0.2, 0.6), ("none", "light", "strong")),
    "hat": ((0.5,), ("none", "knitted", "peaked")),
    "light": ((-15, 15), ("left", "front", "right")),
    "contrast": ((0.33, 0.67), ("soft", "medium", "hard")),
    "backdrop": ((0.33, 0.67), ("dark", "medium", "light")),
    "clothes": ((0.33, 0.67), ("dark", "medium", "light")),
    "iris": ((0.35, 0.65), ("brown", "green", "blue")),
}
_SOURCES = {
    "gender": "masculinity", "skin": "skin_tone", "mouth": "mouth_open", "brows": "brow_raise", "eyes": "eye_open",
    "hair": "hair_length", "volume": "hair_volume", "light": "light_azimuth", "contrast": "light_contrast",
    "backdrop": "backdrop_value", "clothes": "clothes_value",
}  # fmt: skip


@dataclass(frozen=True)
class Subject:
    """One person of a split."""

    scores: Scores  # N_SCORES standard normal numbers
    factors: Factors
    details: Details

    def crop(self, size: int = CROP_SIZE) -> Picture:
        """The aligned image, size×size."""
        person = self.person()
        return render(person, crop_window(person), size)

    def photo(self, rng: np.random.Generator, size: int = PHOTO_SIZE) -> tuple[Picture, Person, Window]:
        """Head and shoulders, size×size, off the centre at random."""
        person, window = self.photographed(rng)
        return render(person, window, size), person, window

    def photographed(self, rng: np.random.Generator) -> tuple[Person, Window]:
        """Who a photograph shows, and what part of the scene it is: where things lie in it, without drawing it."""
        person = self.person()
        return person, photo_window(person, rng)

    def person(self) -> Person:
        """The person as meshes."""
        return assemble(self.factors, EYE, self.details)

    def shown(self) -> dict[str, str | None]:
        """Label -> value, for datasets/labels.py; None for what hair, hat or glasses hide."""
        return shown(self.factors)


def subject(split: str, index: int) -> Subject:
    """Person `index` of a split, always the same."""
    rng = np.random.default_rng([SPLITS.index(split), index])
    scores = rng.standard_normal(N_SCORES)
    return Subject(scores, Factors.from_scores(scores), Details.draw(rng, split == "unseen"))


def shown(factors: Factors) -> dict[str, str | None]:
    """The label of every visible trait."""
    values: dict[str, str | None] = {}
    for name, (bounds, names) in BINS.items():
        values[name] = names[int(np.searchsorted(bounds, getattr(factors, _SOURCES.get(name, name)), side="right"))]
    if factors.glasses:
        values["glasses"] = "dark" if factors.sunglasses else "clear"
    if factors.hat:
        values["hat"] = "peaked" if factors.hat_style >= 0.5 else "knitted"
        values["fringe"] = values["hairline"] = values["volume"] = None
    if factors.sunglasses and factors.glasses:
        values["eyes"] = values["iris"] = None
    if values["hair"] == "bald":
        values |= dict.fromkeys(("volume", "fringe", "curl", "grey", "hair_light", "hair_red", "hairline"))
    elif values["hair"] == "cropped":
        values |= dict.fromkeys(("volume", "fringe", "curl"))
    if values["beard"] == "none":
        values["moustache"] = None
    if values["grey"] == "grey":
        values |= dict.fromkeys(("hair_light", "hair_red"))
    return values
