"""The page's logic without a browser: one inversion, one edit a wish, limits, and files that go away."""

import json
import logging
import shlex
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_domain import SmallDomain

pytest.importorskip("gradio", reason="the page's packages are not installed: pip install -e '.[app]'")

import itertools

from configs.paths import ROOT
from runners.app import studio as studio_module
from runners.app.settings import AUTOMATIC, PAINTED, UPLOADED, Settings
from runners.app.studio import Studio
from runners.app.visit import FRAMES, Result
from utils.errors import UserError
from utils.images import resize

OLDER = Settings({"age": 5})


@pytest.fixture
def studio(small: SmallDomain, tmp_path: Path) -> Studio:
    return Studio(small.config, "cpu", tmp_path / "server")


@pytest.fixture
def photo(photo_path: Path, studio: Studio) -> Path:
    return uploaded(studio, "me.png", photo_path.read_bytes())


def uploaded(studio: Studio, name: str, content: bytes) -> Path:
    path = studio.folder / "uploads" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def edited(studio: Studio, visitor: str, settings: Settings) -> Result:
    with studio.using(visitor) as visit:
        return visit.edit(settings)


def quiet(part: float, what: str) -> None:
    assert 0 <= part <= 1 and what


def pixels(path: Path | Image.Image) -> np.ndarray:
    return np.asarray(path if isinstance(path, Image.Image) else Image.open(path), dtype=int)


def test_a_picture_is_inverted_once_and_a_wish_costs_one_edit(studio: Studio, photo: Path) -> None:
    method = studio.runner.method
    networks = {"backbone": method.inverter.fs_backbone, "e4e": method.e4e, "editor": method.feature_editor}
    runs = dict.fromkeys(networks, 0)

    def count(name: str) -> None:
        runs[name] += 1

    for name, network in networks.items():
        network.register_forward_hook(lambda *_, name=name: count(name))
    studio.open("ann", photo, "me.png", False, Settings(), quiet)
    assert runs == {"backbone": 1, "e4e": 0, "editor": 1}  # the editor made the inversion's image
    shown = [pixels(edited(studio, "ann", Settings({"age": power, "glasses": 2})).after) for power in range(-5, 6)]
    assert runs == {"backbone": 1, "e4e": 1, "editor": 12}
    assert all((a != b).any() for a, b in itertools.pairwise(shown))
    edited(studio, "ann", Settings({"age": 5, "glasses": 2}))
    assert runs["editor"] == 12  # what is shown already
    nothing = edited(studio, "ann", Settings())
    assert runs["editor"] == 12 and (pixels(nothing.after) == pixels(studio.visit("ann").unedited)).all()
    studio.visit("ann").download("gif", OLDER, quiet)
    assert runs == {"backbone": 1, "e4e": 1, "editor": 12 + FRAMES - 1}  # the first frame is the inversion


