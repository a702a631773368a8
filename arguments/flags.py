"""Types of command-line flags."""

import argparse
from collections.abc import Callable


def at_least(minimum: int) -> Callable[[str], int]:
    """For `add_argument(type=…)`: a whole number, not less than `minimum`."""

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = minimum - 1
        if number < minimum:
            raise argparse.ArgumentTypeError(f"it is '{text}'; wanted a whole number, {minimum} or more")
        return number

    return parse


def named_power(text: str) -> tuple[str, float]:
    """For `add_argument(type=…)`: an edit such as `age=5` or `blond hair=-3`."""
    name, _, power = text.rpartition("=")
    try:
        if not name:
            raise ValueError
        return name, float(power)
    except ValueError:
        raise argparse.ArgumentTypeError(f"it is '{text}'; wanted name=power, as in age=5 or 'blond hair=-3'") from None


def named_powers(text: str) -> tuple[str, list[float]]:
    """For `add_argument(type=…)`: an edit such as `age=5`, or a range of powers as `age=-5..5`."""
    name, _, powers = text.rpartition("=")
    try:
        if not name:
            raise ValueError
        return name, [float(power) for power in powers.split("..", 1)]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"it is '{text}'; wanted name=power or name=from..to, as in age=5 or 'blond hair=-3..3'"
        ) from None
