"""scores.npz: what is written is read, and damaged or hostile files are refused."""

from pathlib import Path

import numpy as np
import pytest
import torch

from datasets.scores import FILE, Scores, write_scores
from utils.errors import UserError

NAMES, COLUMNS = ["a.png", "b.png", "c.png"], ["age", "yaw"]
VALUES = np.array([[0.5, -1.0], [0.1, 2.0], [-0.3, 0.2]])
MIRROR = np.array([1, -1])
FACTORS = np.array([[20.0, 1, 5], [40, 0, 5], [60, 2, 5]])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_scores(tmp_path, NAMES, VALUES, COLUMNS, MIRROR, FACTORS)
    return tmp_path


def test_the_z_of_a_generator_keeps_the_scores(folder: Path):
    """z has length √D, so that normalising it leaves the scores; those of a mirrored image have its signs."""
    scores = Scores(folder, 16)
    z = scores.latents(["c.png", "a.png", "a.png"], torch.tensor([False, False, True]))
    assert z.shape == (3, 16) and torch.allclose(z.square().sum(dim=1), torch.full((3,), 16.0), rtol=1e-5)
    wanted = torch.tensor([[-0.3, 0.2], [0.5, -1.0], [0.5, 1.0]])
    assert torch.allclose(z[:, :2], wanted, atol=1e-5)
    assert not torch.allclose(z[1, 2:], z[2, 2:])  # what the scores leave free is random
    assert scores.columns == COLUMNS


def test_factors_are_standardised_and_belong_to_their_scores(folder: Path):
    scores = Scores(folder, 16)
    z, factors = scores.draw(300)
    assert scores.n_factors == 3 and z.shape == (300, 16) and factors.shape == (300, 3)
    for row, value in enumerate((-(1.5**0.5), 0.0, 1.5**0.5)):  # 20, 40 and 60 in deviations
        drawn = (z[:, :2] - torch.from_numpy(VALUES[row])).abs().amax(dim=1) < 1e-4
        assert 60 < drawn.sum() < 140 and torch.allclose(factors[drawn, 0], torch.tensor(value), atol=1e-5)
    assert not factors[:, 2].any()  # the same in all images


def test_images_without_scores_are_refused(folder: Path):
    with pytest.raises(UserError, match=r"has no scores of d\.png"):
        Scores(folder, 16).latents(["a.png", "d.png"], torch.zeros(2, dtype=torch.bool))


def test_mistakes_give_one_line(folder: Path, tmp_path: Path):
    with pytest.raises(UserError, match="style_dim, which is 2, must be larger"):
        Scores(folder, 2)
    with pytest.raises(UserError, match=r"scores\.npz does not exist"):
        Scores(tmp_path / "nowhere", 16)


def arrays(**changes: np.ndarray) -> dict[str, np.ndarray]:
    plain = {
        "names": np.array(NAMES), "scores": VALUES.astype(np.float32), "columns": np.array(COLUMNS),
        "mirror": MIRROR.astype(np.float32), "factors": FACTORS.astype(np.float32),
    }  # fmt: skip
    return plain | changes


class Pickled:
    """Leaves a mark if it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize(
    "changes",
    [
        {"names": np.array(NAMES[:2])}, {"mirror": np.ones(3, np.float32)}, {"scores": np.zeros(3, np.float32)},
        {"scores": np.full((3, 2), np.nan, np.float32)}, {"mirror": np.array([1, 7], np.float32)},
        {"scores": np.array([["a", "b"]] * 3)}, {"names": np.zeros((3, 1))}, {"factors": np.zeros(3, np.float32)},
        {"factors": np.zeros((2, 3), np.float32)}, {"factors": np.full((3, 2), np.inf, np.float32)},
    ],
    ids=lambda changes: next(f"{name}-{array.dtype}-{array.shape}" for name, array in changes.items()),
)  # fmt: skip
def test_arrays_that_do_not_fit_are_refused(tmp_path: Path, changes: dict[str, np.ndarray]):
    np.savez(tmp_path / FILE, **arrays(**changes))
    with pytest.raises(UserError, match=r"scores\.npz"):
        Scores(tmp_path, 16)


def test_damaged_and_hostile_files_are_refused(folder: Path, tmp_path: Path):
    path, mark = folder / FILE, tmp_path / "mark"
    whole = path.read_bytes()

    def refused() -> None:
        with pytest.raises(UserError, match=r"scores\.npz is damaged"):
            Scores(folder, 16)

    for content in (b"", b"no zip", whole[: len(whole) // 2], whole.replace(b"(3, 2)", b"(3, 9)")):
        path.write_bytes(content)
        refused()
    np.savez(path, **arrays(names=np.array([Pickled(mark)] * 3, dtype=object)))
    refused()
    assert not mark.exists()
    np.savez_compressed(path, **arrays(scores=np.zeros((3, 2_000_000), np.float32)))  # 24 MB in some kB
    refused()
    huge = whole.replace(b"(3, 2), }", b"(9999999999, 2), }")
    path.write_bytes(huge)
    refused()
    missing = {name: array for name, array in arrays().items() if name != "mirror"}
    np.savez(path, **missing)
    refused()
