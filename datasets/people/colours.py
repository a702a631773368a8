"""The colours of hair, hats, clothes and backdrops, 3 numbers in linear light."""

import colorsys

import numpy as np

from datasets.people.factors import Factors
from datasets.people.fields import Array, palette

# From black to blond.
_HAIR = [(0.014, 0.011, 0.010), (0.035, 0.021, 0.013), (0.085, 0.045, 0.022), (0.19, 0.105, 0.045), (0.40, 0.25, 0.10),
         (0.62, 0.44, 0.22)]  # fmt: skip
GREY = np.array([0.50, 0.49, 0.48], np.float32)  # of grey hair


def hair_colour(factors: Factors) -> Array:
    """Of hair that is not grey."""
    base = palette(_HAIR, factors.hair_light)
    red = np.array([0.28, 0.075, 0.02], np.float32) * (0.25 + 1.1 * factors.hair_light)
    return base + (red - base) * 0.75 * factors.hair_red


def hat_colour(factors: Factors) -> Array:
    return _dye(factors.hat_hue, factors.hat_value, 0.75)


def clothes_colour(factors: Factors) -> Array:
    return _dye(factors.clothes_hue, factors.clothes_value, 0.6)


def backdrop_colour(factors: Factors) -> Array:
    """Of the wall, before light falls on it."""
    return _dye(factors.backdrop_hue, 0.15 + 0.75 * factors.backdrop_value, 0.55 * factors.backdrop_colour)


def _dye(hue: float, value: float, saturation: float) -> Array:
    """Hue, from 0 round the colour circle to 1; value 0 dark to 1 light."""
    colour = colorsys.hsv_to_rgb(hue % 1, saturation * (1 - 0.35 * value), 0.08 + 0.84 * value)
    return np.asarray(colour, np.float32) ** 2.2
