"""Known latents of images: `scores.npz` in their folder.

It holds the scores of each image, the standard normal numbers that it was drawn from, and its factors: what of them
shows, in units of the drawing.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from utils.arrays import load_npz
from utils.errors import UserError
from utils.files import atomic_path

FILE = "scores.npz"


def write_scores(
    folder: Path, names: Sequence[str], scores: NDArray, columns: Sequence[str], mirror: NDArray, factors: NDArray
) -> None:
    """Write the scores (N×S) and factors (N×F) of a folder's images.

    columns: what each of the S scores is of; mirror: the signs (S, 1 or -1) that they take in a mirrored image.
    """
    with atomic_path(folder / FILE) as temporary:
        np.savez(
            temporary, names=np.array(names), scores=scores.astype(np.float32), columns=np.array(columns),
            mirror=mirror.astype(np.float32), factors=factors.astype(np.float32),
        )  # fmt: skip


class Scores:
    """The scores of a folder's images as a generator's z."""

    def __init__(self, folder: str | Path, dim: int) -> None:
        """`dim`: of z. Raises UserError if the file is missing or damaged, or has too many numbers for z."""
        path = Path(folder) / FILE
        if not path.is_file():
            raise UserError(f"{path} does not exist; it must hold the scores that the images were drawn from")
        advice = "scripts/make_people.py writes such files"
        arrays = load_npz(path, ("names", "scores", "columns", "mirror", "factors"), advice)
        names, scores, columns, mirror, factors = arrays.values()
        rows = factors.shape[:1] if factors.ndim == 2 else None
        if (*names.shape, *columns.shape) != scores.shape or mirror.shape != columns.shape or rows != names.shape:
            shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
            raise UserError(f"{path} holds {shapes}, which do not belong together; {advice}")
        finite = all(array.dtype == np.float32 and np.isfinite(array).all() for array in (scores, factors))
        if not finite or not np.isin(mirror, (-1, 1)).all():
            raise UserError(f"{path}: its scores and factors must be finite float32, its signs 1 or -1; {advice}")
        count = scores.shape[1]
        if count >= dim:
            raise UserError(f"{path} has {count} scores an image; generator.style_dim, which is {dim}, must be larger")
        self.path, self.dim = path, dim
        self.columns = [str(column) for column in columns]
        self._rows = {str(name): row for row, name in enumerate(names)}
        self._scores, self._mirror = torch.from_numpy(scores), torch.from_numpy(mirror.astype(np.float32))
        deviation = factors.std(axis=0)
        self._factors = torch.from_numpy((factors - factors.mean(axis=0)) / np.where(deviation > 0, deviation, 1))

    def latents(self, names: Sequence[str], flipped: Tensor) -> Tensor:
        """z B×dim of images; `flipped` (B, bool) are mirrored. Uses the global random generator.

        The numbers that the scores leave free are random, so that a generator learns to do without them. Raises
        UserError for an image without scores.
        """
        missing = [name for name in names if name not in self._rows]
        if missing:
            raise UserError(f"{self.path} has no scores of {missing[0]}; draw the images and the file together")
        scores = self._scores[[self._rows[name] for name in names]]
        scores = torch.where(flipped[:, None], scores * self._mirror, scores)
        return on_sphere(scores, torch.randn(len(scores), self.dim - scores.shape[1]))

    @property
    def n_factors(self) -> int:
        return self._factors.shape[1]

    def draw(self, count: int, random: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """z count×dim of random images, not mirrored, and their factors count×F, of mean 0 and deviation 1."""
        rows = torch.randint(len(self._scores), (count,), generator=random)
        free = torch.randn(count, self.dim - len(self.columns), generator=random)
        return on_sphere(self._scores[rows], free), self._factors[rows]


def on_sphere(scores: Tensor, free: Tensor) -> Tensor:
    """z of length √D from scores B×S and the direction of the D − S free numbers, B×D.

    A generator normalises z; the free numbers are scaled so that this does not change the scores.
    """
    dim = scores.shape[1] + free.shape[1]
    length = (dim - scores.square().sum(dim=1, keepdim=True)).clamp(min=1e-3).sqrt()
    z = torch.cat([scores, free / free.norm(dim=1, keepdim=True) * length], dim=1)
    return z * (dim**0.5 / z.norm(dim=1, keepdim=True))
