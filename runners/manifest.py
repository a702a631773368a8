"""The record of a run over a folder: JSON lines that several processes append to, and that survive a kill."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from utils.errors import UserError
from utils.file_locks import lock

Stamp = tuple[int, int]  # size in bytes and time of the last change in ns


def stamp(path: Path) -> Stamp:
    """Distinguishes a file from another of the same name; (0, 0) if there is none."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


class Manifest:
    """`path` holds the run's settings, in its first line or where they were added, and a line per image and state.

    Lines are `{"image": name, "state": "done" or "failed", …}`; an image's last line counts. Those of images that
    are done also have `size` (bytes) and `mtime` (ns) of the file that was read.
    """

    def __init__(self, path: Path, settings: dict[str, Any], added: dict[str, Any] | None = None) -> None:
        """Start or continue the record; `added` are settings that later runs may add to.

        Raises UserError if it was started with other settings, as results would be mixed.
        """
        settings, added = {**settings, **(added or {})}, added or {}
        self.path = path
        self.states: dict[str, str] = {}  # those of earlier runs
        self._read: dict[str, Stamp] = {}  # what they read
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            lock(file)
            file.seek(0)
            text = file.read()
            if text and not text.endswith(b"\n"):
                file.write(b"\n")  # a line cut off by a power failure must not spoil the next one
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
        self._read = {entry["image"]: (entry["size"], entry["mtime"]) for entry in lines if "mtime" in entry}

    def knows(self, image: str) -> bool:
        """Whether the record says which file of that name was read."""
        return image in self._read

    def replaced(self, image: str, stamp: Stamp, times: Iterable[int | None]) -> bool:
        """Whether the results are of another file than the current one of this name, with this stamp.

        `times`: of its results, by `time_written`. A killed run may have left results without a line, which are judged
        by their time.
        """
        if image in self._read:
            return self._read[image] != stamp
        return self.states.get(image) != "done" and any(time is not None and time < stamp[1] for time in times)

    def done(self, image: str, stamp: Stamp, **more: Any) -> None:
        """Record that all results of the image exist."""
        self.add(image=image, state="done", **more, size=stamp[0], mtime=stamp[1])

    def add(self, **entry: Any) -> None:
        """Append a line, whole or not at all."""
        with self.path.open("ab") as file:
            lock(file)
            file.write(_line(entry))


def time_written(path: Path) -> int | None:
    """When the file was written, in ns; None if there is none."""
    try:
        return path.stat().st_mtime_ns
    except (FileNotFoundError, NotADirectoryError):
        return None


def _line(entry: dict[str, Any]) -> bytes:
    return json.dumps(entry, ensure_ascii=False).encode("utf-8", "surrogateescape") + b"\n"


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None
