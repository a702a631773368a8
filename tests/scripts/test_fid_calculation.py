"""scripts/fid_calculation.py: which images count, the number, and errors."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from inception_file import write_inception
from PIL import Image
from warm_python import WarmPython

from metrics.base import View
from metrics.fid import FID
from utils.images import load_image

NAMES = ["Bald", "Eyeglasses", "Smiling"]
GLASSES = [1, 1, 1, -1, -1, -1, -1, 1]  # of images 0 to 7


@pytest.fixture(scope="module")
def warm() -> Iterator[WarmPython]:
    python = WarmPython("runners.metrics_runner", "pytorch_fid.inception", "torch._dynamo")
    yield python
    python.close()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Originals and edits of eight images, as .jpg and .png, and their attributes."""
    draw = np.random.default_rng(0)
    for side in ("orig", "edit"):
        (tmp_path / side).mkdir()
        for i in range(8):
            blocks = draw.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            name = f"{i}.jpg" if side == "orig" else f"{i:05}.png"
            Image.fromarray(blocks).resize((64, 64)).save(tmp_path / side / name)
    rows = [f"{i}.jpg  -1 {has} 1 " for i, has in enumerate(GLASSES)]
    (tmp_path / "table.txt").write_text("\n".join(["8", " ".join(NAMES), *rows, ""]))
    write_inception(tmp_path)
    return tmp_path


def compare(warm: WarmPython, place: Path, *more: object) -> tuple[int, list[str]]:
    arguments = ["--synt_path", place / "edit", "--celeba_attr_table_pth", place / "table.txt", "--device", "cpu"]
    log = place / "log"
    code = warm.run("fid_calculation.py", *arguments, "--transforms", "face_256", *more, log=log, cwd=place)
    return code, log.read_text().splitlines()


def test_the_right_images_enter(warm: WarmPython, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Originals with the attribute on one side, edits of images without it on the other."""
    arguments = ["--orig_path", place / "orig", "--attr_name", "Eyeglasses", "--save_fid_stats", place / "s.npz"]
    code, lines = compare(warm, place, *arguments)
    value = float(lines[-1].removeprefix("FID is "))
    assert code == 0 and value > 0

    monkeypatch.chdir(place)
    fid, view = FID(torch.device("cpu")), View(256)
    for i in (0, 1, 2, 7):
        fid.add_real(view(load_image(place / "orig" / f"{i}.jpg"))[None])
    assert np.load("s.npz")["mu"] == pytest.approx(fid.real.gaussian().mean, rel=1e-3)

    for i in (0, 1, 2, 7):
        (place / "edit" / f"{i:05}.png").unlink()
    code, lines = compare(warm, place, "--attr_name", "Eyeglasses", "--fid_stats", place / "s.npz")
    assert code == 0 and float(lines[-1].removeprefix("FID is ")) == value

    code, lines = compare(warm, place, "--orig_path", place / "orig", "--attr_name", "Eyeglasses", "--attr_is_reversed")
    assert code == 2 and lines[-1] == "error: FID was given 0 images of a set; wanted: 2 or more"


def test_no_result_overwrites_an_input(warm: WarmPython, place: Path) -> None:
    table, common = place / "table.txt", ["--orig_path", place / "orig", "--attr_name", "Eyeglasses"]
    before = table.read_bytes()
    code, lines = compare(warm, place, *common, "--save_fid_stats", table)
    assert code == 2 and lines[-1].startswith(f"error: {table}: would be overwritten, but it is an input")
    assert table.read_bytes() == before
    image = place / "orig" / "0.jpg"
    before = image.read_bytes()
    code, lines = compare(warm, place, *common, "--save_fid_stats", image)
    assert code == 2 and lines[-1].startswith(f"error: {image}: would be overwritten, but it is an input")
    assert image.read_bytes() == before


def test_bad_images_are_named(warm: WarmPython, place: Path) -> None:
    (place / "orig" / "0.jpg").write_bytes(b"x")
    Image.new("RGB", (64, 64)).save(place / "edit" / "99.png")
    code, lines = compare(warm, place, "--orig_path", place / "orig", "--attr_name", "Eyeglasses")
    errors = [line for line in lines if line.startswith("ERROR")]
    assert code == 3 and len(errors) == 2
    assert "99.png: is not in" in errors[0] and "orig/0.jpg: is not an image" in errors[1]


@pytest.mark.parametrize(
    ("attribute", "table", "message"),
    [
        ("Eyeglass", None, "has no attribute 'Eyeglass'; nearest: Eyeglasses"),
        ("Smiling", "/no/table.txt", "attribute table /no/table.txt does not exist; it comes with CelebAMask-HQ"),
        ("Smiling", "2\nBald Smiling\n0.jpg  1\n", "line 3: wanted: a file name and 2 times 1 or -1"),
    ],
)
def test_bad_tables_give_one_line(
    warm: WarmPython, place: Path, attribute: str, table: str | None, message: str
) -> None:
    more = ["--orig_path", place / "orig", "--attr_name", attribute]
    if table and table.startswith("/"):
        more += ["--celeba_attr_table_pth", table]
    elif table:
        (place / "table.txt").write_text(table)
    code, lines = compare(warm, place, *more)
    assert code == 2 and message in lines[-1] and "Traceback" not in json.dumps(lines)


def test_published_table_can_be_read() -> None:
    """The real one, if it is here."""
    from datasets.celeba import CelebaAttributes

    root = Path(__file__).resolve().parents[2]
    places = [root, root.parent / "shared" / "data"]
    result = [path for place in places if (path := place / "CelebAMask-HQ-attribute-anno.txt").is_file()]
    if not result:
        pytest.skip("CelebAMask-HQ-attribute-anno.txt is not here")
    attributes = CelebaAttributes(result[0], "Eyeglasses")
    has = [attributes.has(Path(f"{i}.jpg")) for i in range(30000)]
    assert None not in has and 0.03 < np.mean(has) < 0.08
    assert attributes.has(Path("x/00007.png")) == has[7] and attributes.has(Path("30000.jpg")) is None
