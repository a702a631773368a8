"""The documentation agrees with the code, its commands are read by their scripts, and its links lead somewhere."""

import argparse
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from arguments.loader import load_options
from arguments.loop_options import EncoderTrainConfig, GeneratorTrainConfig, PredictorTrainConfig
from arguments.options import Config
from arguments.train_options import TrainConfig

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
OPTIONS = {  # of scripts that take group.name=value
    "inference.py": Config, "train.py": TrainConfig, "train_encoder.py": EncoderTrainConfig,
    "train_generator.py": GeneratorTrainConfig, "train_predictor.py": PredictorTrainConfig,
}  # fmt: skip


def commands(page: Path) -> list[str]:
    """The lines of the page's shell blocks that run a script."""
    blocks = re.findall(r"^```bash\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in lines if "scripts/" in line]


COMMANDS = sorted({command for page in PAGES for command in commands(page)})


def test_the_reference_of_options_is_that_of_the_code(tmp_path: Path) -> None:
    """Otherwise run: python docs/make_reference.py"""
    maker = tmp_path / "make_reference.py"
    maker.write_bytes((ROOT / "docs" / "make_reference.py").read_bytes())
    subprocess.run([sys.executable, maker], check=True, cwd=ROOT)
    assert (tmp_path / "configuration.md").read_text() == (ROOT / "docs" / "configuration.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    links = re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", text)
    targets = [target for pair in links for target in pair if target and "://" not in target]
    missing = [target for target in targets if not (page.parent / target.split("#")[0]).exists()]
    assert not missing


def test_every_page_is_listed() -> None:
    listed = (ROOT / "docs" / "README.md").read_text()
    assert [page.name for page in PAGES[1:] if page.name != "README.md" and f"({page.name})" not in listed] == []


class ReadCommandLine(Exception):
    """A script has read its command line."""


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.partition("scripts/")[2][:60])
def test_every_command_is_read_by_its_script(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its flags and options are right, and so are the files of the project that it names; nothing is run."""
    words = shlex.split(command, comments=True)
    script, *arguments = words[next(i for i, word in enumerate(words) if word.startswith("scripts/")) :]
    named = re.findall(r"(?:assets|configs|pretrained_models/avatars)/[\w./]+", " ".join(arguments))
    assert [path for path in named if not (ROOT / path).exists()] == []
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    code, name = runpy.run_path(script), Path(script).name
    read = code["parse"]() if "parse" in code else None
    if name in OPTIONS:
        load_options(OPTIONS[name], read.options if read else arguments)
    elif read is None:
        parse_args = argparse.ArgumentParser.parse_args

        def stop(*args: Any) -> None:
            raise ReadCommandLine(parse_args(*args))

        monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
        with pytest.raises(ReadCommandLine):
            code["main"]()
