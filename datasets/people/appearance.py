"""What of a person shows in an image, as numbers that change evenly with it: a generator's w should hold them."""

import numpy as np
from numpy.typing import NDArray

from datasets.people.colours import GREY, backdrop_colour, clothes_colour, hair_colour, hat_colour
from datasets.people.factors import Factors

# Factors that make a colour together.
_COLOURS = (
    "hat_hue", "hat_value", "clothes_hue", "clothes_value", "backdrop_hue", "backdrop_value", "backdrop_colour",
    "hair_red", "hair_light",
)  # fmt: skip
# Factor -> without which other it does not show, and the value that then stands for it.
_DEPENDENT = {
    "sunglasses": ("glasses", 0.0), "lens_size": ("glasses", 0.5), "lens_shape": ("glasses", 0.5),
    "frame_thickness": ("glasses", 0.5), "frame_colour": ("glasses", 0.5), "hat_style": ("hat", 0.5),
    "beard_cheeks": ("beard", 0.5), "moustache": ("beard", 0.7), "lip_colour": ("makeup", 0.5),
    "lid_colour": ("makeup", 0.5),
}  # fmt: skip


def appearance(factors: Factors) -> NDArray[np.float64]:
    """The factors of a person, with colours as red, green and blue; what does not show has its mean value."""
    labels = factors.labels()
    for name, (needed, mean) in _DEPENDENT.items():
        labels[name] = mean + labels[needed] * (labels[name] - mean)
    hair = hair_colour(factors)
    colours = [
        clothes_colour(factors), backdrop_colour(factors), factors.hat * hat_colour(factors),
        hair + factors.grey * (GREY - hair),
    ]  # fmt: skip
    encoded = np.clip(np.concatenate(colours), 0, 1) ** (1 / 2.2)  # as in an image
    return np.array([*(value for name, value in labels.items() if name not in _COLOURS), *encoded])
