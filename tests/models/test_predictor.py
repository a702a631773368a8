"""The attribute predictor: what it gives, the distance in its features, and its file."""

from pathlib import Path

import pytest
import torch

from criteria.predictor_loss import PredictorLoss
from models.predictor import Predictor
from models.weights import load_predictor, save, save_as_float16, save_predictor
from utils.errors import UserError

ATTRIBUTES = {"hat": ["none", "tall"], "hair": ["black", "blond", "red"]}


@pytest.fixture
def predictor() -> Predictor:
    torch.manual_seed(0)
    return Predictor(ATTRIBUTES).eval()


def images(count: int, size: int = 64) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(count)) * 2 - 1


@torch.no_grad()
def test_it_gives_logits_for_every_value_at_any_size(predictor: Predictor) -> None:
    for size in (32, 64, 128):
        logits = predictor(images(2, size))
        assert {name: result.shape for name, result in logits.items()} == {"hat": (2, 2), "hair": (2, 3)}
    assert predictor.embedding(images(2)).shape == (2, predictor.EMBEDDING)
    assert [maps.shape[-1] for maps in predictor.features(images(1))] == [32, 16, 8, 4, 2]


def test_odds_are_those_of_the_probabilities(predictor: Predictor) -> None:
    logits = {"hair": torch.tensor([[1.0, 2.0, 0.5], [-1.0, 0.0, 3.0]])}
    share = logits["hair"].softmax(dim=1)[:, [1, 2]].sum(dim=1)
    assert torch.allclose(predictor.log_odds(logits, "hair", ["blond", "red"]), torch.logit(share), atol=1e-5)


def test_distance_is_that_of_unit_feature_vectors(predictor: Predictor, tmp_path: Path) -> None:
    save_predictor(predictor, tmp_path / "predictor.pt")
    loss, (x, y) = PredictorLoss(tmp_path / "predictor.pt"), (images(2), images(3)[:2])
    with torch.no_grad():
        expected = torch.zeros(2)
        for a, b in zip(predictor.features(x), predictor.features(y), strict=True):
            unit_a, unit_b = a / (a.norm(dim=1, keepdim=True) + 1e-6), b / (b.norm(dim=1, keepdim=True) + 1e-6)
            expected += (unit_a - unit_b).square().sum(dim=1).mean(dim=(1, 2))
        assert torch.allclose(loss.distances(x, y), expected, atol=1e-3)
        assert loss(x, x).item() == 0
    x.requires_grad_(True)
    loss(x, y).backward()
    assert x.grad is not None and x.grad.abs().max() > 0


@torch.no_grad()
def test_file_round_trip_also_as_float16(predictor: Predictor, tmp_path: Path) -> None:
    save_predictor(predictor, tmp_path / "predictor.pt")
    save_as_float16(tmp_path / "predictor.pt", tmp_path / "half.pt")
    assert (tmp_path / "half.pt").stat().st_size < 0.6 * (tmp_path / "predictor.pt").stat().st_size
    x = images(2)
    wanted = predictor(x)["hair"]
    assert torch.equal(load_predictor(tmp_path / "predictor.pt")(x)["hair"], wanted)
    half = load_predictor(tmp_path / "half.pt")
    assert half.attributes == ATTRIBUTES and half.head.weight.dtype == torch.float32
    assert torch.allclose(half(x)["hair"], wanted, atol=0.02)


def test_wrong_files_give_one_line(predictor: Predictor, tmp_path: Path) -> None:
    save({"state_dict": predictor.state_dict()}, tmp_path / "other.pt")
    with pytest.raises(UserError, match="has no 'attributes'"):
        load_predictor(tmp_path / "other.pt")
    save({"attributes": {"hat": ["none"]}, "state_dict": predictor.state_dict()}, tmp_path / "fewer.pt")
    with pytest.raises(UserError, match=r"'head.weight' has shape \(5, 128\)"):
        load_predictor(tmp_path / "fewer.pt")
    with pytest.raises(UserError, match="holds no network called nothing"):
        save_as_float16(tmp_path / "other.pt", tmp_path / "none.pt", "nothing.")
    assert not (tmp_path / "none.pt").exists()
