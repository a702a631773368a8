"""Attribute tables of CelebA in the layouts that are published."""

from pathlib import Path

import pytest

from datasets.celeba import CelebaAttributes
from utils.errors import UserError

NAMES = ["5_o_Clock_Shadow", "Eyeglasses", "Smiling"]
ROWS = {"000001.jpg": "-1 1 -1", "000002.jpg": "1 -1 1", "12.jpg": "-1 -1 1"}
HEAD, SPACED = " ".join(NAMES), [f"{name} {values}" for name, values in ROWS.items()]


def separated(mark: str, first: str = "image_id", end: str = "\n") -> str:
    lines = [mark.join([first, *NAMES]), *(mark.join([name, *row.split()]) for name, row in ROWS.items())]
    return end.join(lines) + end


LAYOUTS = {
    "CelebAMask-HQ": "\n".join(["3", f"{HEAD} ", *SPACED]),
    "without count": "\n".join([HEAD, *SPACED]),
    "aligned columns": "\n".join(["3", HEAD, *(line.replace(" ", "  ") for line in SPACED), ""]),
    "Kaggle": separated(","),
    "Kaggle, from Windows": "\ufeff" + separated(",", end="\r\n"),
    "no name above the files": separated(",", first=""),
    "semicolons": separated(";"),
    "tabs": separated("\t"),
    "quoted": separated(",").replace("Eyeglasses", '"Eyeglasses"'),
    "blanks": separated(", "),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_says_the_same(layout: str, tmp_path: Path) -> None:
    (tmp_path / "table").write_text(LAYOUTS[layout], encoding="utf-8")
    glasses = CelebaAttributes(tmp_path / "table", "Eyeglasses")
    result = [glasses.has(Path(name)) for name in ("1.png", "00002.jpg", "12.jpg.png", "x/012.webp", "3.jpg")]
    assert result == [True, False, False, False, None]
    assert CelebaAttributes(tmp_path / "table", "Smiling").has(Path("12.jpg"))
    with pytest.raises(UserError, match="no attribute 'Eyeglases'; nearest: Eyeglasses"):
        CelebaAttributes(tmp_path / "table", "Eyeglases")


@pytest.mark.parametrize(
    ("change", "words"),
    [(("-1,1,-1", "-1,1"), "line 2: wanted"), (("-1,1,-1", "-1,yes,-1"), "line 2: wanted"), ((",", " "), None)],
)
def test_a_bad_line_is_named(change: tuple[str, str], words: str | None, tmp_path: Path) -> None:
    (tmp_path / "table").write_text(separated(",").replace(*change))
    if words is None:
        assert CelebaAttributes(tmp_path / "table", "Eyeglasses").has(Path("1.jpg"))
        return
    with pytest.raises(UserError, match=words):
        CelebaAttributes(tmp_path / "table", "Eyeglasses")


def test_no_table_at_all(tmp_path: Path) -> None:
    for content in (b"", b"\x00\xff," * 1000, b"x," + b"y" * 200_000 + b"\n\n"):
        (tmp_path / "table").write_bytes(content)
        with pytest.raises(UserError, match=r"table (has no attribute|is not an attribute table)"):
            CelebaAttributes(tmp_path / "table", "Eyeglasses")
