"""Types of command-line flags."""

import argparse
import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

MASK_TRASHOLD = 0.095  # of the command line and the page


class Parser(argparse.ArgumentParser):
    """A script's parser. It also reads numbers such as -1e-1 and -inf, which argparse takes for flags."""

    def __init__(self, about: str | None, examples: str = "") -> None:
        super().__init__(description=about, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter)

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def]
        """As argparse's."""
        joined: list[str] = []
        for argument in sys.argv[1:] if args is None else args:
            if joined and joined[-1].startswith("--") and "=" not in joined[-1] and _is_negative(argument):
                joined[-1] += f"={argument}"
            else:
                joined.append(argument)
        args, rest = super().parse_known_args(joined, namespace)
        if "use_mask" in args:
            self._check_mask_flags(args)
        return args, rest

    def add_model_flags(self) -> None:
        """The three that SimpleRunner takes."""
        add = self.add_argument
        add("--editor_ckpt_pth", type=path, help="weights of the trained part (default: that of the config)")
        add("--simple_config_pth", type=path, help="YAML of domain and method (default: configs/simple_inference.yaml)")
        add("--device", help="cpu, 0, cuda:1, mps (default: that of the config)")

    def add_mask_flags(self) -> None:
        """The three that the scripts for images and videos share. Values without effect are refused."""
        add = self.add_argument
        add("--use_mask", action="store_true", help="leave the background unedited")
        add("--mask_trashold", type=fraction, help=f"probability that makes a pixel background ({MASK_TRASHOLD})")
        add("--mask_path", type=path, help="a mask of your own: white, or 1 of 0 and 1, is left unedited")

    def _check_mask_flags(self, args: argparse.Namespace) -> None:
        for name in ("mask_trashold", "mask_path"):
            if getattr(args, name) is not None and not args.use_mask:
                self.error(f"--{name} has an effect only with --use_mask; add that flag or leave --{name} out")
        if args.mask_trashold is None:
            args.mask_trashold = MASK_TRASHOLD


def _is_negative(text: str) -> bool:
    with contextlib.suppress(ValueError):
        float(text)
        return text.startswith("-")
    return False


def path(text: str) -> Path:
    """For `add_argument(type=…)`: a file or folder; ~ at the beginning is the home folder."""
    return Path(text).expanduser()


def fraction(text: str) -> float:
    """For `add_argument(type=…)`: a number from 0 to 1."""
    with contextlib.suppress(ValueError):
        if 0 <= float(text) <= 1:
            return float(text)
    raise argparse.ArgumentTypeError(f"it is '{text}'; wanted a number from 0 to 1")


def port(text: str) -> int:
    """For `add_argument(type=…)`: the number of a TCP port."""
    number = at_least(1)(text)
    if number > 65535:
        raise argparse.ArgumentTypeError(f"it is {number}; wanted a number from 1 to 65535")
    return number


def model_options(options: dict[str, Any]) -> dict[str, Any]:
    """Take the flags of `Parser.add_model_flags` out of `options`, and return those that were given."""
    values = {name: options.pop(name, None) for name in ("editor_ckpt_pth", "simple_config_pth", "device")}
    return {name: value for name, value in values.items() if value is not None}


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


def face(text: str) -> int | str:
    """For `add_argument(type=…)`: a face's number from the left, from 1, or `all`."""
    return text if text == "all" else at_least(1)(text)


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
