"""A face's landmarks over the frames of a video: gaps filled, and jitter taken out of them."""

from collections.abc import Iterator, Sequence
from itertools import pairwise, repeat

import numpy as np

SIGMA = 2.0  # frames; dlib's landmarks tremble by a pixel from frame to frame, heads do not
GAP = 0.5  # seconds from the nearest frame with a face within which a face that was not found is taken to be there
CUT = 0.5  # of the face's width: what moves further from one frame to the next is another shot, or another face

_REACH = round(3 * SIGMA)  # frames on either side that count


def smooth(times: Sequence[float], found: Sequence[np.ndarray | None]) -> Iterator[np.ndarray | None]:
    """Landmarks of every frame, one after another, from those of the frames about it.

    Each is the value at the frame's time of a straight line fitted to its neighbours on both sides, which count by a
    Gauss curve of SIGMA frames: jitter falls to two fifths, and steady motion is neither slowed nor late. Where no face
    was found, it moves evenly between the frames on both sides. Nothing is smoothed over a cut.

    Args:
        times: seconds, rising.
        found: K×2 landmarks for each frame, or None.

    Yields:
        K×2 float64 for each frame; None where the nearest frame with a face is more than GAP away.
    """
    known = [np.asarray(points) for points in found if points is not None]
    if not known:
        yield from repeat(None, len(found))
        return
    time = np.asarray(times, dtype=np.float64)
    seen = time[[points is not None for points in found]]  # the times of the known ones
    nearest = np.searchsorted((seen[1:] + seen[:-1]) / 2, time)  # of each frame: which of the known ones
    shots = _shots(known)
    shot = shots[nearest]

    # A frame's own place lies between those of two known ones of its shot, at `part` of the way.
    before = np.searchsorted(seen, time, side="right").clip(1) - 1
    after = (before + 1).clip(max=len(known) - 1)
    before = np.where(shots[before] == shot, before, nearest)
    after = np.where(shots[after] == shot, after, nearest)
    gap = seen[after] - seen[before]
    part = ((time - seen[before]) / np.where(gap > 0, gap, np.inf)).clip(0, 1)

    for i, now in enumerate(time):
        if abs(seen[nearest[i]] - now) > GAP:
            yield None
            continue
        near = np.arange(max(i - _REACH, 0), min(i + _REACH + 1, len(time)))
        near = near[shot[near] == shot[i]]
        share = part[near, None, None]
        places = (1 - share) * np.stack([known[k] for k in before[near]])
        places += share * np.stack([known[k] for k in after[near]])
        yield _fitted(time[near] - now, places, np.exp(-0.5 * ((near - i) / SIGMA) ** 2))


def _shots(known: Sequence[np.ndarray]) -> np.ndarray:
    """The number of the shot that each of the known landmarks belongs to."""
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
