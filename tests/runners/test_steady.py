"""Flicker of an edited video, without and with smoothed latents."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_domain import SmallDomain

from models.sfe import Inversion
from models.steady import SHARE, Steady
from runners.animation_runner import AnimationRunner
from runners.simple_runner import SimpleRunner
from utils.video import read_frames

pytest.importorskip("av")


def flicker(path: Path) -> float:
    """Mean difference of successive frames."""
    frames = [np.asarray(frame.image, dtype=float) for frame in read_frames(path)]
    return float(np.mean([np.abs(b - a).mean() for a, b in pairwise(frames)]))


def test_smoothed_latents_flicker_less(small: SmallDomain, photo_path: Path, tmp_path: Path) -> None:
    """Of a still image with the noise of a camera, in a domain without alignment."""
    from video_files import write_video

    (tmp_path / "domain.yaml").write_text(small.path.read_text().replace("alignment: ffhq", "alignment: null"))
    config = small.config.read_text().replace(str(small.path), str(tmp_path / "domain.yaml"))
    (tmp_path / "config.yaml").write_text(config)
    runner = AnimationRunner(SimpleRunner(small.editor, tmp_path / "config.yaml"))
    still = np.asarray(Image.open(photo_path).convert("RGB").crop((120, 0, 376, 256)).resize((64, 64)), dtype=float)
    noise = np.random.default_rng(1)
    frames = [(still + noise.normal(0, 12, still.shape)).clip(0, 255).astype(np.uint8) for _ in range(10)]
    video = write_video(tmp_path / "in.mp4", [Image.fromarray(frame) for frame in frames], sound=None)
    for name, steady in (("plain", False), ("steady", True)):
        runner.video(video, [("age", [6])], tmp_path / f"{name}.mp4", steady=steady)
    given, plain, steady = (flicker(tmp_path / f"{name}.mp4") for name in ("in", "plain", "steady"))
    print(f"flicker: input {given:.2f}, edited {plain:.2f}, steady {steady:.2f}")
    assert steady < 0.7 * plain


def inversion(value: float, shade: float = 0.0) -> Inversion:
    w = torch.full((1, 10, 16), value)
    return Inversion(torch.full((1, 3, 8, 8), shade), w, torch.full((1, 8, 4, 4), value), w)


def test_moving_parts_are_taken_from_the_new_frame() -> None:
    """The left half of the image changes."""
    steady, moved = Steady(), inversion(2)
    moved.image[..., :4] = 0.2
    steady(inversion(1))
    result = steady(moved).features
    assert result[..., :2].unique().tolist() == [2] and result[..., 2:].unique().tolist() == pytest.approx([1 + SHARE])


def test_averages_follow_and_begin_again_after_a_cut() -> None:
    steady = Steady()
    first, second = steady(inversion(1)), steady(inversion(2))
    assert first.w.unique().tolist() == [1] and second.w.unique().tolist() == pytest.approx([1 + SHARE])
    assert second.features.unique().tolist() == pytest.approx([1 + SHARE])
    assert second.w_e4e is not None and torch.equal(second.w_e4e, second.w)
    assert steady(inversion(5, shade=0.9)).w.unique().tolist() == [5]  # another shot
    for _ in range(30):
        result = steady(inversion(3, shade=0.9))
    assert result.w.unique().tolist() == pytest.approx([3], abs=1e-3)
