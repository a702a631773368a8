"""Folders of images with their true edits."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.true_edits import TrueEdits, write_edits
from utils.errors import UserError

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six pairs of plain images: before has the level 40·i, after that and 10 more for each unit of power."""
    rows = [(f"{i}.png", ("age", "smile")[i % 2], float(i + 1)) for i in range(6)]
    for i, (name, _, power) in enumerate(rows):
        for side, level in (("before", 20 * i), ("after", 20 * i + 10 * power)):
            (tmp_path / side).mkdir(exist_ok=True)
            Image.fromarray(np.full((8, 8, 3), level, np.uint8)).save(tmp_path / side / name)
    write_edits(tmp_path, rows)
    return tmp_path


def test_pairs_of_one_direction_are_drawn_with_their_powers(folder: Path) -> None:
    edits, seen = TrueEdits(folder, 8), set()
    for seed in range(8):
        torch.manual_seed(seed)
        drawn = edits.draw(4, CPU)
        seen.add(drawn.direction)
        assert drawn.before.shape == drawn.after.shape == (4, 3, 8, 8)
        change = (drawn.after - drawn.before).mean(dim=(1, 2, 3)) * 127.5 / 10
        assert torch.allclose(change, torch.tensor(drawn.powers), atol=1e-3)
        assert {int(name[0]) % 2 for name in drawn.names} == {("age", "smile").index(drawn.direction)}
    assert seen == {"age", "smile"}


def test_drawing_is_a_function_of_the_global_seed(folder: Path) -> None:
    edits, names = TrueEdits(folder, 8), []
    for _ in range(2):
        torch.manual_seed(3)
        names.append(edits.draw(5, CPU).names)
    assert names[0] == names[1]


BAD = ["{", "[1]", '{"file": "0.png"}', '{"file": "0.png", "direction": "age", "power": "x"}']


@pytest.mark.parametrize("line", BAD)
def test_a_bad_line_is_named(folder: Path, line: str) -> None:
    with (folder / "edits.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(UserError, match=r"edits\.jsonl, line 7"):
        TrueEdits(folder, 8)


def test_missing_files_are_named_before_training(folder: Path, tmp_path: Path) -> None:
    (folder / "after" / "3.png").unlink()
    with pytest.raises(UserError, match=r"after/3\.png does not exist"):
        TrueEdits(folder, 8)
    with pytest.raises(UserError, match=r"edits\.jsonl does not exist"):
        TrueEdits(tmp_path / "elsewhere", 8)


def test_a_line_cannot_name_an_image_outside_the_folder(folder: Path) -> None:
    Image.new("RGB", (8, 8)).save(folder / "secret.png")
    (folder / "edits.jsonl").write_text(json.dumps({"file": "../secret.png", "direction": "age", "power": 1}) + "\n")
    with pytest.raises(UserError, match="line 1"):
        TrueEdits(folder, 8)
