"""scripts/make_people.py and benchmarks/people_alignment.py as commands."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.people.splits import shown, subject
from datasets.scores import Scores

for package in ("anny", "embreex"):
    pytest.importorskip(package, reason="people are drawn with the optional packages: pip install -e '.[people]'")

ROOT = Path(__file__).resolve().parents[2]
COUNT = 20


def command(folder: Path, *more: str) -> list[str]:
    options = ["--split", "unseen", "--count", str(COUNT), "--size", "32", "--workers", "2", *more]
    return [sys.executable, str(ROOT / "scripts" / "make_people.py"), "--output_dir", str(folder), *options]


def test_drawing_resumes_after_a_kill(tmp_path: Path):
    folder = tmp_path / "people"
    process = subprocess.Popen(command(folder), cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True)
    while len(list(folder.glob("0*.png"))) < 3 and process.poll() is None:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    early = {path: path.stat().st_mtime_ns for path in folder.glob("0*.png")}
    assert 3 <= len(early) < COUNT
    for path in early:
        Image.open(path).load()  # whole, or not there
    subprocess.run(command(folder), cwd=ROOT, check=True, stderr=subprocess.DEVNULL)
    names = [f"{index:06d}.png" for index in range(COUNT)]
    assert sorted(path.name for path in folder.glob("0*.png")) == names
    assert {path: path.stat().st_mtime_ns for path in early} == early
    for index in (0, COUNT - 1):
        assert np.array_equal(np.asarray(Image.open(folder / names[index])), subject("unseen", index).crop(32).rgb)
    rows = [json.loads(line) for line in (folder / "labels.jsonl").read_text().splitlines()]
    assert len(rows) == COUNT
    for index, row in enumerate(rows):
        for label, value in shown(subject("unseen", index).factors).items():
            assert row[label] == value
    scores = Scores(folder, 128)
    z = scores.latents(names[:1], torch.tensor([False]))
    assert np.allclose(z[0, : len(scores.columns)].numpy(), subject("unseen", 0).scores, atol=1e-4)


def test_aligner_finds_photographs(tmp_path: Path):
    """The benchmark's command; the README's numbers are of 300."""
    benchmark = [sys.executable, str(ROOT / "benchmarks" / "people_alignment.py"), "--count", "3"]
    result = subprocess.run([*benchmark, "--output_dir", str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    row = re.search(r"^\| all \(3\) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", result.stdout, re.M)
    assert row is not None, result.stdout
    actual, mean, _, near = map(float, row.groups())
    assert actual == 1 and mean < 2 and near >= 0.8
    assert Image.open(tmp_path / "000000.png").size == (768, 768)
