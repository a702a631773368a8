"""How threads wait, as OpenMP itself reports it when torch loads it, in real processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
TORCH_IN_MAIN = "from utils.cli import run; run(lambda: __import__('torch') and None)"
SCRIPTS = [path for path in sorted((ROOT / "scripts").glob("*.py")) if not path.name.startswith("make_")]  # they draw


def policy(**environment: str) -> str:
    """The line of OMP_WAIT_POLICY in what OpenMP prints of its settings."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "KMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", TORCH_IN_MAIN], capture_output=True, text=True, check=True,
        env={**inherited, "OMP_DISPLAY_ENV": "true", **environment},
    )  # fmt: skip
    lines = [line for line in done.stderr.splitlines() if "OMP_WAIT_POLICY" in line]
    if not lines:
        pytest.skip("torch here brings no OpenMP that prints its settings")
    return lines[0].upper()


def test_waiting_threads_sleep() -> None:
    assert "PASSIVE" in policy()


def test_the_users_choice_stays() -> None:
    assert "ACTIVE" in policy(OMP_WAIT_POLICY="ACTIVE")


def test_no_script_loads_torch_before_it_is_set() -> None:
    loads = "import runpy, sys; [runpy.run_path(path) for path in sys.argv[1:]]; print('torch' in sys.modules)"
    command = [sys.executable, "-c", loads, *map(str, SCRIPTS)]
    assert len(SCRIPTS) > 10
    assert subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout == "False\n"
