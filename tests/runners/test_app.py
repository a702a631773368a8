"""The page's logic without a browser: one inversion, one edit a request, limits, and files that are removed."""

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
from runners.app.studio import Studio
from runners.app.visit import AUTOMATIC, FRAMES, PAINTED, UPLOADED, EditRequest
from runners.simple_runner import CONFIG
from utils.errors import UserError
from utils.images import resize

OLDER = EditRequest({"age": 5})


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


def quiet(part: float, what: str) -> None:
    assert 0 <= part <= 1 and what


def pixels(path: Path | Image.Image) -> np.ndarray:
    return np.asarray(path if isinstance(path, Image.Image) else Image.open(path), dtype=int)


def test_an_image_is_inverted_once_and_a_request_costs_one_edit(studio: Studio, photo: Path) -> None:
    method = studio.runner.method
    networks = {"backbone": method.inverter.fs_backbone, "e4e": method.e4e, "editor": method.feature_editor}
    runs = dict.fromkeys(networks, 0)

    def count(name: str) -> None:
        runs[name] += 1

    for name, network in networks.items():
        network.register_forward_hook(lambda *_, name=name: count(name))
    studio.open("ann", photo, "me.png", False, quiet)
    assert runs == {"backbone": 1, "e4e": 0, "editor": 1}  # the editor made the inversion's image
    shown = [pixels(studio.edit("ann", EditRequest({"age": power, "glasses": 2})).after) for power in range(-5, 6)]
    assert runs == {"backbone": 1, "e4e": 1, "editor": 12}
    assert all((a != b).any() for a, b in itertools.pairwise(shown))
    studio.edit("ann", EditRequest({"age": 5, "glasses": 2}))
    assert runs["editor"] == 12  # what is shown already
    nothing = studio.edit("ann", EditRequest({"age": 0}))
    assert runs["editor"] == 12 and (pixels(nothing.after) == pixels(studio.visit("ann").unedited)).all()
    studio.sweep("ann", EditRequest({"glasses": 2}), "age", (-10, 10), quiet)
    assert runs == {"backbone": 1, "e4e": 1, "editor": 12 + FRAMES}


