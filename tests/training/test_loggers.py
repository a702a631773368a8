"""Logs in the experiment's folder."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.loggers import Console, ImageFiles, JsonLines, Sheet, read_stats
from training.plots import plot_curves
from utils.drawing import image_grid


def test_json_lines_hold_every_number_and_survive_a_cut(tmp_path: Path) -> None:
    log = JsonLines(tmp_path, last_step=0)
    log.numbers(5, {"train/l2": 0.25, "train/id": 1.0})
    log.numbers(10, {"train/l2": 0.125})
    with (tmp_path / "stats.jsonl").open("a") as file:
        file.write('{"step": 15, "tra')  # killed here
    rows = read_stats(tmp_path / "stats.jsonl")
    assert [{k: v for k, v in row.items() if k != "time"} for row in rows] == [
        {"step": 5, "train/l2": 0.25, "train/id": 1.0},
        {"step": 10, "train/l2": 0.125},
    ]


def test_rows_after_the_checkpoint_are_removed_on_resuming(tmp_path: Path) -> None:
    log = JsonLines(tmp_path, last_step=0)
    for step in (5, 10, 15):
        log.numbers(step, {"train/l2": step})
    again = JsonLines(tmp_path, last_step=10)
    again.numbers(15, {"train/l2": 99})
    lines = [json.loads(line) for line in (tmp_path / "stats.jsonl").read_text().splitlines()]
    assert [(row["step"], row["train/l2"]) for row in lines] == [(5, 5), (10, 10), (15, 99)]


def test_curves_show_the_numbers(tmp_path: Path) -> None:
    def drawn(values: list[float]) -> np.ndarray:
        rows = [{"step": i, "time": 0, "train/l2": value, "val/fid": 1} for i, value in enumerate(values)]
        plot_curves(rows, tmp_path / "c.png")
        with Image.open(tmp_path / "c.png") as image:
            assert image.format == "PNG"
            return np.asarray(image.convert("L"))

    one, two = drawn([1, 2, 3, 4]), drawn([4, 3, 2, 1])
    assert (one != two).any() and one.min() < 100 and one.shape[1] > 1.5 * one.shape[0]  # two panels beside each other
    plot_curves([], tmp_path / "nothing.png")
    assert not (tmp_path / "nothing.png").exists()


def test_the_grid_shows_every_image_under_its_caption(tmp_path: Path) -> None:
    red, blue = Image.new("RGB", (64, 64), "red"), Image.new("RGB", (512, 512), "blue")
    grid = image_grid([("a.png", [red, blue]), ("b.png", [blue, red])])
    assert grid.getpixel((128, 18 + 128)) == (255, 0, 0) and grid.getpixel((384, 18 + 128)) == (0, 0, 255)
    assert grid.getpixel((128, 274 + 18 + 128)) == (0, 0, 255)
    assert np.asarray(grid)[:18].min() < 128  # the caption
    ImageFiles(tmp_path).images(12, Sheet("special", grid, {"a": red}))
    with Image.open(tmp_path / "special" / "step_0000012.png") as image:
        assert image.tobytes() == grid.tobytes()


def test_the_console_shows_the_time_left(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([1000.0, 1100.0])
    monkeypatch.setattr("training.loggers.time.monotonic", lambda: next(moments))
    with caplog.at_level(logging.INFO):
        Console(first_step=301, last_step=700).numbers(400, {"train/l2": 0.25})
    assert caplog.messages == ["step 400 of 700, 0:05:00 left:  train/l2 0.25"]  # 100 steps took 100 s; 300 are left
