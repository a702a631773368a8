"""The numbers of a person that a generator's w should hold: what shows changes them, and nothing else does."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from datasets.people.appearance import appearance
from datasets.people.factors import Factors


def changed(person: Factors, **factors: Any) -> int:
    """How many numbers change with these factors."""
    return int((~np.isclose(appearance(person), appearance(replace(person, **factors)))).sum())


@pytest.mark.parametrize(
    ("needed", "factors"),
    [
        ("glasses", {"sunglasses": 1.0, "lens_size": 0.9, "lens_shape": 0.1, "frame_thickness": 0.9}),
        ("hat", {"hat_style": 0.9, "hat_hue": 0.1, "hat_value": 0.9}),
        ("beard", {"beard_cheeks": 0.2, "moustache": 0.1}), ("makeup", {"lip_colour": 0.9, "lid_colour": 0.9}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_is_not_worn_has_no_numbers(needed: str, factors: dict[str, float]):
    assert changed(Factors(), **factors) == 0
    assert changed(replace(Factors(), **{needed: 1.0}), **factors) >= len(factors)


@pytest.mark.parametrize("name", ["age", "smile", "yaw", "hair_length", "backdrop_colour", "clothes_hue", "iris"])
def test_every_other_factor_has_its_own(name: str):
    assert changed(Factors(), **{name: 0.8}) >= 1
    assert changed(Factors(), identity=(1.0,) + (0.0,) * 19) == 1


def test_red_does_not_show_in_grey_hair():
    assert changed(Factors(grey=1.0), hair_red=0.8) == 0
    assert changed(Factors(grey=0.0), hair_red=0.8) == 3
