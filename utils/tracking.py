"""A face's landmarks over the frames of a video: gaps filled, and jitter taken out of them."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

SIGMA = 2.0  # frames; dlib's landmarks tremble by a pixel from frame to frame, heads do not
GAP = 0.5  # seconds from the nearest frame with a face within which a face that was not found is taken to be there
CUT = 0.5  # of the face's width: what moves further from one frame to the next is another shot, or another face


def smooth(times: Sequence[float], found: Sequence[np.ndarray | None]) -> list[np.ndarray | None]:
    """Landmarks of every frame, from those of the frames about it.

    Each is the value at the frame's time of a straight line fitted to its neighbours on both sides, which count by a
    Gauss curve of SIGMA frames: jitter falls to two fifths, and steady motion is neither slowed nor late. Where no face
    was found, it moves evenly between the frames on both sides. Nothing is smoothed over a cut.

    Args:
        times: seconds, rising.
        found: K×2 landmarks for each frame, or None.

    Returns:
        K×2 float64 for each frame; None where the nearest frame with a face is more than GAP away.
    """
    results: list[np.ndarray | None] = [None] * len(found)
    time = np.asarray(times, dtype=np.float64)
    faces = [points for points in found if points is not None]
    if not faces:
        return results
    known = np.stack(faces).astype(np.float64)  # n×K×2
    seen = time[[points is not None for points in found]]  # n
    nearest = np.searchsorted((seen[1:] + seen[:-1]) / 2, time)  # of each frame: which of the n
    for first, last in _shots(known):
        frames = np.flatnonzero((nearest >= first) & (nearest < last))
        columns = known[first:last].reshape(last - first, -1).T
        filled = np.stack([np.interp(time[frames], seen[first:last], column) for column in columns], axis=1)
        for number, points in zip(frames, _fitted(time[frames], filled), strict=True):
            if abs(seen[nearest[number]] - time[number]) <= GAP:
                results[number] = points.reshape(known.shape[1:])
    return results


def _shots(landmarks: np.ndarray) -> list[tuple[int, int]]:
    """Ranges (first, last + 1) of the n×K×2 landmarks that have no cut in them."""
    moves = np.linalg.norm(np.diff(landmarks, axis=0), axis=2).mean(axis=1)
    widths = np.ptp(landmarks[..., 0], axis=1)
    cuts = np.flatnonzero(moves > CUT * np.minimum(widths[1:], widths[:-1])) + 1
    edges = [0, *cuts.tolist(), len(landmarks)]
    return list(pairwise(edges))


def _fitted(time: np.ndarray, values: np.ndarray) -> np.ndarray:
    """At each of n times, the locally fitted straight line through the values about it: n×D."""
    reach = round(3 * SIGMA)
    smoothed = np.empty_like(values)
    for i in range(len(time)):
        near = slice(max(i - reach, 0), i + reach + 1)
        weight = np.exp(-0.5 * ((np.arange(near.start, min(near.stop, len(time))) - i) / SIGMA) ** 2)
        weight /= weight.sum()
        away = time[near] - weight @ time[near]
        spread = weight @ away**2
        slope = (weight * away) @ values[near] / spread if spread > 0 else 0.0
        smoothed[i] = weight @ values[near] + slope * (time[i] - weight @ time[near])
    return smoothed
