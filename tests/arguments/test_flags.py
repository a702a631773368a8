"""Flags of the command line, as real scripts take them."""

import os
import subprocess
import sys
from argparse import ArgumentTypeError
from pathlib import Path

import pytest

from arguments.flags import Parser, fraction, path, port

ROOT = Path(__file__).resolve().parents[2]


def test_negative_numbers_of_every_notation():
    parser = Parser("about")
    parser.add_argument("--power", type=float)
    parser.add_argument("--name")
    parser.add_argument("--flag", action="store_true")
    for text in ("-1e-1", "-.5e2", "-3", "-inf", "1e-1", "-1_0"):
        assert parser.parse_args(["--power", text, "--flag"]).power == float(text)
        assert parser.parse_args([f"--power={text}"]).power == float(text)
    assert parser.parse_args(["--name", "a", "--power", "-1e-1"]).name == "a"
    with pytest.raises(SystemExit):
        parser.parse_args(["--power", "-x"])


def test_numbers_and_paths(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert [str(path(text)) for text in ("~/x.png", "~", "a~", "set #2/${x}.png")] == [
        "/home/me/x.png", "/home/me", "a~", "set #2/${x}.png"
    ]  # fmt: skip
    assert [fraction(text) for text in ("0", "1", "1e-1")] == [0, 1, 0.1]
    assert port("7860") == 7860
    wrong = {fraction: ("50", "-0.1", "nan", "x"), port: ("65536", "0", "x")}
    for kind, texts in wrong.items():
        for text in texts:
            with pytest.raises(ArgumentTypeError, match="wanted"):
                kind(text)


def script(name: str, *arguments: str, home: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HOME": str(home)} if home else None
    command = [sys.executable, str(ROOT / "scripts" / name), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


PHOTO = ["--orig_img_pth", "no.png", "--save_pth", "out.png"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--mask_path", "gone.png"], "--mask_path has an effect only with --use_mask"),
        (["--mask_trashold", "0.5"], "--mask_trashold has an effect only with --use_mask"),
        (["--use_mask", "--mask_trashold", "50"], "it is '50'; wanted a number from 0 to 1"),
    ],
)
def test_flags_without_effect_are_refused(arguments, words):
    for name in ("simple_inference.py", "animate.py"):
        done = script(name, *PHOTO, "--edits", "age=1", *arguments)
        assert done.returncode == 2 and words in done.stderr.splitlines()[-1]


def test_home_of_a_script(tmp_path):
    folders = ("--orig_path=~/pictures", "--reconstr_path=~/x")
    done = script("calculate_metrics.py", *folders, "--metrics", "l2", home=tmp_path)
    assert done.returncode == 2 and f"{tmp_path}/pictures: does not exist" in done.stderr
