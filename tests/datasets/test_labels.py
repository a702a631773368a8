"""labels.jsonl: what is read, what is hidden, and what is refused."""

from pathlib import Path

import pytest
import torch

from datasets.labels import HIDDEN, Labels, write_labels
from utils.errors import UserError


def test_labels_are_indices_into_sorted_values(tmp_path: Path) -> None:
    write_labels(tmp_path, [("b.png", {"hat": "tall", "hair": None}), ("a.png", {"hat": "none", "hair": "red"})])
    labels = Labels(tmp_path)
    assert labels.attributes == {"hat": ["none", "tall"], "hair": ["red"]}
    result = labels.of(["a.png", "b.png", "unknown.png"])
    assert torch.equal(result["hat"], torch.tensor([0, 1, HIDDEN]))
    assert torch.equal(result["hair"], torch.tensor([0, HIDDEN, HIDDEN]))


@pytest.mark.parametrize("line", ["no json", "[]", '{"hat": "tall"}', '{"file": 3}', '{"file": "a.png", "hat": 1}'])
def test_a_bad_line_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "labels.jsonl").write_text('{"file": "a.png", "hat": "none"}\n' + line + "\n")
    with pytest.raises(UserError, match="line 2"):
        Labels(tmp_path)


def test_a_missing_file_says_what_is_wanted(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"labels\.jsonl does not exist"):
        Labels(tmp_path)
