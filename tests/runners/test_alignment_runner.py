"""scripts/align_all_parallel.py: folder tree, failures, resume after a kill; real dlib in real processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from warm_python import ROOT

from models.faces.alignment import align
from utils.images import load_image

COMMAND = [sys.executable, str(ROOT / "scripts" / "align_all_parallel.py"), "--num_threads", "2", "--root_path"]


@pytest.fixture
def photos(tmp_path: Path, photo_path: Path) -> Path:
    """Two faces in two folders with one name, two twins that differ in the extension, and images that must fail."""
    face = load_image(photo_path)
    for name in ("x/a.png", "y/a.png", "twin.png", "twin.jpg"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        face.rotate(len(name)).save(tmp_path / "photos" / name)
    noise = np.random.default_rng(0).integers(0, 256, (120, 120, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "photos" / "x" / "nobody.png")
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    return tmp_path / "photos"


def crops(photos: Path) -> set[str]:
    target = photos.with_name("photos_crops")
    return {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}


def test_tree_failures_and_resume(photos: Path) -> None:
    done = subprocess.run([*COMMAND, str(photos)], capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    assert crops(photos) == {"x/a.jpg", "y/a.jpg", "twin.png.jpg", "twin.jpg.jpg"}
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    assert len(errors) == 2
    assert "photos/broken.jpg: cannot be decoded" in errors[0] or "photos/broken.jpg: is not an image" in errors[0]
    assert "photos/x/nobody.png: no face was found" in errors[1]
    crop = photos.with_name("photos_crops") / "x" / "a.jpg"
    wanted = np.asarray(align(load_image(photos / "x" / "a.png"), 1024).image, dtype=int)
    assert np.abs(np.asarray(Image.open(crop), dtype=int) - wanted).mean() < 2  # JPEG's own loss

    before = {path: path.stat().st_mtime_ns for path in photos.with_name("photos_crops").rglob("*.jpg")}
    crop.unlink()
    again = subprocess.run([*COMMAND, f"{photos}/"], capture_output=True, text=True)  # a slash at the end is usual
    assert again.returncode == 3 and "3 of 6 images to align" in again.stderr
    del before[crop]
    assert crop.is_file() and all(path.stat().st_mtime_ns == time for path, time in before.items())


def test_a_killed_run_leaves_no_processes_and_no_half_files(photos: Path) -> None:
    run = subprocess.Popen([*COMMAND, str(photos)], stderr=subprocess.DEVNULL)
    end = time.monotonic() + 120
    while not crops(photos) and time.monotonic() < end:
        time.sleep(0.01)
    children = [int(pid) for pid in Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()]
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    assert len(children) >= 2
    while any(alive(pid) for pid in children):
        assert time.monotonic() < end, "its processes outlive it"
        time.sleep(0.05)
    for path in photos.with_name("photos_crops").rglob("[!.]*.jpg"):
        assert Image.open(path).size == (1024, 1024)


def test_no_pictures(tmp_path: Path) -> None:
    done = subprocess.run([*COMMAND, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.splitlines()[-1].startswith(f"error: {tmp_path}: has no image")


def alive(pid: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
