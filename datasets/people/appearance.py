"""What of a person shows in an image, as numbers that change evenly with it: a generator's w should hold them."""

import numpy as np
from numpy.typing import NDArray

from datasets.people.colours import backdrop_colour, clothes_colour, hair_colour, hat_colour
from datasets.people.factors import Factors

# Factors that make a colour together, or that show only together with another.
_COMBINED = (
    "hat_hue", "hat_value", "clothes_hue", "clothes_value", "backdrop_hue", "backdrop_value", "backdrop_colour",
    "hair_red", "hair_light", "sunglasses",
)  # fmt: skip


def appearance(factors: Factors) -> NDArray[np.float64]:
    """The factors of a person, with colours as red, green and blue, and 0 for what is not worn."""
    plain = [value for name, value in factors.labels().items() if name not in _COMBINED]
    colours = [
        clothes_colour(factors), backdrop_colour(factors), factors.hat * hat_colour(factors), hair_colour(factors),
    ]  # fmt: skip
    encoded = np.clip(np.concatenate(colours), 0, 1) ** (1 / 2.2)  # as in an image
    return np.array([*plain, *encoded, factors.glasses * factors.sunglasses])
