"""What scripts do around their work, in real processes: exit codes and one-line errors."""

import subprocess
import sys

import pytest

SCRIPT = """
import logging, os, signal, sys
from utils.cli import run
from utils.errors import UserError
def main():
    {body}
run(main)
"""


def python(body: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", SCRIPT.format(body=body)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize(
    ("body", "code", "errors"),
    [
        ("pass", 0, ""),
        ("return 3", 3, ""),
        ("raise UserError('photo.jpg: is a text file')", 2, "error: photo.jpg: is a text file\n"),
        ("raise UserError('größer als 1 × 1')", 2, "error: größer als 1 × 1\n"),
        ("os.kill(os.getpid(), signal.SIGINT)", 130, "interrupted\n"),
        ("logging.getLogger('models').info('read')", 0, "INFO read\n"),
    ],
)
def test_exit_codes(body, code, errors):
    result = python(body)
    assert (result.returncode, result.stderr, result.stdout) == (code, errors, "")


def test_other_errors_keep_their_traceback():
    result = python("{}['key']")
    assert result.returncode == 1
    assert "Traceback" in result.stderr
    assert "KeyError" in result.stderr
