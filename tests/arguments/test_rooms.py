"""A user's own file that has the name of one of our packages, beside a real script."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from arguments import ROOMS

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("hidden", ["utils.py", "models.py", "metrics.py", "datasets/__init__.py", "arguments.py"])
def test_the_file_that_hides_a_room_is_named_in_one_line(hidden: str, tmp_path: Path) -> None:
    (tmp_path / hidden).parent.mkdir(exist_ok=True)
    (tmp_path / hidden).write_text("mine = 1\n")
    (tmp_path / "edit.py").write_text("from runners.simple_runner import SimpleRunner\n")
    done = subprocess.run([sys.executable, "edit.py"], capture_output=True, text=True, cwd=tmp_path)
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1 and last.startswith("ImportError: ") and str(tmp_path / hidden) in last
    if hidden == "arguments.py":  # our scripts begin with that room, so that none of our code would run
        return
    done = subprocess.run(  # as a folder that Python searches first, for our own script
        [sys.executable, ROOT / "scripts" / "inference.py", "--help"], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 1 and str(tmp_path / hidden) in done.stderr.splitlines()[-1]


def test_an_imported_module_of_that_name_is_named_too(tmp_path: Path) -> None:
    (tmp_path / "utils.py").write_text("mine = 1\n")
    (tmp_path / "edit.py").write_text("import utils\nfrom metrics.metric_set import MetricSet\n")
    done = subprocess.run([sys.executable, "edit.py"], capture_output=True, text=True, cwd=tmp_path)
    assert f"ImportError: {tmp_path / 'utils.py'} hides the package 'utils'" in done.stderr.splitlines()[-1]


def test_every_room_is_known_and_nothing_is_hidden_here() -> None:
    assert set(ROOMS) == {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
