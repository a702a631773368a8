"""The generator's training from images of known scores: it learns, grows from few pixels, and goes on exactly."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor

from arguments.domain import load_domain
from arguments.loader import load_options
from arguments.loop_options import GeneratorTrainConfig
from datasets.scores import FILE, write_scores
from models.weights import read
from runners.training_runner import train_network
from training.distributed import Process
from training.loggers import read_stats
from training.loop import Plan, TrainingLoop
from training.tasks.generator import GeneratorTask, paired_distance
from utils.errors import UserError
from utils.images import save_image

CPU = torch.device("cpu")
IMAGES = 16


def draw(score: np.ndarray) -> Image.Image:
    """16×16: a bright bar whose place says the first score, on a colour that says the second; mirrored by the signs."""
    pixels = np.full((16, 16, 3), 40, np.uint8)
    pixels[..., 2] = int(np.clip(128 + 80 * score[1], 0, 255))
    middle = 8 + round(np.clip(4 * score[0], -5, 5))
    pixels[:, middle - 3 : middle + 3] = (230, 200, 40)
    return Image.fromarray(pixels)


@pytest.fixture
def options(tmp_path: Path) -> list[str]:
    """A tiny domain, and images with the scores that they were drawn from."""
    domain = {
        "name": "tiny", "encoder_size": 16, "weights": {},
        "generator": {"size": 16, "style_dim": 8, "n_mlp": 2, "channels": {4: 16, 8: 16, 16: 16}},
    }  # fmt: skip
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(domain))
    scores, names = np.random.default_rng(0).standard_normal((IMAGES, 2)), [f"{i}.png" for i in range(IMAGES)]
    for name, score in zip(names, scores, strict=True):
        save_image(draw(score), tmp_path / "images" / name)
    factors = np.stack([scores[:, 0] > 0, scores[:, 1]], axis=1)
    write_scores(tmp_path / "images", names, scores, ["place", "colour"], np.array([-1, 1]), factors)
    config = {
        "exp": {"domain": str(tmp_path / "tiny.yaml"), "exp_dir": str(tmp_path), "name": "run"},
        "data": {"train_dir": str(tmp_path / "images")},
        "train": {
            "device": "cpu", "batch_size": 8, "lr": 0.01, "ema": 0.9, "paired": 1, "adversarial": 0, "noise": False,
            "log_step": 1, "checkpoint_minutes": 60,
        },
    }  # fmt: skip
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    return [f"exp.config_dir={tmp_path}", "exp.config=config.yaml"]


def task_of(options: list[str], *more: str) -> GeneratorTask:
    config = load_options(GeneratorTrainConfig, [*options, *more])
    torch.manual_seed(0)
    return GeneratorTask(config, load_domain(config.exp.domain), Process(CPU))


def train(options: list[str], *more: str) -> Path:
    return train_network(load_options(GeneratorTrainConfig, [*options, *more]), GeneratorTask)


def test_distance_is_that_of_its_formula():
    """L1, 0.7 of that of the differences along each axis, 0.5 of that at half the size."""
    fake, real = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16)
    off = fake - real
    wanted = off.abs().mean()
    wanted = wanted + 0.7 * (
        (off[..., 1:] - off[..., :-1]).abs().mean() + (off[..., 1:, :] - off[..., :-1, :]).abs().mean()
    )
    small = off.reshape(2, 3, 8, 2, 8, 2).mean(dim=(3, 5))
    assert torch.allclose(paired_distance(fake, real), wanted + 0.5 * small.abs().mean(), rtol=1e-5)
    assert paired_distance(real, real) == 0


def test_the_middle_counts_more() -> None:
    real = torch.zeros(1, 3, 32, 32)
    corner, middle = real.clone(), real.clone()
    corner[..., :4, :4], middle[..., 14:18, 14:18] = 1, 1
    assert paired_distance(middle, real, 2) > 1.4 * paired_distance(corner, real, 2)
    assert torch.allclose(paired_distance(corner, real, 2), paired_distance(corner, real), rtol=0.1)


def test_it_learns_which_scores_give_which_image(options: list[str], tmp_path: Path):
    task = task_of(options, "train.mapping_lr=100")
    loop = TrainingLoop(task, Plan(1000, 1, 1, 1), Process(CPU), tmp_path)
    losses = []
    for step in range(1, 161):
        values = loop.update(step, task.gradients(step))
        losses.append(float(values["paired"]))
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:10])
    average, scores = task.ema.network, task.scores
    names = [f"{i}.png" for i in range(IMAGES)]
    with torch.no_grad():
        w = average.mapping(scores.latents(names, torch.zeros(IMAGES, dtype=torch.bool)))[:, None]
        made = average(average.affine(w.expand(-1, average.config.n_styles, -1)))
    real = torch.stack([torch.from_numpy(np.array(Image.open(tmp_path / "images" / n))) for n in names])
    real = real.permute(0, 3, 1, 2) / 127.5 - 1
    distances = (made[:, None] - real[None]).abs().mean(dim=(2, 3, 4))
    own, others = distances.diagonal().mean(), distances.mean()
    assert own < 0.6 * others  # scores of other images give a ratio of 1


def test_the_mapping_begins_with_the_factors_in_w(options: list[str], tmp_path: Path):
    """A step at one score, and another score: w holds both by linear maps, and styles are 1 at the mean."""
    more = ("train.mapping_steps=1500", "train.factors=1", "train.lr=0.00001")
    task = task_of(options, *more)
    z, factors = task.scores.draw(2000)

    def unexplained() -> Tensor:
        with torch.no_grad():
            w = torch.cat([task.ema.network.mapping(z), torch.ones(len(z), 1)], dim=1)
        return (w @ torch.linalg.lstsq(w, factors).solution - factors).square().mean(dim=0)

    assert unexplained().max() > 0.1
    loop = TrainingLoop(task, Plan(1000, 1, 1, 1), Process(CPU), tmp_path)
    assert "factors" in loop.update(1, task.gradients(1))
    assert unexplained().max() < 0.02
    styles = task.generator.affine(task.generator.mapping(z)[:, None].expand(-1, task.generator.config.n_styles, -1))
    for style in styles:
        assert torch.allclose(style.mean(dim=0), torch.ones(style.shape[1]), atol=0.05)
    mapped, again = task.ema.network.mapping(z), task_of(options, *more)
    torch.manual_seed(9)  # the fit has random numbers of its own, which every process of a training draws alike
    TrainingLoop(again, Plan(1000, 1, 1, 1), Process(CPU), tmp_path).update(1, again.gradients(1))
    assert torch.allclose(mapped, again.ema.network.mapping(z), atol=1e-3)


def test_w_too_small_for_the_factors_is_refused(options: list[str], tmp_path: Path):
    names, scores = [f"{i}.png" for i in range(IMAGES)], np.random.default_rng(0).standard_normal((IMAGES, 2))
    write_scores(tmp_path / "images", names, scores, ["place", "colour"], np.array([-1, 1]), np.tile(scores, 3))
    with pytest.raises(UserError, match=r"6 factors; generator\.style_dim, which is 8, must be 12"):
        task_of(options, "train.mapping_steps=1").gradients(1)


def test_sizes_grow_and_batches_shrink(options: list[str]):
    task = task_of(options, "train.sizes={4: 2, 8: 3}")
    seen = []
    learn = task.generator.trunk

    def trunk(styles: object, layer: int) -> object:
        features, image = learn(styles, layer)
        seen.append(tuple(image.shape))
        return features, image

    task.generator.trunk = trunk  # looks on; the arithmetic is the network's
    for step in (1, 2, 3, 4, 5):
        assert set(task.gradients(step)) == {"paired"}
    assert seen == [(32, 3, 4, 4), (32, 3, 4, 4), (16, 3, 8, 8), (8, 3, 16, 16), (8, 3, 16, 16)]


def test_both_losses_at_the_full_size_only(options: list[str]):
    task = task_of(options, "train.sizes={8: 1}", "train.adversarial=1")
    assert set(task.gradients(1)) == {"paired"}
    assert {"paired", "generator", "discriminator"} <= set(task.gradients(2))


def test_a_resumed_run_equals_an_unbroken_one(options: list[str]):
    """Across a change of size, where batches change, too."""
    options = [*options, "train.sizes={8: 2}"]
    whole = train(options, "train.steps=5", "exp.name=whole")
    parts = [train(options, f"train.steps={steps}", "exp.name=parts") for steps in (1, 3, 5)]
    one, other = (read(folder / "iteration_5.pt")["state_dict"] for folder in (whole, parts[-1]))
    assert one.keys() == other.keys()
    assert not [name for name, value in one.items() if not torch.equal(value, other[name])]
    rows, others = (read_stats(folder / "stats.jsonl") for folder in (whole, parts[-1]))
    assert [row["paired"] for row in rows] == [row["paired"] for row in others] and len(rows) == 5


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("train.paired=0", "train.paired and train.adversarial are 0"),
        ("data.train_dir=nowhere", "nowhere"),
        ("train.sizes={12: 5}", "train.sizes names 12 px; the generator has 4, 8"),
        ("train.sizes={16: 5}", "train.sizes names 16 px"),
        ("train.sizes={4: 5, 8: 3}", "last steps of 1 or more that grow"),
        ("train.paired=-1", "train.paired is -1"),
        ("train.lr_decay=linear", "train.lr_decay is 'linear'"),
        ("train.adversarial=-1", "train.adversarial is -1"),
    ],
)
def test_mistakes_give_one_line(options: list[str], option: str, words: str):
    with pytest.raises(UserError, match=words):
        train(options, "train.steps=1", option)


def test_images_without_scores_are_refused(options: list[str], tmp_path: Path):
    (tmp_path / "images" / FILE).unlink()
    with pytest.raises(UserError, match=r"scores\.npz does not exist"):
        train(options, "train.steps=1")


def test_learning_rates_are_those_of_the_options_also_after_resuming(options: list[str], tmp_path: Path):
    def rates(task: GeneratorTask, step: int) -> list[float]:
        task.gradients(step)
        return [group["lr"] for group in task.state.optimizers["generator_opt"].param_groups]

    folder = train(options, "train.steps=2")
    task = task_of(options, "train.steps=8", "train.lr=0.004", "train.mapping_lr=10", "train.lr_decay=cosine")
    TrainingLoop(task, Plan(8, 1, 1, 1), Process(CPU), folder).resume(sorted(folder.glob("iteration_*.pt")))
    assert rates(task, 4) == pytest.approx([0.002, 0.02])
    assert rates(task, 8) == pytest.approx([0, 0])
