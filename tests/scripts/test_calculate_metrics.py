"""scripts/calculate_metrics.py on real folders: numbers, files, report, bad input, two processes."""

import base64
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
from inception_file import write_inception
from PIL import Image
from warm_python import ROOT, WarmPython


@pytest.fixture(scope="module")
def warm() -> Iterator[WarmPython]:
    python = WarmPython("runners.metrics_runner", "pytorch_fid.inception", "torch._dynamo")
    yield python
    python.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`orig` and `fake` with 12 pairs of 64 px and increasing noise; Inception's file for this working directory."""
    root, draw = tmp_path_factory.mktemp("place"), np.random.default_rng(2)
    write_inception(root)
    for i in range(12):
        image = np.kron(draw.integers(30, 226, (8, 8, 3)), np.ones((8, 8, 1)))
        for side, noise, suffix in (("orig", 0, ".png"), ("fake", 2 * i, ".bmp" if i % 2 else ".PNG")):
            path = root / side / "ab"[i % 2] / f"{i:02}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.clip(image + noise * draw.normal(0, 1, image.shape), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(path)
    return root


@pytest.fixture(scope="module")
def one(warm: WarmPython, place: Path) -> Path:
    """Folder of the JSON files that one process writes; beside it log.txt and orig.npz."""
    arguments = ["--metrics_dir", place / "one", "--save_fid_stats", place / "orig.npz"]
    log = place / "log.txt"
    assert warm.run("calculate_metrics.py", *l2_and_fid(place), *arguments, log=log, cwd=place) == 0, log.read_text()
    return place / "one"


def l2_and_fid(place: Path) -> list[object]:
    folders = ["--orig_path", place / "orig", "--reconstr_path", place / "fake"]
    return [*folders, "--device", "cpu", "--metrics", "l2", "fid"]


def read(path: Path) -> dict[str, float]:
    return json.loads(path.read_text())


def test_numbers_files_and_console(place: Path, one: Path) -> None:
    l2 = read(one / "L2.json")
    assert list(l2) == sorted(f"{'ab'[i % 2]}/{i:02}.png" for i in range(12))
    assert l2["a/00.png"] == 0 and l2["a/10.png"] > 4 * l2["a/02.png"] > 0
    mean, std = np.mean(list(l2.values())), np.std(list(l2.values()))
    lines = (place / "log.txt").read_text().splitlines()
    assert f"Average L2 loss is {mean:.3f}+-{std:.3f}" in lines
    fid = read(one / "FID.json")
    assert list(fid) == ["FID"] and fid["FID"] > 0 and f"FID is {fid['FID']:.3f}" in lines
    assert sorted(path.name for path in one.iterdir()) == ["FID.json", "L2.json"]


def test_saved_statistics_replace_the_originals(warm: WarmPython, place: Path, one: Path, tmp_path: Path) -> None:
    arguments = ["--fid_stats", place / "orig.npz", "--batch_size", 5, "--metrics_dir", tmp_path]
    assert warm.run("calculate_metrics.py", *l2_and_fid(place), *arguments, log=tmp_path / "log", cwd=place) == 0
    assert read(tmp_path / "FID.json") == pytest.approx(read(one / "FID.json"), rel=1e-4)


def test_two_processes_give_the_same_numbers_as_one(place: Path, one: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    arguments = [ROOT / "scripts" / "calculate_metrics.py", *l2_and_fid(place), "--metrics_dir", tmp_path]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, cwd=place, env=environment)
    assert done.returncode == 0, done.stderr
    for name in ("L2.json", "FID.json"):
        assert read(tmp_path / name) == pytest.approx(read(one / name), rel=1e-4)


def test_unpaired_and_unreadable_files_are_named(warm: WarmPython, place: Path, tmp_path: Path) -> None:
    for side in ("orig", "fake"):
        (tmp_path / side).mkdir()
        for i in range(4):
            (tmp_path / side / f"{i}.png").write_bytes((place / "orig" / "a" / "00.png").read_bytes())
    (tmp_path / "orig" / "3.png").write_bytes(b"")
    (tmp_path / "fake" / "2.png").write_bytes((tmp_path / "fake" / "2.png").read_bytes()[:200])
    (tmp_path / "orig" / "alone.png").write_bytes(b"x")
    (tmp_path / "fake" / "other.jpg").write_bytes(b"x")
    log = tmp_path / "log"
    folders = ["--orig_path", tmp_path / "orig", "--reconstr_path", tmp_path / "fake"]
    arguments = [*folders, "--metrics", "l2", "--device", "cpu", "--metrics_dir", tmp_path / "out"]
    assert warm.run("calculate_metrics.py", *arguments, log=log) == 3
    errors = sorted(line for line in log.read_text().splitlines() if line.startswith("ERROR"))
    wanted = ["fake/2.png: cannot be decoded", "fake/other.jpg: has no partner", "orig/3.png: is empty"]
    assert all(any(text in error for error in errors) for text in [*wanted, "orig/alone.png: has no partner"])
    assert len(errors) == 4
    assert json.loads((tmp_path / "out" / "L2.json").read_text()) == {"0.png": 0, "1.png": 0}