def test_settings_make_the_image_again(studio: Studio, photo: Path, photo_path: Path, tmp_path: Path) -> None:
    studio.open("ann", photo, "my photo.png", True, quiet)
    mask = Image.new("L", (300, 200))
    mask.paste(255, (0, 0, 150, 200))
    mask.save(uploaded(studio, "mask.png", b""))
    studio.upload_mask("ann", studio.folder / "uploads" / "mask.png", "mask.png")
    result = studio.edit("ann", EditRequest({"age": 5, "glasses": -2.5}, UPLOADED))
    settings = json.loads(result.settings.read_text())
    assert settings["picture"] == "my photo.png" and settings["align"] and settings["mask_file"] == "my_photo_mask.png"
    assert settings["edits"] == {"age": 5, "glasses": -2.5} and settings["domain"] == "small"

    (tmp_path / "my photo.png").write_bytes(photo_path.read_bytes())
    assert result.mask is not None
    (tmp_path / result.mask.name).write_bytes(result.mask.read_bytes())
    _, script, *arguments = shlex.split(settings["command"])
    done = subprocess.run(
        [sys.executable, ROOT / script, *arguments], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    assert np.abs(pixels(tmp_path / result.after.name) - pixels(result.after)).max() <= 1


def test_the_page_shows_what_can_be_edited() -> None:
    """Families, directions and ranges of the published domain; text edits are greyed while their files are missing."""
    from runners.app.page import Page

    studio = Studio(CONFIG, "cpu", ROOT)
    page, available = Page(studio), studio.runner.available_editings()
    assert [family for family, _ in page.family.choices] == list(available)
    for family, directions in available.items():
        for name, (low, high) in directions.items():
            slider = page.slider(family, name)
            assert (slider["minimum"], slider["maximum"]) == (low, high) and slider["value"] == 0
            assert 20 <= (high - low) / slider["step"] <= 200
    files = studio.text_families["styleclip_global"].files()
    assert {path.name for path in files} == {"ViT-B-32.pt", "templates.txt", "delta_i_c.npy", "S_mean_std"}
    missing, problem = [path for path in files if not path.exists()], page.problem_of("styleclip_global")
    assert all(path.name in problem for path in missing) and bool(missing) == bool(problem)
    assert page.slider("styleclip_global", "")["interactive"] == (not problem) and not page.problem_of("interfacegan")
    for family in studio.text_families:
        words = {page.family: family, page.neutral: "a_face ", page.target: "smiling face", page.number: 0.05}
        assert page._name(words) == f"{family}_a face_smiling face_0.05"
        studio.runner.latent_editor.check(page._name(words), [3])


def test_without_its_packages_the_page_says_what_to_install() -> None:
    program = "import sys; sys.modules['gradio'] = None; import runners.app.page"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert "UserError: gradio is not installed; the page wants: pip install -e '.[app]'" in done.stderr


def test_the_default_config_is_that_of_weights_that_are_there(
    monkeypatch: pytest.MonkeyPatch, small: SmallDomain, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setattr(studio_module, "CONFIG", small.config)
    assert studio_module.default_config() == small.config
    config = tmp_path / "gone.yaml"
    config.write_text(small.config.read_text().replace(str(small.editor), "/no/where.pt"))
    monkeypatch.setattr(studio_module, "CONFIG", config)
    with caplog.at_level(logging.INFO):
        assert studio_module.default_config() == studio_module.AVATARS_CONFIG
    assert "/no/where.pt does not exist, so the page edits avatars" in caplog.text


def test_masks_say_what_stays(studio: Studio, photo: Path) -> None:
    studio.open("ann", photo, "me.png", True, quiet)
    plain = pixels(studio.edit("ann", OLDER).after)
    with pytest.raises(UserError, match="no painted mask yet"):
        studio.edit("ann", EditRequest({"age": 5}, PAINTED))
    blank = Image.new("RGBA", (512, 512))
    with pytest.raises(UserError, match="nothing is painted"):
        studio.paint("ann", [blank])
    studio.paint("ann", [blank, Image.new("RGBA", (512, 512), "red")])
    painted = studio.edit("ann", EditRequest({"age": 5}, PAINTED))
    assert painted.mask is not None and (pixels(painted.mask) == 255).all()
    expected = studio.runner.edit(studio.visit("ann").photo, "age", 5, use_mask=True, mask_path=painted.mask)
    assert (pixels(painted.after) == pixels(expected)).all() and (pixels(painted.after) != plain).any()
    half = Image.new("RGBA", (512, 512))
    half.paste("red", (0, 0, 512, 256))
    studio.paint("ann", [half])
    assert (pixels(studio.edit("ann", EditRequest({"age": 5}, PAINTED)).after) != pixels(painted.after)).any()

    some, more = (studio.edit("ann", EditRequest({"age": 5}, AUTOMATIC, threshold)) for threshold in (0.9, 0.0))
    assert some.mask is None and (pixels(some.after) != plain).any()
    assert (pixels(more.after) == pixels(expected)).all()  # every pixel is background with probability 0 or more
    assert json.loads(some.settings.read_text())["mask_threshold"] == 0.9


def test_the_whole_photograph(studio: Studio, photo: Path, photo_path: Path) -> None:
    studio.open("ann", photo, "me.png", True, quiet)
    result = studio.edit("ann", EditRequest({"age": 5}, whole=True))
    before, after, original = pixels(result.before), pixels(result.after), pixels(photo_path)
    assert after.shape == before.shape == original.shape
    assert np.abs(after - original)[400:, :150].mean() < 4 and np.abs(after - original).mean() > 4  # far from the face
    assert pixels(studio.edit("ann", OLDER).after).shape == (64, 64, 3)


def test_a_sweep_is_a_strip_and_a_gif_of_edits(studio: Studio, photo: Path) -> None:
    visit = studio.open("ann", photo, "me.png", False, quiet)
    strip, gif = studio.sweep("ann", EditRequest({"glasses": 2}), "age", (-6, 6), quiet)
    image = Image.open(strip)
    assert image.width == 5 * 256
    ends = [studio.runner.edit(visit.photo, edits=[("glasses", 2), ("age", power)]) for power in (-6, 6)]
    tiles = [image.crop((left, image.height - 256, left + 256, image.height)) for left in (0, 4 * 256)]
    for tile, end in zip(tiles, ends, strict=True):
        assert np.abs(pixels(tile) - pixels(resize(end, 256))).mean() < 4
    frames = Image.open(gif)
    assert frames.n_frames == 2 * FRAMES - 2 and frames.info["loop"] == 0


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
        studio.open("ann", uploaded(studio, name, content), name, False, quiet)
    assert str(error.value).startswith(f"{name}:") and str(studio.folder) not in str(error.value)
    assert not studio.has_visit("ann") and not any(path.is_file() for path in studio.folder.rglob("*"))
    with pytest.raises(UserError, match="no image is open"):
        studio.edit("ann", OLDER)


def test_300_megapixels_are_refused(studio: Studio) -> None:
    path = uploaded(studio, "huge.png", b"")
    Image.new("1", (20_000, 15_000)).save(path)
    with pytest.raises(UserError, match=r"huge\.png: .*over the limit of 100 megapixels"):
        studio.open("ann", path, "huge.png", False, quiet)


def test_only_uploads_are_read(studio: Studio, photo: Path, photo_path: Path, tmp_path: Path) -> None:
    link = studio.folder / "uploads" / "link.png"
    link.symlink_to(photo_path)
    studio.open("ann", photo, "me.png", False, quiet)
    outside = (Path("/etc/passwd"), photo_path, link, studio.folder, tmp_path, studio.folder / ".." / "x.png")
    for path in outside:
        with pytest.raises(UserError, match="was not uploaded here"):
            studio.open("ann", path, "x.png", False, quiet)
        with pytest.raises(UserError, match="was not uploaded here"):
            studio.upload_mask("ann", path, "x.png")
    for index in (-1, 99):
        with pytest.raises(UserError, match="there is no sample"):
            studio.open_sample("ann", index, False, quiet)
    assert photo_path.exists() and studio.has_visit("ann")


def test_a_second_image_is_refused_while_one_is_opened(studio: Studio, photo: Path, photo_path: Path) -> None:
    """Finding the face in 36 megapixels takes a while."""
    large = uploaded(studio, "large.jpg", b"")
    resize(Image.open(photo_path), 6000).save(large)
    started, outcome = threading.Event(), []

    def begin() -> None:
        try:
            studio.open("ann", large, "large.jpg", True, lambda part, _: started.set() if part > 0.2 else None)
            outcome.append("opened")
        except UserError as error:
            outcome.append(str(error))

    thread = threading.Thread(target=begin)
    thread.start()
    assert started.wait(30)
    for visitor in ("ann", "bob"):
        with pytest.raises(UserError, match="another image is being opened"):
            studio.open(visitor, uploaded(studio, "me.png", photo_path.read_bytes()), "me.png", False, quiet)
    thread.join()
    assert outcome == ["opened"] and studio.has_visit("ann") and not studio.has_visit("bob")
    studio.open("bob", uploaded(studio, "me.png", photo_path.read_bytes()), "me.png", False, quiet)


def test_visits_end(studio: Studio, photo_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the visitor leaves, opens another image, stays away for long, or too many others came."""

    def visit(name: str) -> None:
        studio.open(name, uploaded(studio, "me.png", photo_path.read_bytes()), "me.png", False, quiet)
        studio.edit(name, OLDER)

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
    studio.edit("ann", EditRequest({"age": 1}))
    visit("cid")
    assert [studio.has_visit(name) for name in ("ann", "bob", "cid")] == [True, False, True] and folders() == 2
    monkeypatch.setattr(studio_module, "MAX_IDLE", 0.5)
    time.sleep(0.6)
    visit("cid")
    assert not studio.has_visit("ann") and folders() == 1


def test_results_do_not_pile_up(studio: Studio, photo: Path) -> None:
    studio.open("ann", photo, "me.png", False, quiet)
    counts = []
    for i in range(1, 9):
        studio.edit("ann", EditRequest({"age": i}))
        counts.append(len(list(studio.folder.rglob("*_edited.png"))))
    assert counts == [1, 2, 3, 3, 3, 3, 3, 3]


def test_the_file_name_of_a_visitor_is_no_path(studio: Studio, photo: Path) -> None:
    studio.open("ann", photo, "../../ß <b>&.png", False, quiet)
    result = studio.edit("ann", OLDER)
    assert result.after.resolve().is_relative_to(studio.folder) and result.after.name == "ß_b_edited.png"
