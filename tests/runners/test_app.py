"""The page's logic without a browser: one inversion, one edit for each change, masks, faces, downloads, mixtures."""

import itertools
import json
import logging
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_domain import SmallDomain

pytest.importorskip("gradio", reason="the page's packages are not installed: pip install -e '.[app]'")

from app_studio import OLDER, edited, pixels, quiet, uploaded

from configs.paths import ROOT
from runners.app import studio as studio_module
from runners.app.settings import AUTOMATIC, PAINTED, UPLOADED, Settings
from runners.app.studio import Studio
from runners.app.visit import FRAMES
from utils.errors import UserError
from utils.images import resize


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
    again = [edited(studio, "ann", Settings({"age": 5, "glasses": 2})) for _ in range(2)]
    assert runs["editor"] == 12 and again[0] == again[1] and again[0].seconds > 0  # what is shown already
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
