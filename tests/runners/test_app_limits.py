"""Limits of the page's logic, without a browser: uploads that are refused, visits that end, files that go away."""

import threading
import time
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("gradio", reason="the page's packages are not installed: pip install -e '.[app]'")

from app_studio import OLDER, edited, quiet, uploaded

from configs.paths import ROOT
from runners.app import studio as studio_module
from runners.app.settings import Settings
from runners.app.studio import Studio
from utils.errors import UserError
from utils.images import resize

BAD = {
    "text.jpg": (b"no picture at all", "is not an image"),
    "empty.png": (b"", "is empty"),
    "cut.png": ((ROOT / "assets" / "astronaut.png").read_bytes()[:5000], "cannot be decoded"),
    "large.bmp": (bytes(20 * 2**20 + 1), "the limit is 20 MB"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_uploads_are_refused_and_removed(studio: Studio, name: str) -> None:
    content, words = BAD[name]
    with pytest.raises(UserError, match=words) as error:
        studio.open("ann", uploaded(studio, name, content), name, False, Settings(), quiet)
    assert str(error.value).startswith(f"{name}:") and str(studio.folder) not in str(error.value)
    assert not studio.has_visit("ann") and not any(path.is_file() for path in studio.folder.rglob("*"))
    with pytest.raises(UserError, match="no image is open"):
        edited(studio, "ann", OLDER)


def test_300_megapixels_are_refused(studio: Studio) -> None:
    path = uploaded(studio, "huge.png", b"")
    Image.new("1", (20_000, 15_000)).save(path)
    with pytest.raises(UserError, match=r"huge\.png: .*over the limit of 100 megapixels"):
        studio.open("ann", path, "huge.png", False, Settings(), quiet)


def test_only_uploads_are_read(studio: Studio, photo: Path, photo_path: Path, tmp_path: Path) -> None:
    link = studio.folder / "uploads" / "link.png"
    link.symlink_to(photo_path)
    studio.open("ann", photo, "me.png", False, Settings(), quiet)
    outside = (Path("/etc/passwd"), photo_path, link, studio.folder, tmp_path, studio.folder / ".." / "x.png")
    for path in outside:
        with pytest.raises(UserError, match="was not uploaded here"):
            studio.open("ann", path, "x.png", False, Settings(), quiet)
        with pytest.raises(UserError, match="was not uploaded here"):
            studio.upload_mask("ann", path, "x.png")
    for index in (-1, 99):
        with pytest.raises(UserError, match="there is no sample"):
            studio.open_sample("ann", index, False, Settings(), quiet)
    assert photo_path.exists() and studio.has_visit("ann")


def test_a_second_picture_is_refused_while_one_is_opened(studio: Studio, photo: Path, photo_path: Path) -> None:
    """Finding the face in 36 megapixels takes a while."""
    large = uploaded(studio, "large.jpg", b"")
    resize(Image.open(photo_path), 6000).save(large)
    started, outcome = threading.Event(), []

    def begin() -> None:
        try:
            begun = lambda part, _: started.set() if part > 0.2 else None  # noqa: E731
            studio.open("ann", large, "large.jpg", True, OLDER, begun)
            outcome.append("opened")
        except UserError as error:
            outcome.append(str(error))

    thread = threading.Thread(target=begin)
    thread.start()
    assert started.wait(30)
    for visitor in ("ann", "bob"):
        with pytest.raises(UserError, match="another image is being opened"):
            studio.open(visitor, uploaded(studio, "me.png", photo_path.read_bytes()), "me.png", False, OLDER, quiet)
    thread.join()
    assert outcome == ["opened"] and studio.has_visit("ann") and not studio.has_visit("bob")
    studio.open("bob", uploaded(studio, "me.png", photo_path.read_bytes()), "me.png", False, Settings(), quiet)


def test_visits_end(studio: Studio, photo_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the visitor leaves, opens another image, stays away for long, or too many others came."""

    def visit(name: str) -> None:
        studio.open(name, uploaded(studio, "me.png", photo_path.read_bytes()), "me.png", False, Settings(), quiet)
        edited(studio, name, OLDER)

    def folders() -> int:
        return len([path for path in studio.folder.iterdir() if path.name.startswith("visit_")])

    for _ in range(3):
        visit("ann")
        assert folders() == 1
    studio.close("ann")
    studio.close("ann")
    assert not [path for path in studio.folder.rglob("*") if path.is_file()] and not studio.has_visit("ann")

    monkeypatch.setattr(studio_module, "MAX_VISITS", 2)
    for name in ("ann", "bob"):
        visit(name)
    edited(studio, "ann", Settings({"age": 1}))
    visit("cid")
    assert [studio.has_visit(name) for name in ("ann", "bob", "cid")] == [True, False, True] and folders() == 2
    monkeypatch.setattr(studio_module, "MAX_IDLE", 0.5)
    time.sleep(0.6)
    visit("cid")
    assert not studio.has_visit("ann") and folders() == 1


def test_results_do_not_pile_up(studio: Studio, photo: Path) -> None:
    studio.open("ann", photo, "me.png", False, Settings(), quiet)
    counts = []
    for i in range(1, 9):
        edited(studio, "ann", Settings({"age": i}))
        counts.append(len(list(studio.folder.rglob("*_edited.png"))))
    assert counts == [1, 2, 3, 3, 3, 3, 3, 3]


def test_the_file_name_of_a_visitor_is_no_path(studio: Studio, photo: Path) -> None:
    studio.open("ann", photo, "../../ß <b>&.png", False, Settings(), quiet)
    result = edited(studio, "ann", OLDER)
    assert result.after.resolve().is_relative_to(studio.folder) and result.after.name == "ß_b_edited.png"
