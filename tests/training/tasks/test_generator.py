"""Training of a generator: its losses against their formulas, one step, and runs that are stopped and killed."""

import copy
import math
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from arguments.domain import GeneratorConfig, load_domain
from arguments.loader import load_options
from arguments.loop_options import GeneratorTrainConfig
from models.stylegan2.generator import Generator
from models.weights import load_discriminator, load_generator, read
from runners.training_runner import train_network
from training.distributed import Process
from training.loggers import read_stats
from training.loop import Plan, TrainingLoop
from training.tasks.generator import GeneratorTask, PathLength, mixed_w
from utils.errors import UserError
from utils.images import save_image, to_image

ROOT = Path(__file__).resolve().parents[3]
TINY = GeneratorConfig(16, 8, 2, {4: 8, 8: 8, 16: 8})
CPU = torch.device("cpu")


@pytest.fixture
def options(tmp_path: Path) -> list[str]:
    """A config file of a tiny domain, and six images."""
    domain = {
        "name": "tiny", "encoder_size": 16, "mirror": False, "weights": {},
        "generator": {"size": 16, "style_dim": 8, "n_mlp": 2, "channels": {4: 8, 8: 8, 16: 8}},
    }  # fmt: skip
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(domain))
    random = np.random.default_rng(0)
    for i in range(6):
        save_image(Image.fromarray(random.integers(0, 256, (16, 16, 3), np.uint8)), tmp_path / "images" / f"{i}.png")
    config = {
        "exp": {"domain": str(tmp_path / "tiny.yaml"), "exp_dir": str(tmp_path), "name": "run"},
        "data": {"train_dir": str(tmp_path / "images")},
        "train": {
            "device": "cpu", "batch_size": 4, "r1_every": 2, "path_length_every": 3, "log_step": 2,
            "checkpoint_minutes": 0, "keep_checkpoints": 3,
        },
    }  # fmt: skip
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    return [f"exp.config_dir={tmp_path}", "exp.config=config.yaml"]


def train(options: list[str], *more: str) -> Path:
    return train_network(load_options(GeneratorTrainConfig, [*options, *more]), GeneratorTask)


def task_of(options: list[str], *more: str) -> GeneratorTask:
    config = load_options(GeneratorTrainConfig, [*options, *more])
    torch.manual_seed(0)
    return GeneratorTask(config, load_domain(config.exp.domain), Process(CPU))


def loop_of(task: GeneratorTask, folder: Path) -> TrainingLoop:
    return TrainingLoop(task, Plan(1000, 1, 1, 1), Process(CPU), folder)


def test_noise_is_drawn_for_every_image_in_train_mode_only():
    torch.manual_seed(0)
    generator = Generator(TINY).train()
    for conv in (generator.conv1, *generator.convs):
        conv.noise.weight.data.fill_(0.5)
    styles = generator.affine(torch.zeros(2, TINY.n_styles, TINY.style_dim))
    first, second = generator(styles), generator(styles)
    assert not torch.allclose(first[0], first[1]) and not torch.allclose(first, second)
    generator.eval()
    fixed = generator(styles)
    assert torch.equal(fixed, generator(styles)) and torch.allclose(fixed[0], fixed[1])


def test_mixing_changes_w_at_one_layer():
    torch.manual_seed(0)
    generator = Generator(TINY)
    with torch.no_grad():
        one, two = (mixed_w(generator, 64, mixing, CPU) for mixing in (0.0, 1.0))
    assert torch.equal(one, one[:, :1].expand_as(one))
    changes = (two[:, 1:] != two[:, :-1]).any(dim=2).sum(dim=1)
    assert (changes == 1).all()
    assert len(torch.unique((two[:, 1:] != two[:, :-1]).any(dim=2), dim=0)) == TINY.n_styles - 1  # at every layer
    assert len(torch.unique(one[:, 0], dim=0)) == 64


