"""Latents of successive frames, smoothed over time."""

from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor

from models.sfe import Inversion

SHARE = 0.3  # of the new frame; noise of independent frames falls to about two fifths
MOVED = 0.1  # change of the picture, in [-1, 1], from which on a place of F is wholly the new frame's
CUT = 0.5  # mean change of the picture, in [-1, 1], from which on a frame begins another shot


class Steady:
    """Running averages of w and e4e's w, and of F where the picture stays still; what moves is each frame's own.

    An inversion given is of one frame, in the order of the video. After a cut the averages begin again.
    """

    def __init__(self) -> None:
        self._last: Inversion | None = None

    def __call__(self, inversion: Inversion) -> Inversion:
        """The same frame with averaged latents."""
        last = self._last
        if last is not None and float((inversion.image - last.image).abs().mean()) < CUT:
            w_e4e = inversion.w_e4e
            if w_e4e is not None and last.w_e4e is not None:
                w_e4e = _average(last.w_e4e, w_e4e)
            height, width = inversion.features.shape[-2:]
            change = F.adaptive_avg_pool2d(inversion.image - last.image, (height, width))
            change = change.abs().amax(dim=1, keepdim=True)
            features = last.features + (change / MOVED).clamp(SHARE, 1) * (inversion.features - last.features)
            inversion = replace(inversion, w=_average(last.w, inversion.w), features=features, w_e4e=w_e4e)
        self._last = inversion
        return inversion


def _average(last: Tensor, new: Tensor) -> Tensor:
    return last + SHARE * (new - last)