class Page(HTMLParser):
    """What a page holds."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_report_is_one_file_with_everything(warm: WarmPython, place: Path, tmp_path: Path) -> None:
    (tmp_path / "fake").symlink_to(place / "fake")
    (tmp_path / "orig" / "a").mkdir(parents=True)
    for path in (place / "orig" / "a").iterdir():
        (tmp_path / "orig" / "a" / path.name).symlink_to(path)
    (tmp_path / "orig" / "a" / "<b>&.png").write_bytes(b"x")
    report = tmp_path / "page" / "out.html"
    folders = ["--orig_path", tmp_path / "orig", "--reconstr_path", tmp_path / "fake"]
    arguments = [*folders, "--metrics", "l2", "id_dlib", "--device", "cpu", "--report", report]
    assert warm.run("calculate_metrics.py", *arguments, log=tmp_path / "log") == 3  # fake/b has no partners
    text = report.read_text()
    page = Page(text)
    assert not re.search(r"(?:src|href)=['\"](?!data:)", text) and "http" not in text  # nothing is fetched
    images = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 2 * 2 * 3  # l2: the worst three of six and the best three, two images each
    for source in images:
        assert source is not None and source.startswith("data:image/jpeg;base64,")
        assert Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))).size == (64, 64)
    worst = text.index("Worst")
    assert worst < text.index("a/10.png") < text.index("a/08.png") < text.index("Best") < text.index("a/00.png")
    assert sum(tag == "svg" for tag, _ in page.tags) == 1
    counts = [int(count) for count in re.findall(r": (\d+)</title>", text)]
    assert sum(counts) == 6  # every pair is in the histogram
    assert "id_dlib: 6 pairs without a face" in text and "b/01.bmp: has no partner" in text
    assert "&lt;b&gt;&amp;.png" in text and "<b>" not in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--metrics", "l3"], "there is no metric 'l3'"),
        (["--reconstr_path", "/no/where"], "/no/where: does not exist"),
        (
            ["--metrics", "fid"],
            r"pt_inception-2015-12-05-6726825d.pth, which FID needs, does not exist; fetch it",
        ),
        (["--save_fid_stats", "x.npz"], "are for the metric fid only"),
        (["--report", "/proc/x/out.html"], "/proc/x/out.html"),
    ],
)
def test_user_errors_are_one_line(
    warm: WarmPython, place: Path, tmp_path: Path, change: list[str], message: str
) -> None:
    if (
        change == ["--metrics", "fid"]
        and (ROOT / "pretrained_models" / "pt_inception-2015-12-05-6726825d.pth").exists()
    ):
        pytest.skip("Inception's weights are here")
    log, folders = tmp_path / "log", ["--orig_path", place / "orig", "--reconstr_path", place / "fake"]
    arguments = [*folders, "--metrics", "l2", "--device", "cpu", *change]  # of two equal flags, the last one counts
    assert warm.run("calculate_metrics.py", *arguments, log=log, cwd=tmp_path) == 2
    lines = log.read_text().splitlines()
    assert lines[-1].startswith("error: ") and re.search(message, lines[-1]) and "Traceback" not in log.read_text()


@pytest.mark.parametrize(
    "change",
    [
        ["--report", "orig/a/00.png"],
        ["--report", "out/../fake/a/00.PNG"],
        ["--report", "linked.html"],
        ["--metrics", "fid", "--save_fid_stats", "orig/b/01.png"],
        ["--metrics", "fid", "--fid_stats", "own.npz", "--save_fid_stats", "own.npz"],
        ["--metrics", "fid", "--fid_stats", "own.npz", "--report", "own.npz"],
    ],
)
def test_no_result_overwrites_an_input(warm: WarmPython, place: Path, tmp_path: Path, change: list[str]) -> None:
    copytree(place / "orig", tmp_path / "orig")
    copytree(place / "fake", tmp_path / "fake")
    (tmp_path / "linked.html").symlink_to("orig/a/00.png")
    (tmp_path / "own.npz").write_bytes(b"statistics")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    folders = ["--orig_path", "orig", "--reconstr_path", "fake", "--metrics_dir", "numbers"]
    log = tmp_path / "log"
    arguments = [*folders, "--metrics", "l2", "--device", "cpu", *change]
    assert warm.run("calculate_metrics.py", *arguments, log=log, cwd=tmp_path) == 2
    *_, last = log.read_text().splitlines()
    assert last == f"error: {change[-1]}: would be overwritten, but it is an input; choose another place for results"
    log.unlink()
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("script", ["calculate_metrics", "fid_calculation", "inference", "align_all_parallel"])
def test_help_has_examples_and_imports_no_torch(script: str) -> None:
    command = [sys.executable, "-X", "importtime", str(ROOT / "scripts" / f"{script}.py"), "--help"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and f"python scripts/{script}.py" in done.stdout
    assert not re.search(r"\| +(torch|numpy|dlib)$", done.stderr, re.MULTILINE)
