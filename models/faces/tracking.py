"""Smooths a face's landmarks over the frames of a video and fills gaps."""

from collections.abc import Iterator, Sequence
from itertools import pairwise, repeat

import numpy as np

SIGMA = 2.0  # frames; dlib's landmarks tremble by a pixel from frame to frame, heads do not
GAP = 0.5  # seconds to the nearest frame with a face, within which a missed face is interpolated
CUT = 0.5  # of the face's width: a larger move from one frame to the next is a cut, or another face

_REACH = round(3 * SIGMA)  # frames on either side that count


def smooth(times: Sequence[float], detected: Sequence[np.ndarray | None]) -> Iterator[np.ndarray | None]:
    """Landmarks of every frame, from those of the frames around it.

    Each is the value at the frame's time of a straight line fitted to its neighbours on both sides, with the weights of
    a Gaussian of SIGMA frames: jitter falls to two fifths, and steady motion is not delayed. Where no face was found,
    it is interpolated between the frames on both sides. Nothing is smoothed over a cut.

    Args:
        times: seconds, rising.
        detected: K×2 landmarks for each frame, or None.

    Yields:
        K×2 float64 for each frame; None where the nearest frame with a face is more than GAP away.
    """
    known = [np.asarray(points) for points in detected if points is not None]
    if not known:
        yield from repeat(None, len(detected))
        return
    time = np.asarray(times, dtype=np.float64)
    known_time = time[[points is not None for points in detected]]
    nearest = np.searchsorted((known_time[1:] + known_time[:-1]) / 2, time)  # index of the nearest known one
    known_scene = _scenes(known)
    scene = known_scene[nearest]

    # A frame is between two known ones of its scene, at the fraction `part` of the interval.
    before = np.searchsorted(known_time, time, side="right").clip(1) - 1
    after = (before + 1).clip(max=len(known) - 1)
    before = np.where(known_scene[before] == scene, before, nearest)
    after = np.where(known_scene[after] == scene, after, nearest)
    gap = known_time[after] - known_time[before]
    part = ((time - known_time[before]) / np.where(gap > 0, gap, np.inf)).clip(0, 1)

    for i, now in enumerate(time):
        if abs(known_time[nearest[i]] - now) > GAP:
            yield None
            continue
        near = np.arange(max(i - _REACH, 0), min(i + _REACH + 1, len(time)))
        near = near[scene[near] == scene[i]]
        share = part[near, None, None]
        places = (1 - share) * np.stack([known[k] for k in before[near]])
        places += share * np.stack([known[k] for k in after[near]])
        yield _fitted(time[near] - now, places, np.exp(-0.5 * ((near - i) / SIGMA) ** 2))


def _scenes(known: Sequence[np.ndarray]) -> np.ndarray:
    """The number of the scene, between two cuts, that each of the known landmarks belongs to."""
    cuts = [0]
    for last, points in pairwise(known):
        width = min(np.ptp(last[:, 0]), np.ptp(points[:, 0]))
        cuts.append(int(np.linalg.norm(points - last, axis=1).mean() > CUT * width))
    return np.cumsum(cuts)


def _fitted(time: np.ndarray, places: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The value at time 0 of the line through n×K×2 places at n times, by weighted least squares: K×2."""
    weight = weight / weight.sum()
    middle = weight @ time
    value = np.tensordot(weight, places, 1)
    spread = weight @ (time - middle) ** 2
    if spread > 0:
        value -= middle / spread * np.tensordot(weight * (time - middle), places, 1)
    return value
