"""Locks, and a system that has none: the modules that only Unix has are hidden from a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from utils.file_locks import lock

ROOT = Path(__file__).resolve().parents[2]

WITHOUT_UNIX = """
import sys
for name in ("fcntl", "termios", "resource", "pwd", "grp", "pty", "tty", "syslog"):
    sys.modules[name] = None  # importing it raises ImportError
from pathlib import Path
import runners.animation_runner, runners.simple_runner, runners.manifest, utils.malloc
from runners.inference_runner import InferenceRunner
from runners.manifest import Manifest
from utils.files import atomic_path, remove_temporaries
folder = Path(sys.argv[1])
with atomic_path(folder / "file.txt") as temporary:
    temporary.write_text("written")
    remove_temporaries(folder)  # without locks it cannot know whose they are
    assert temporary.exists()
Manifest(folder / "manifest.jsonl", {"a": 1}).add(image="x", state="done")
assert Manifest(folder / "manifest.jsonl", {"a": 1}).states == {"x": "done"}
print((folder / "file.txt").read_text())
"""


def test_the_second_lock_waits(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as first, (tmp_path / "file").open("rb") as second:
        assert lock(first)
        with pytest.raises(OSError):
            lock(second, wait=False)


def test_everything_imports_and_writes_where_fcntl_is_missing(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", WITHOUT_UNIX, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "written\n"), done.stderr
