"""Options, and a check that no file of the user's hides a room: this package is imported before the others."""

import sys
from importlib.util import find_spec
from pathlib import Path

ROOMS = (
    "arguments", "configs", "criteria", "datasets", "editings", "metrics", "models", "runners", "training", "utils",
)  # fmt: skip


def check_rooms() -> None:
    """Raise ImportError naming a file that Python would import instead of a room, such as a script's utils.py."""
    here = Path(__file__).resolve().parent.parent
    for room in ROOMS:
        module = sys.modules.get(room)
        spec = module.__spec__ if module else find_spec(room)
        file = Path(spec.origin if spec and spec.origin else getattr(module, "__file__", None) or here / room / "?")
        if file.resolve().parent != here / room:
            raise ImportError(
                f"{file} hides the package '{room}' of StyleFeatureEditor, which is in {here}; rename it or move it"
                " out of the folders that Python searches first"
            )


check_rooms()
