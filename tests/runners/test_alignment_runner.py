"""scripts/align_all_parallel.py: folder tree, failures, resume after a kill; real dlib in real processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from warm_python import ROOT, WarmPython

from models.faces.alignment import align
from utils.images import load_image

SCRIPT = "align_all_parallel.py"
TWO = ("--num_threads", "2", "--root_path")
Run = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def python() -> Iterator[WarmPython]:
    warm = WarmPython("runners.alignment_runner", "dlib")
    yield warm
    warm.close()


@pytest.fixture
def run(python: WarmPython, tmp_path: Path) -> Run:
    """The script with --root_path and what else is given; its exit code and what it prints."""
    log = tmp_path / "log"

    def start(*arguments: object, cwd: Path = tmp_path) -> tuple[int, str]:
        code = python.run(SCRIPT, *TWO, *arguments, log=log, cwd=cwd)
        return code, log.read_text()

    return start


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


def test_tree_failures_and_resume(run: Run, photos: Path) -> None:
    code, printed = run(photos)
    assert code == 3, printed
    assert crops(photos) == {"x/a.jpg", "y/a.jpg", "twin.png.jpg", "twin.jpg.jpg"}
    errors = [line for line in printed.splitlines() if line.startswith("ERROR")]
    assert len(errors) == 2
    assert "photos/broken.jpg: cannot be decoded" in errors[0] or "photos/broken.jpg: is not an image" in errors[0]
    assert "photos/x/nobody.png: no face was found" in errors[1]
    crop = photos.with_name("photos_crops") / "x" / "a.jpg"
    wanted = np.asarray(align(load_image(photos / "x" / "a.png"), 1024).image, dtype=int)
    assert np.abs(np.asarray(Image.open(crop), dtype=int) - wanted).mean() < 2  # JPEG's own loss

    before = {path: path.stat().st_mtime_ns for path in photos.with_name("photos_crops").rglob("*.jpg")}
    crop.unlink()
    code, printed = run(f"{photos}/")  # a slash at the end is usual
    assert code == 3 and "3 of 6 images to align" in printed
    del before[crop]
    assert crop.is_file() and all(path.stat().st_mtime_ns == time for path, time in before.items())


def test_a_killed_run_leaves_no_processes_and_no_half_files(python: WarmPython, photos: Path, tmp_path: Path) -> None:
    run = python.start(SCRIPT, *TWO, photos, log=tmp_path / "log")
    end = time.monotonic() + 120
    while not crops(photos) and time.monotonic() < end:
        time.sleep(0.01)
    children = [int(pid) for pid in Path(f"/proc/{run}/task/{run}/children").read_text().split()]
    os.kill(run, signal.SIGKILL)
    assert python.wait(run) == -signal.SIGKILL
    assert len(children) >= 2
    while any(alive(pid) for pid in children):
        assert time.monotonic() < end, "its processes outlive it"
        time.sleep(0.05)
    for path in photos.with_name("photos_crops").rglob("[!.]*.jpg"):
        assert Image.open(path).size == (1024, 1024)


def test_a_replaced_photograph_is_cut_again(run: Run, photo_path: Path, tmp_path: Path) -> None:
    """A sideways one is rotated, and other files are named."""
    folder = tmp_path / "photos"
    (folder / ".Trash-1000").mkdir(parents=True)
    face = load_image(photo_path)
    for name in ("a.png", "b.png", ".Trash-1000/c.png"):
        face.save(folder / name)
    (folder / "clip.mov").touch()
    code, printed = run(folder)
    assert code == 0 and "2 of 2 images to align" in printed
    assert printed.splitlines()[-1] == (
        f"INFO {folder}: left out 1 hidden (.Trash-1000/); 1 of formats that are not read (clip.mov)"
    )
    old = {path: path.read_bytes() for path in (tmp_path / "photos_crops").glob("*.jpg")}
    face.transpose(Image.Transpose.TRANSPOSE).save(folder / "a.png")  # on its side, and mirrored
    os.utime(folder / "a.png", (1e9, 1e9))
    _, printed = run(folder)
    assert "1 of 2 images to align" in printed and "photos/a.png: it shows no upright face" in printed
    new = {path: path.read_bytes() for path in old}
    assert [path.name for path in old if old[path] != new[path]] == ["a.jpg"]
    lying, upright = (np.asarray(Image.open(path), dtype=int) for path in sorted(new))
    assert np.abs(lying[:, ::-1] - upright).mean() < 12  # the landmarks of a mirrored face differ a little
    assert "0 of 2 images to align" in run(folder)[1]


def test_the_place_of_the_crops(run: Run, photo_path: Path, tmp_path: Path) -> None:
    inner = tmp_path / "photos" / "sub"
    inner.mkdir(parents=True)
    load_image(photo_path).save(tmp_path / "photos" / "a.png")
    assert run("..", cwd=inner)[0] == 0
    assert (tmp_path / "photos_crops" / "a.jpg").is_file() and not list(inner.iterdir())
    assert run(tmp_path / "photos", "--output_dir", tmp_path / "photos" / "cut")[0] == 0
    assert (tmp_path / "photos" / "cut" / "a.jpg").is_file()
    _, printed = run(tmp_path / "photos", "--output_dir", tmp_path / "photos" / "cut")
    assert "0 of 1 images to align" in printed and "1 results of this run (cut/)" in printed
    (tmp_path / "file").touch()
    for place, words in (("file/x", "is not a folder; choose another place"), ("photos", "is --root_path itself")):
        code, printed = run(tmp_path / "photos", "--output_dir", tmp_path / place)
        assert code == 2 and words in printed.splitlines()[-1] and "to align" not in printed
    assert run("/")[0] == 2


def test_its_processes_need_no_torch() -> None:
    program = "import sys, runners.alignment_worker; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_no_images(run: Run, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    code, printed = run(tmp_path / "photos")
    assert code == 2 and printed.splitlines()[-1].startswith(f"error: {tmp_path / 'photos'}: has no image")


def alive(pid: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
