"""Mixing and morphing of two images on a small domain of random weights."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_domain import SmallDomain

from models.inference import FSEFull
from models.mixing import mix, parse_layers
from models.sfe import decode_coarse
from runners.animation_runner import AnimationRunner
from runners.simple_runner import SimpleRunner
from utils.errors import UserError
from utils.images import to_image

ROOT = Path(__file__).resolve().parents[2]
BELOW_F = range(5)  # of the small domain: F is at 16 px, made by the layers 1 … 5


@pytest.fixture(scope="module", params=["editor", "inverter"])
def runner(
    request: pytest.FixtureRequest, small: SmallDomain, tmp_path_factory: pytest.TempPathFactory
) -> SimpleRunner:
    config = tmp_path_factory.mktemp("config") / "config.yaml"
    method = {"editor": "fse_full", "inverter": "fse_inverter"}[request.param]
    config.write_text(small.config.read_text().replace("fse_full", method))
    return SimpleRunner(getattr(small, request.param), config)


@pytest.fixture(scope="module")
def other_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("other") / "other.png"
    Image.effect_mandelbrot((64, 64), (-2, -1, 1, 1), 30).convert("RGB").save(path)
    return path


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image, dtype=np.int64)


def test_the_ends_are_the_inversions(runner: SimpleRunner, photo_path: Path, other_path: Path) -> None:
    a, b = runner.invert(photo_path), runner.invert(other_path)
    assert np.abs(pixels(runner.mix(a, b, share=0)) - pixels(runner.reconstruct(a))).max() <= 1
    assert np.abs(pixels(runner.mix(a, b, share=1)) - pixels(runner.reconstruct(b))).max() <= 1
    assert np.abs(pixels(runner.mix(a, b, layers="5-9", share=0)) - pixels(runner.reconstruct(a))).max() <= 1
    between = pixels(runner.mix(a, b))
    assert min(np.abs(between - pixels(runner.reconstruct(end))).mean() for end in (a, b)) > 2
    assert np.array_equal(between, pixels(runner.mix(photo_path, other_path, "all", 0.5)))


def test_an_image_mixed_with_itself_is_itself(runner: SimpleRunner, photo_path: Path) -> None:
    a = runner.invert(photo_path)
    assert np.abs(pixels(runner.mix(a, a, layers="2-7", share=0.7)) - pixels(runner.reconstruct(a))).max() <= 1


@pytest.mark.parametrize("layers", [range(10), range(2, 8), range(5, 10)])
def test_mixing_is_the_formula(runner: SimpleRunner, photo_path: Path, other_path: Path, layers: range) -> None:
    """By hand from the networks, for two shares at once."""
    a, b = runner.invert(photo_path).inversion, runner.invert(other_path).inversion
    method = runner.method
    decoder, layer = method.decoder, method.layer
    images = mix(method, a, b, [0.25, 0.6], layers)

    def f_w(w: torch.Tensor) -> torch.Tensor:
        return decode_coarse(decoder, decoder.affine(w), layer).features

    with torch.inference_mode():
        for image, share in zip(images, (0.25, 0.6), strict=True):
            w, features = a.w.clone(), [a.features, b.features]
            w[:, layers] = (1 - share) * a.w[:, layers] + share * b.w[:, layers]
            if isinstance(method, FSEFull):
                e_a, e_b = (method.e4e(x.image) + decoder.latent_avg for x in (a, b))
                e = e_a.clone()
                e[:, layers] = (1 - share) * e_a[:, layers] + share * e_b[:, layers]
                features = [
                    method.feature_editor(f, f_w(own) - f_w(e)) for f, own in zip(features, (e_a, e_b), strict=True)
                ]
            whole = set(BELOW_F) <= set(layers)
            blend = (1 - share) * features[0] + share * features[1] if whole else features[0]
            styles = decoder.affine(w)
            wanted = decoder.head(blend, decoder.trunk(styles, layer)[1], styles, layer)
            assert np.abs(pixels(to_image(image)) - pixels(to_image(wanted[0]))).max() <= 1


@pytest.mark.parametrize("text", ["", "5-", "7-4", "0-10", "10", "a", "-1", "1,,2", "9" * 400])
def test_layers_that_are_none(text: str) -> None:
    with pytest.raises(UserError, match="wanted numbers from 0 to 9, as in 4-7"):
        parse_layers(text, 10)


def test_layers() -> None:
    assert parse_layers("4-7", 10) == [4, 5, 6, 7]
    assert parse_layers("8, 0-2,1", 10) == [0, 1, 2, 8]
    assert parse_layers("all", 3) == [0, 1, 2]


def test_bad_shares_write_nothing(runner: SimpleRunner, photo_path: Path, tmp_path: Path) -> None:
    for share in (-0.1, 1.1, float("nan")):
        with pytest.raises(UserError, match="share is"):
            runner.mix(photo_path, photo_path, share=share, save_pth=tmp_path / "no.png")
    assert list(tmp_path.iterdir()) == []


def test_no_image_is_overwritten(runner: SimpleRunner, other_path: Path, photo_path: Path, tmp_path: Path) -> None:
    for name in ("a.png", "a.gif"):
        Image.open(other_path).save(tmp_path / name)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match=r"a\.png: would be overwritten"):
        runner.mix(photo_path, tmp_path / "a.png", save_pth=tmp_path / "a.png")
    with pytest.raises(UserError, match=r"a\.gif: would be overwritten"):
        AnimationRunner(runner).morph(tmp_path / "a.gif", photo_path, tmp_path / "a.gif")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_morph_goes_there_and_back(
    runner: SimpleRunner, photo_path: Path, other_path: Path, tmp_path: Path
) -> None:
    AnimationRunner(runner).morph(photo_path, other_path, tmp_path / "morph.gif", frames=6)
    with Image.open(tmp_path / "morph.gif") as film:
        frames = []
        for i in range(film.n_frames):
            film.seek(i)
            frames.append(pixels(film.convert("RGB")))
    assert len(frames) == 6
    for frame, share in zip(frames, (0, 1 / 3, 2 / 3, 1, 2 / 3, 1 / 3), strict=True):
        assert np.abs(frame - pixels(runner.mix(photo_path, other_path, share=share))).mean() < 6  # 256 colours


def test_scripts(small: SmallDomain, photo_path: Path, other_path: Path, tmp_path: Path) -> None:
    shared = ["--orig_img_pth", photo_path, "--editor_ckpt_pth", small.editor, "--simple_config_pth", small.config]
    mixing = ["mix.py", "--other_img_pth", other_path, "--layers", "5-9", "--share", "1"]
    mixing += ["--save_pth", tmp_path / "m.png"]
    morph = ["animate.py", "--morph_to", other_path, "--frames", "4", "--save_pth", tmp_path / "m.gif"]
    for name, *flags in (mixing, morph):
        command = [sys.executable, ROOT / "scripts" / name, *shared, *flags]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    wanted = SimpleRunner(small.editor, small.config).mix(photo_path, other_path, "5-9", 1)
    assert np.array_equal(pixels(Image.open(tmp_path / "m.png")), pixels(wanted))
    assert Image.open(tmp_path / "m.gif").n_frames == 4
