"""Colour profiles: real files with real profiles against the formulas."""

import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from colour_profiles import P3, grey_profile, matrix_profile, to_srgb
from colour_profiles import SRGB as SRGB_COLORANTS
from PIL import Image

from utils.colour import SRGB
from utils.images import load_image, open_image, save_image

DISPLAY_P3 = matrix_profile(P3, 2.2)


@pytest.fixture
def colours() -> Image.Image:
    """16×16 random colours."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8))


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image, dtype=float)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".avif"])
def test_colours_of_a_wide_profile_are_converted(suffix: str, tmp_path: Path, colours: Image.Image) -> None:
    options = {"lossless": True} if suffix == ".webp" else {"quality": 100, "subsampling": "4:4:4"}
    colours.save(tmp_path / f"a{suffix}", icc_profile=DISPLAY_P3, **(options if suffix in (".webp", ".avif") else {}))
    with Image.open(tmp_path / f"a{suffix}") as file:
        stored = pixels(file.convert("RGB"))
    result, wanted = pixels(load_image(tmp_path / f"a{suffix}")), to_srgb(stored, P3, 2.2)
    inside = (wanted > 8) & (wanted < 247)  # beyond the edge of sRGB the ways of clipping differ
    inside = inside.all(axis=2)
    assert inside.mean() > 0.2
    assert np.abs(result - wanted)[inside].max() <= 2
    assert np.abs(result - stored)[inside].mean() > 2  # the profile matters


def test_transparency_palette_and_grey(tmp_path: Path, colours: Image.Image) -> None:
    clear = colours.copy()
    clear.putalpha(Image.new("L", (16, 16), 128))
    clear.save(tmp_path / "rgba.png", icc_profile=DISPLAY_P3)
    opened = open_image(tmp_path / "rgba.png")
    assert opened.mode == "RGBA" and set(np.asarray(opened)[..., 3].ravel()) == {128}
    colours.save(tmp_path / "rgb.png", icc_profile=DISPLAY_P3)
    assert opened.convert("RGB").tobytes() == load_image(tmp_path / "rgb.png").tobytes()

    colours.quantize(64).save(tmp_path / "p.png", icc_profile=DISPLAY_P3)
    stored = pixels(Image.open(tmp_path / "p.png").convert("RGB"))
    assert np.abs(pixels(load_image(tmp_path / "p.png")) - to_srgb(stored, P3, 2.2)).mean() < 6

    grey = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    grey.save(tmp_path / "linear.png", icc_profile=grey_profile(1.0))
    grey.save(tmp_path / "coloured.png", icc_profile=DISPLAY_P3)  # grey images often carry the display's profile
    assert load_image(tmp_path / "linear.png").getpixel((5, 3)) == (126,) * 3  # 53 in linear light
    assert np.ptp(np.asarray(load_image(tmp_path / "coloured.png"), dtype=int), axis=2).max() <= 1


def test_srgb_and_unusable_profiles_change_nothing(
    tmp_path: Path, colours: Image.Image, caplog: pytest.LogCaptureFixture
) -> None:
    for number, profile in enumerate((SRGB, matrix_profile(SRGB_COLORANTS, 2.2), b"", None)):
        colours.save(tmp_path / f"{number}.png", icc_profile=profile)
    exact = [load_image(tmp_path / f"{number}.png").tobytes() == colours.tobytes() for number in (0, 2, 3)]
    assert exact == [True] * 3
    for name, profile in {"garbage": b"no profile at all", "cut": DISPLAY_P3[:200], "grey": grey_profile(1.0)}.items():
        colours.save(tmp_path / f"{name}.png", icc_profile=profile)
        with caplog.at_level(logging.WARNING):
            assert load_image(tmp_path / f"{name}.png").tobytes() == colours.tobytes()
        assert f"{name}.png: its colour profile cannot be used" in caplog.text


def test_cmyk_goes_through_its_profile_or_without(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=100, icc_profile=DISPLAY_P3)
    red, green, blue = load_image(tmp_path / "a.jpg").getpixel((8, 8))  # a profile of RGB says nothing of CMYK
    assert (red > 250, green < 5, blue < 5) == (True, True, True)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_what_is_written_says_that_it_is_srgb(suffix: str, tmp_path: Path, colours: Image.Image) -> None:
    save_image(colours, tmp_path / f"a{suffix}")
    save_image(colours.convert("L"), tmp_path / f"grey{suffix}")
    with Image.open(tmp_path / f"a{suffix}") as file, Image.open(tmp_path / f"grey{suffix}") as grey:
        assert file.info["icc_profile"] == SRGB
        assert not grey.info.get("icc_profile")  # an RGB profile does not fit there


def test_the_tag_does_not_depend_on_the_time() -> None:
    code = "import time; time.sleep(1.1); from utils.colour import SRGB; print(SRGB.hex())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert bytes.fromhex(done.stdout) == SRGB
