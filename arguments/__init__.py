"""Options, and a check that no file of the user's takes the place of a room: this one is imported before the others."""

import sys
from importlib.util import find_spec
from pathlib import Path

ROOMS = (
    "arguments", "configs", "criteria", "datasets", "editings", "metrics", "models", "runners", "training", "utils",
)  # fmt: skip


def check_rooms() -> None:
    """Raises ImportError naming the file that Python takes for one of the rooms, such as a script's own utils.py."""
    here = Path(__file__).resolve().parent.parent
    for room in ROOMS:
        module = sys.modules.get(room)
        spec = module.__spec__ if module else find_spec(room)
        found = Path(spec.origin if spec and spec.origin else getattr(module, "__file__", None) or here / room / "?")
        if found.resolve().parent != here / room:
            raise ImportError(
                f"{found} hides the package '{room}' of StyleFeatureEditor, which lies in {here}; rename it or move it"
                " out of the folders that Python searches first"
            )


check_rooms()
