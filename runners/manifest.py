"""The record of a run over a folder: JSON lines that several processes append to, and that outlive a kill."""

import fcntl
import json
from pathlib import Path
from typing import Any

from utils.errors import UserError


class Manifest:
    """`path` holds the run's settings, in its first line or where they were added, and a line per image and state.

    Lines are `{"image": name, "state": "done" or "failed", …}`; an image's last line counts.
    """

    def __init__(self, path: Path, settings: dict[str, Any], added: dict[str, Any] | None = None) -> None:
        """Begin the record, or go on with it; `added` are settings that later runs may add to.

        Raises UserError if it was begun with other settings, as its results would mix with ours.
        """
        settings, added = {**settings, **(added or {})}, added or {}
        self.path = path
        self.states: dict[str, str] = {}  # those of earlier runs
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            text = file.read()
            if text and not text.endswith(b"\n"):
                file.write(b"\n")  # a line cut short by a power cut must not swallow the next one
            lines = [entry for line in text.splitlines() if (entry := _parse(line)) is not None]
            begun = {key: value for entry in lines for key, value in entry.get("settings", {}).items()}
            new = {key: value for key, value in settings.items() if key not in begun and (not begun or key in added)}
            if new:
                file.write(_line({"settings": new}))
        for key, value in settings.items():
            if key not in new and begun.get(key) != value:
                raise UserError(
                    f"{path.parent} holds results of another run: its {key} is {begun.get(key)!r}, now it is "
                    f"{value!r}; choose another exp.output_dir, or delete this one"
                )
        self.states = {entry["image"]: entry["state"] for entry in lines if "image" in entry and "state" in entry}

    def add(self, **entry: Any) -> None:
        """Append a line, whole or not at all."""
        with self.path.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(_line(entry))


def _line(entry: dict[str, Any]) -> bytes:
    return json.dumps(entry, ensure_ascii=False).encode("utf-8", "surrogateescape") + b"\n"


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None
