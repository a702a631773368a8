"""Known latents of images: `scores.npz` in their folder, the standard normal numbers that each was drawn from."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from utils.errors import UserError
from utils.files import atomic_path

FILE = "scores.npz"


def write_scores(folder: Path, names: Sequence[str], scores: NDArray, mirror: NDArray) -> None:
    """Write the scores (N×S) of a folder's images; `mirror` (S, 1 or -1) are the signs of a mirrored image's."""
    with atomic_path(folder / FILE) as temporary:
        np.savez(temporary, names=np.array(names), scores=scores.astype(np.float32), mirror=mirror.astype(np.float32))


class Scores:
    """The scores of a folder's images as a generator's z."""

    def __init__(self, folder: str | Path, dim: int) -> None:
        """`dim`: of z. Raises UserError if the file is missing or damaged, or has more numbers than z."""
        path = Path(folder) / FILE
        if not path.is_file():
            raise UserError(f"{path} does not exist; train.paired needs the scores that images were drawn from")
        try:
            with np.load(path) as arrays:
                names, scores, mirror = arrays["names"], arrays["scores"], arrays["mirror"]
            rows, count = scores.shape
            if names.shape != (rows,) or mirror.shape != (count,):
                raise ValueError(f"shapes {names.shape}, {scores.shape}, {mirror.shape}")
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise UserError(f"{path} is damaged ({error}); scripts/make_people.py writes it") from error
        if count >= dim:
            raise UserError(
                f"{path} has {count} scores an image; the domain's generator.style_dim, {dim}, must be larger"
            )
        self.path, self.dim = path, dim
        self._rows = {str(name): row for row, name in enumerate(names)}
        self._scores, self._mirror = torch.from_numpy(scores), torch.from_numpy(mirror)

    def latents(self, names: Sequence[str], flipped: Tensor) -> Tensor:
        """z B×dim of images, of length √dim; `flipped` (B, bool) are mirrored. Uses the global random generator.

        The numbers that the scores leave free are random, so that a generator learns to do without them; their length
        makes up for the scores', since a generator normalises z. Raises UserError for an image without scores.
        """
        missing = [name for name in names if name not in self._rows]
        if missing:
            raise UserError(f"{self.path} has no scores of {missing[0]}; draw the images and the file together")
        scores = self._scores[[self._rows[name] for name in names]]
        scores = torch.where(flipped[:, None], scores * self._mirror, scores)
        free = torch.randn(len(scores), self.dim - scores.shape[1])
        length = (self.dim - scores.square().sum(dim=1, keepdim=True)).clamp(min=1e-3).sqrt()
        z = torch.cat([scores, free / free.norm(dim=1, keepdim=True) * length], dim=1)
        return z * (self.dim**0.5 / z.norm(dim=1, keepdim=True))