def test_path_length_is_that_of_a_linear_map():
    """For images A·w the gradient of ⟨A·w, noise⟩ by w is Aᵀ·noise, for any w."""
    a = torch.randn(5, 3 * 4 * 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    w = torch.randn(6, 2, 5, requires_grad=True)  # two styles; the image reads their sum
    images = (w.sum(dim=1) @ a).reshape(6, 3, 4, 4)
    penalty = PathLength(CPU)
    torch.manual_seed(3)
    value = penalty(images, w)
    torch.manual_seed(3)
    lengths = (torch.randn(6, 48) / 4 @ a.T).norm(dim=1)
    assert math.isclose(float(penalty.mean), 0.01 * lengths.mean().item(), rel_tol=1e-5)
    assert torch.allclose(value, (lengths - penalty.mean).square().mean(), rtol=1e-5)
    value.backward()  # it can be learned from
    assert a.grad is not None and a.grad.abs().max() > 0


def test_one_step_moves_both_networks_and_the_average(options: list[str], tmp_path: Path):
    task = task_of(options, "train.ema=0.9", "train.r1_every=1", "train.path_length_every=1")
    loop, average = loop_of(task, tmp_path), task.ema.network
    before = copy.deepcopy((task.generator, task.discriminator, average))
    values = loop.update(1, task.gradients(1))
    assert set(values) == {
        "generator", "path_length", "discriminator", "real_logit", "fake_logit", "r1", "generator_grad_norm",
        "disc_grad_norm",
    }  # fmt: skip
    for network, old in zip((task.generator, task.discriminator), before, strict=False):
        still = [k for (k, p), q in zip(network.named_parameters(), old.parameters(), strict=True) if torch.equal(p, q)]
        assert not still
    for mean, old, new in zip(average.parameters(), before[2].parameters(), task.generator.parameters(), strict=True):
        assert torch.allclose(mean, 0.9 * old + 0.1 * new, atol=1e-6)
    assert all(p.grad is None for network in (task.generator, task.discriminator) for p in network.parameters())


def test_noise_can_be_left_out(options: list[str], tmp_path: Path):
    task = task_of(options, "train.noise=False", "train.ema=0")
    loop_of(task, tmp_path).step(1)
    average = task.ema.network
    assert all(float(conv.noise.weight) == 0 for conv in (average.conv1, *average.convs))


def test_it_learns_what_images_look_like(options: list[str], tmp_path: Path):
    """All real images are of one colour; after some steps the generator's are near it."""
    torch.manual_seed(0)
    colour = torch.tensor([0.6, -0.4, 0.1])[:, None, None]
    for i in range(32):
        save_image(to_image(colour + 0.02 * torch.randn(3, 16, 16)), tmp_path / "colour" / f"{i}.png")
    task = task_of(
        options, "train.ema=0.9", "train.r1_every=4", "train.path_length=0", "train.batch_size=8",
        f"data.train_dir={tmp_path / 'colour'}",
    )  # fmt: skip
    loop = loop_of(task, tmp_path)

    def error() -> float:
        with torch.no_grad():
            w = mixed_w(task.ema.network, 16, 0, CPU)
            return float((task.ema.network(task.ema.network.affine(w)) - colour).square().mean())

    before = error()
    for step in range(1, 121):
        loop.step(step)
    assert error() < 0.05 < before


def test_a_resumed_run_equals_an_unbroken_one(options: list[str]):
    options = [*options, "train.checkpoint_minutes=60"]  # at the end only
    whole = train(options, "train.steps=7", "exp.name=whole")
    parts = [train(options, f"train.steps={steps}", "exp.name=parts") for steps in (2, 5, 7)]
    one, other = (_leaves(read(folder / "iteration_7.pt")) for folder in (whole, parts[-1]))
    assert one.keys() == other.keys()
    assert not [key for key in one if not np.array_equal(one[key], other[key])]
    rows, others = (read_stats(folder / "stats.jsonl") for folder in (whole, parts[-1]))
    assert [row["step"] for row in rows] == [row["step"] for row in others] == [2, 4, 6]
    assert rows[-1]["images"] == 24 and rows[0]["generator"] == others[0]["generator"]


def test_folder_holds_what_the_domain_needs(options: list[str], tmp_path: Path):
    folder = train(options, "train.steps=3", "train.keep_checkpoints=2")
    config = load_domain(str(tmp_path / "tiny.yaml")).generator
    generator = load_generator(folder / "generators" / "step_0000003.pt", config)
    load_discriminator(folder / "iteration_3.pt", config)
    w = generator.mapping(torch.randn(20000, 8))
    assert torch.allclose(generator.latent_avg, w.mean(dim=0), atol=0.05)
    assert [path.name for path in sorted(folder.glob("iteration_*.pt"))] == [f"iteration_{i}.pt" for i in (2, 3)]
    assert len(list((folder / "generators").iterdir())) == 3
    assert Image.open(folder / "samples" / "step_0000003.png").size == (8 * 16, 8 * 16)
    assert (folder / "curves.png").exists()


def test_training_starts_from_half_the_resolution(options: list[str], tmp_path: Path):
    """Layers that both sizes have are copied, and of two checkpoints the first decides."""
    domain = yaml.safe_load((tmp_path / "tiny.yaml").read_text())
    domain["encoder_size"], domain["generator"] = 32, {**domain["generator"], "size": 32}
    domain["generator"]["channels"][32] = 8
    (tmp_path / "twice.yaml").write_text(yaml.safe_dump(domain))
    twice = f"exp.domain={tmp_path / 'twice.yaml'}"
    small = train(options, "train.steps=2", "exp.name=small")
    large = train(options, "train.steps=1", "exp.name=large", twice)
    starts = [str(small / "iteration_2.pt"), str(large / "iteration_1.pt")]
    config = load_options(GeneratorTrainConfig, [*options, twice, "exp.name=both", f"train.start_from={starts}"])
    state = GeneratorTask(config, load_domain(config.exp.domain), Process(CPU)).state
    result = state.state_dict()["state_dict"]
    first, second = (read(Path(start))["state_dict"] for start in starts)
    assert result.keys() == second.keys() and "discriminator.b32.fromrgb.weight" in result
    for key, value in result.items():
        fits = key in first and first[key].shape == value.shape
        assert torch.equal(value, (first if fits else second)[key]), key
    with pytest.raises(UserError, match="has no tensor that fits"):
        start = f"train.start_from=[{small / 'iteration_2.pt'},{small / 'iteration_2.pt'}]"
        train(options, "exp.name=again", "train.steps=1", start)


def test_run_survives_being_asked_to_stop_and_being_killed(options: list[str], tmp_path: Path):
    command = [sys.executable, "scripts/train_generator.py", *options, "train.steps=1000000"]
    folder = tmp_path / "run"
    reached = 0
    for how, code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 0)):
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 60
        while _newest(folder) <= reached and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(how)
        errors = process.communicate(timeout=60)[1]
        assert process.returncode == code, errors
        assert _newest(folder) > reached, errors
        reached = _newest(folder)
        assert ("stopped by SIGTERM" in errors) == (how == signal.SIGTERM)
    assert f"after step {reached}" in errors
    assert "resuming from" in errors


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("exp.name=''", "exp.name is empty"),
        ("train.batch_size=0", "train.batch_size is 0; wanted 1 or more"),
        ("train.mixing=1.5", "train.mixing is 1.5; wanted a number from 0 to 1"),
        ("data.train_dir=nowhere", "nowhere"),
    ],
)
def test_mistakes_give_one_line(options: list[str], option: str, words: str):
    with pytest.raises(UserError, match=words):
        train(options, option)


def test_shipped_config_is_one_of_these_options():
    config = load_options(GeneratorTrainConfig, ["exp.config=avatars_generator_train.yaml"])
    domain = load_domain(config.exp.domain)
    assert domain.generator.size == 64 and not domain.mirror
    assert sum(p.numel() for p in Generator(domain.generator).parameters()) < 3e6


def _newest(folder: Path) -> int:
    return max((int(path.stem.rpartition("_")[2]) for path in folder.glob("iteration_*.pt")), default=0)


def _leaves(value: object, name: str = "") -> dict[str, np.ndarray]:
    """Every number in nested dicts and lists."""
    if isinstance(value, dict):
        return {k: v for key, item in value.items() for k, v in _leaves(item, f"{name}.{key}").items()}
    if isinstance(value, (list, tuple)):
        return {k: v for i, item in enumerate(value) for k, v in _leaves(item, f"{name}.{i}").items()}
    return {name: np.asarray(value)}
