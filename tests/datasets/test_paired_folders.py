"""Which files of two folders are a pair, and what reading a folder gives."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.images import ImageFolder, PairedFolders, output_names, relative_names, transform_size
from utils.errors import UserError


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def test_pairs_go_by_relative_path_without_extension(tmp_path: Path) -> None:
    real = touch(tmp_path / "real", "1.jpg", "sub/1.png", "sub/2.JPG", "only.png", "v1.2.png")
    fake = touch(tmp_path / "fake", "1.png", "sub/1.webp", "sub/2.jpg", "2.jpg", "v1.3.png")
    result = PairedFolders.find(real, fake)
    pairs = {pair.name: pair.fake.relative_to(fake).as_posix() for pair in result.pairs}
    assert pairs == {"1.jpg": "1.png", "sub/1.png": "sub/1.webp", "sub/2.JPG": "sub/2.jpg"}
    assert result.unpaired == [real / "only.png", real / "v1.2.png", fake / "2.jpg", fake / "v1.3.png"]


def test_twins_are_paired_by_their_whole_name_only(tmp_path: Path) -> None:
    real = touch(tmp_path / "real", "a.jpg", "a.png", "b.jpg", "b.png")
    fake = touch(tmp_path / "fake", "a.png", "a.jpg", "b.webp")
    result = PairedFolders.find(real, fake)
    assert [(pair.real.name, pair.fake.name) for pair in result.pairs] == [("a.jpg", "a.jpg"), ("a.png", "a.png")]
    assert {path.name for path in result.unpaired} == {"b.jpg", "b.png", "b.webp"}


def test_twins_are_paired_with_what_one_format_made_of_them(tmp_path: Path) -> None:
    """inference.format=png writes a.jpg and a.png as a.jpg.png and a.png.png; the others keep their stem."""
    real = touch(tmp_path / "real", "a.jpg", "a.png", "b.jpg", "sub/a.gif", "sub/a.jp2")
    written = output_names(relative_names(real), ".png")
    fake = touch(tmp_path / "fake", *written.values())
    result = PairedFolders.find(real, fake)
    assert {pair.name: pair.fake.relative_to(fake).as_posix() for pair in result.pairs} == written
    assert result.unpaired == []
    real = touch(tmp_path / "chain", "a.png", "a.png.jpg")  # the file's own name comes first
    result = PairedFolders.find(real, touch(tmp_path / "one", "a.png.webp"))
    assert [(pair.name, pair.fake.name) for pair in result.pairs] == [("a.png.jpg", "a.png.webp")]


def test_results_of_formats_that_are_not_written_are_png() -> None:
    names = ["a.gif", "a.png", "b.jp2", "c.JPG", "d.avif", "d.gif"]
    assert output_names(names, "") == {
        "a.gif": "a.gif.png", "a.png": "a.png", "b.jp2": "b.png", "c.JPG": "c.JPG", "d.avif": "d.avif.png",
        "d.gif": "d.gif.png",
    }  # fmt: skip


def test_what_is_left_out_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "a.jpg", ".Trash-1000/b.jpg", "c.raw")
    with caplog.at_level(logging.INFO):
        assert relative_names(tmp_path) == ["a.jpg"]
    assert caplog.messages == [
        f"{tmp_path}: left out 1 hidden (.Trash-1000/); 1 of formats that are not read (c.raw)"
    ]  # fmt: skip
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(UserError, match=r"has no image, but 1 hidden \(.Trash-1000/\)"):
        relative_names(tmp_path)


def test_nothing_in_common(tmp_path: Path) -> None:
    real, fake = touch(tmp_path / "real", "a.jpg"), touch(tmp_path / "fake", "b.jpg")
    with pytest.raises(UserError, match=r"no image of .*fake is named like one of .*real .*are b\.jpg and a\.jpg"):
        PairedFolders.find(real, fake)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="has no image; wanted: files that end in"):
        PairedFolders.find(real, tmp_path / "empty")


def test_a_folder_as_tensors(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    Image.new("RGB", (30, 20), (255, 0, 51)).save(tmp_path / "b" / "1.png")
    Image.fromarray(np.full((16, 16), 128, np.uint8)).save(tmp_path / "a.bmp")
    folder = ImageFolder(tmp_path, 16)
    assert folder.names == ["a.bmp", "b/1.png"] and len(folder) == 2
    assert folder[1].shape == (3, 16, 16) and folder[1].dtype == torch.float32
    assert folder[1][:, 8, 8].tolist() == pytest.approx([1, -1, -0.6])
    (tmp_path / "a.bmp").write_bytes(b"x")
    with pytest.raises(UserError, match=r"a\.bmp"):
        folder[0]


def test_sizes_of_transforms() -> None:
    assert [transform_size(name, 64) for name in ("face_1024", "face_256", "")] == [1024, 256, 64]