def test_settings_make_the_picture_again(studio: Studio, photo: Path, photo_path: Path, tmp_path: Path) -> None:
    studio.open("ann", photo, "my photo.png", True, Settings(), quiet)
    mask = Image.new("L", (300, 200))
    mask.paste(255, (0, 0, 150, 200))
    mask.save(uploaded(studio, "mask.png", b""))
    studio.upload_mask("ann", studio.folder / "uploads" / "mask.png", "mask.png")
    wanted = Settings({"age": 5, "glasses": -2.5}, UPLOADED)
    result, visit = edited(studio, "ann", wanted), studio.visit("ann")
    settings = json.loads(visit.download("settings", wanted, quiet).read_text())
    assert settings["picture"] == "my photo.png" and settings["align"] and settings["mask_file"] == "my_photo_mask.png"
    assert settings["edits"] == {"age": 5, "glasses": -2.5} and settings["domain"] == "small"

    (tmp_path / "my photo.png").write_bytes(photo_path.read_bytes())
    mask_file = visit.download("mask", wanted, quiet)
    (tmp_path / mask_file.name).write_bytes(mask_file.read_bytes())
    _, script, *arguments = shlex.split(settings["command"])
    done = subprocess.run(
        [sys.executable, ROOT / script, *arguments], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    assert np.abs(pixels(tmp_path / result.after.name) - pixels(result.after)).max() <= 1


def test_without_its_packages_the_page_says_what_to_install() -> None:
    program = "import sys; sys.modules['gradio'] = None; import runners.app.page"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert "UserError: gradio is not installed; the page wants: pip install -e '.[app]'" in done.stderr


def test_the_default_config_is_that_of_weights_that_are_there(
    monkeypatch: pytest.MonkeyPatch, small: SmallDomain, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    config = tmp_path / "gone.yaml"
    config.write_text(small.config.read_text().replace(str(small.editor), "/no/where.pt"))
    monkeypatch.setattr(studio_module, "CONFIGS", (small.config, config))
    assert studio_module.default_config() == small.config
    monkeypatch.setattr(studio_module, "CONFIGS", (config, small.config))
    with caplog.at_level(logging.INFO):
        assert studio_module.default_config() == small.config
    assert "/no/where.pt does not exist" in caplog.text


def test_masks_say_what_stays(studio: Studio, photo: Path) -> None:
    studio.open("ann", photo, "me.png", True, Settings(), quiet)
    plain = pixels(edited(studio, "ann", OLDER).after)
    with pytest.raises(UserError, match="no painted mask yet"):
        edited(studio, "ann", Settings({"age": 5}, PAINTED))
    blank = Image.new("RGBA", (512, 512))
    with pytest.raises(UserError, match="nothing is painted"):
        studio.paint("ann", [blank])
    studio.paint("ann", [blank, Image.new("RGBA", (512, 512), "red")])
    painted = edited(studio, "ann", Settings({"age": 5}, PAINTED))
    visit = studio.visit("ann")
    mask = visit.download("mask", Settings({}, PAINTED), quiet)
    assert (pixels(mask) == 255).all()
    expected = studio.runner.edit(visit.photo, "age", 5, use_mask=True, mask_path=mask)
    assert (pixels(painted.after) == pixels(expected)).all() and (pixels(painted.after) != plain).any()
    half = Image.new("RGBA", (512, 512))
    half.paste("red", (0, 0, 512, 256))
    studio.paint("ann", [half])
    assert (pixels(edited(studio, "ann", Settings({"age": 5}, PAINTED)).after) != pixels(painted.after)).any()

    some, more = (edited(studio, "ann", Settings({"age": 5}, AUTOMATIC, threshold)) for threshold in (0.9, 0.0))
    assert (pixels(some.after) != plain).any()
    assert (pixels(more.after) == pixels(expected)).all()  # every pixel is background with probability 0 or more
    file = visit.download("settings", Settings({"age": 5}, AUTOMATIC, 0.9), quiet)
    assert json.loads(file.read_text())["mask_threshold"] == 0.9


def test_the_whole_photograph(studio: Studio, photo: Path, photo_path: Path) -> None:
    studio.open("ann", photo, "me.png", True, Settings(), quiet)
    visit, original = studio.visit("ann"), pixels(photo_path)
    after = pixels(visit.download("photograph", OLDER, quiet))
    assert after.shape == original.shape
    assert np.abs(after - original)[400:, :150].mean() < 4 and np.abs(after - original).mean() > 4  # far from the face
    shown = edited(studio, "ann", OLDER).photograph
    assert shown is not None and np.abs(pixels(shown) - after).mean() < 4  # but for the outline
    studio.open("bob", uploaded(studio, "me.png", photo_path.read_bytes()), "me.png", False, Settings(), quiet)
    assert edited(studio, "bob", OLDER).photograph is None


def test_another_face_is_chosen(studio: Studio, pair_path: Path) -> None:
    upload = uploaded(studio, "pair.png", pair_path.read_bytes())
    first = studio.open("ann", upload, "pair.png", True, OLDER, quiet).picture
    assert first.face == 1 and len(first.faces) == 2  # the larger one
    assert first.face_at(100, 150) == 1 and first.face_at(600, 150) == 2  # of 800×400 px
    second = studio.choose_face("ann", 2, OLDER, quiet)
    assert second.picture.face == 2 and second.history.current == OLDER
    expected = studio.runner.invert(pair_path, True, face=2)
    assert (pixels(second.photo.crop) == pixels(expected.crop)).all()
    settings = json.loads(second.download("settings", OLDER, quiet).read_text())
    assert settings["face"] == 2 and "--face 2" in settings["command"]
    with pytest.raises(UserError, match="there is no face 3; the photograph shows 2"):
        studio.choose_face("ann", 3, OLDER, quiet)


def test_strip_and_gif_show_the_edit_grow(studio: Studio, photo: Path) -> None:
    visit = studio.open("ann", photo, "me.png", False, Settings(), quiet)
    both = Settings({"glasses": 2, "age": -6})
    image = Image.open(visit.download("strip", both, quiet))
    assert image.width == 5 * 256
    ends = [visit.unedited, studio.runner.edit(visit.photo, edits=[("glasses", 2), ("age", -6)])]
    tiles = [image.crop((left, image.height - 256, left + 256, image.height)) for left in (0, 4 * 256)]
    for tile, end in zip(tiles, ends, strict=True):
        assert np.abs(pixels(tile) - pixels(resize(end, 256))).mean() < 4
    frames = Image.open(visit.download("gif", both, quiet))
    assert frames.n_frames == 2 * FRAMES - 2 and frames.info["loop"] == 0
    with pytest.raises(UserError, match="nothing is edited yet"):
        visit.download("gif", Settings(), quiet)


def test_an_inversion_file_goes_out_and_in(studio: Studio, photo: Path) -> None:
    """It opens without the photograph that it names, which would be a file of the server."""
    visit = studio.open("ann", photo, "me.png", True, OLDER, quiet)
    before = pixels(edited(studio, "ann", OLDER).after)
    file = visit.download("inversion", OLDER, quiet)
    again = uploaded(studio, "me.safetensors", file.read_bytes())
    visit = studio.open("bob", again, "me.safetensors", True, OLDER, quiet)
    assert np.abs(pixels(edited(studio, "bob", OLDER).after) - before).max() <= 1
    assert visit.photo.quad is None and edited(studio, "bob", OLDER).photograph is None


def test_two_pictures_are_mixed(studio: Studio, photo: Path, photo_path: Path) -> None:
    visit = studio.open("ann", photo, "me.png", True, OLDER, quiet)
    with pytest.raises(UserError, match="no second picture yet"):
        visit.mix(0.5, "all")
    upload = uploaded(studio, "other.png", photo_path.read_bytes())
    studio.open_second("ann", (upload, "other.png"), False, quiet)
    second = studio.runner.invert(photo_path)
    assert visit.second is not None and not upload.exists()
    for share, layers in ((0.0, "all"), (0.5, "0-3"), (1.0, "all")):
        expected = studio.runner.mix(visit.photo, second, layers, share)
        assert np.abs(pixels(visit.mix(share, layers).after) - pixels(expected)).max() <= 1
    assert Image.open(visit.morph("all")).n_frames > 2
    for bad in ((Path("/etc/passwd"), "x.png"), 99):
        with pytest.raises(UserError, match=r"was not uploaded here|there is no sample"):
            studio.open_second("ann", bad, False, quiet)
    assert Path("/etc/passwd").exists()


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
