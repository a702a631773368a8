"""A user's own file that has the name of one of our packages, beside a real script."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from arguments import ROOMS

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(path.name for path in (ROOT / "scripts").glob("*.py"))


def run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, cwd=cwd, env={**os.environ, **environment}
    )


def hide(folder: Path, name: str) -> Path:
    """Write the user's file of that name."""
    file = folder / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("mine = 1\n")
    return file


def assert_one_line(done: subprocess.CompletedProcess[str], file: Path, room: str) -> None:
    assert done.returncode == 1 and done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith(f"ImportError: {file} hides the package '{room}' of StyleFeatureEditor")


@pytest.mark.parametrize("room", ["utils", "models", "metrics", "datasets", "configs", "training"])
@pytest.mark.parametrize("name", ["{}.py", "{}/__init__.py"])
def test_a_users_script_ends_with_one_line_that_names_the_hiding_file(room: str, name: str, tmp_path: Path) -> None:
    file = hide(tmp_path, name.format(room))
    (tmp_path / "edit.py").write_text("from runners.simple_runner import SimpleRunner\n")
    assert_one_line(run("edit.py", cwd=tmp_path), file, room)


@pytest.mark.parametrize("script", SCRIPTS)
def test_our_scripts_end_with_that_line(script: str, tmp_path: Path) -> None:
    """With the file in a folder that Python searches first."""
    file = hide(tmp_path, "utils.py")
    assert_one_line(run(ROOT / "scripts" / script, "--help", cwd=tmp_path, PYTHONPATH=str(tmp_path)), file, "utils")


def test_an_imported_module_of_that_name_is_named_too(tmp_path: Path) -> None:
    file = hide(tmp_path, "utils.py")
    (tmp_path / "edit.py").write_text("import utils\nfrom metrics.metric_set import MetricSet\n")
    assert_one_line(run("edit.py", cwd=tmp_path), file, "utils")


def test_pythons_own_error_names_a_file_that_hides_the_room_of_the_check(tmp_path: Path) -> None:
    file = hide(tmp_path, "arguments.py")
    (tmp_path / "edit.py").write_text("from runners.simple_runner import SimpleRunner\n")
    last = run("edit.py", cwd=tmp_path).stderr.splitlines()[-1]
    assert last.startswith("ImportError: ") and str(file) in last


def test_other_errors_keep_their_traceback(tmp_path: Path) -> None:
    hide(tmp_path, "utils.py")
    (tmp_path / "edit.py").write_text(
        "try:\n    from runners.simple_runner import SimpleRunner\nexcept ImportError:\n    pass\nint('x')\n"
    )
    lines = run("edit.py", cwd=tmp_path).stderr.splitlines()
    assert lines[0].startswith("Traceback") and lines[-1].startswith("ValueError: ")


def test_every_room_is_known_and_nothing_is_hidden_here() -> None:
    assert set(ROOMS) == {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
