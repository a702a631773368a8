"""Options, and a check that no file of the user's hides a room: this package is imported before the others."""

import sys
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

ROOMS = (
    "arguments", "configs", "criteria", "datasets", "editings", "metrics", "models", "runners", "training", "utils",
)  # fmt: skip


class HiddenRoomError(ImportError):
    """A user's file hides a room. A program that does not catch it ends with one line, without a traceback."""


def check_rooms() -> None:
    """Raise HiddenRoomError naming a file that Python would import instead of a room, such as a script's utils.py."""
    here = Path(__file__).resolve().parent.parent
    for room in ROOMS:
        module = sys.modules.get(room)
        spec = module.__spec__ if module else find_spec(room)
        file = Path(spec.origin if spec and spec.origin else getattr(module, "__file__", None) or here / room / "?")
        if file.resolve().parent != here / room:
            sys.excepthook = _one_line
            raise HiddenRoomError(
                f"{file} hides the package '{room}' of StyleFeatureEditor, which is in {here}; rename it or move it"
                " out of the folders that Python searches first"
            )


def _one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """As sys.excepthook: print a HiddenRoomError as one line and any other error as Python does."""
    if isinstance(error, HiddenRoomError):
        print(f"ImportError: {error}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


check_rooms()
