"""Smoothing of landmarks over time, on made-up tracks of which the truth is known."""

from collections.abc import Iterable

import numpy as np

from models.faces.tracking import GAP, smooth

FACE = np.random.default_rng(1).uniform(0, 100, (68, 2))  # 100 px wide
RATE = 25.0


def track(times: np.ndarray) -> np.ndarray:
    """A face that moves steadily across the image: N×68×2."""
    return FACE + np.stack([40 * times, -15 * times], axis=1)[:, None]


def error(found: Iterable, truth: np.ndarray) -> float:
    return float(np.sqrt(np.mean((np.stack(list(found)) - truth) ** 2)))


def test_jitter_falls_and_steady_motion_is_not_late():
    times = np.arange(100) / RATE
    truth = track(times)
    noise = np.random.default_rng(2).normal(0, 1, truth.shape)
    assert error(smooth(times, list(truth + noise)), truth) < 0.45
    middle = slice(10, -10)
    assert (
        error(list(smooth(times, list(truth + noise)))[middle], truth[middle]) < 0.4
    )  # at the ends there are neighbours on one side only
    assert error(smooth(times, list(truth)), truth) < 1e-9


def test_slow_turns_of_a_head_are_kept():
    times = np.arange(100) / RATE
    nod = FACE + np.sin(2 * np.pi * 0.5 * times)[:, None, None] * 20
    assert error(smooth(times, list(nod)), nod) < 1.0


def test_uneven_frame_times_count():
    times = np.cumsum(np.random.default_rng(3).uniform(0.01, 0.1, 80))
    truth = track(times)
    assert error(smooth(times, list(truth)), truth) < 1e-9


def test_missed_faces_are_interpolated():
    times = np.arange(60) / RATE
    truth = track(times)
    missed = {20, 21, 22, 23, 24, 25, 40}
    result = [None if i in missed else points for i, points in enumerate(truth)]
    assert error(smooth(times, result), truth) < 1e-9


def test_no_face_is_interpolated_far_from_detected_ones():
    times = np.arange(100) / RATE
    result = [points if i < 20 or i >= 80 else None for i, points in enumerate(track(times))]
    there = [points is not None for points in smooth(times, result)]
    reach = int(GAP * RATE)
    assert there == [i < 20 + reach or i >= 80 - reach for i in range(100)]
    assert list(smooth(times, [None] * 100)) == [None] * 100
    (alone,) = smooth([0.0], [FACE])
    assert np.allclose(alone, FACE)


def test_a_cut_is_not_smoothed_over():
    times = np.arange(40) / RATE
    truth = np.stack([FACE if i < 20 else FACE + 300 for i in range(40)])
    assert error(smooth(times, list(truth)), truth) < 1e-9
