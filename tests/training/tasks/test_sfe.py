"""One step: which network learns when, from how many batches, and in which precision."""

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from training_toy import EDITS, TrainingToy, shared_toy

from arguments.train_options import TrainArgs
from datasets.images import ImageFolder
from datasets.training_images import Batch, TrainingImages
from metrics.metric_set import MetricSet
from models.weights import load_e4e, load_inverter, read, save
from runners.training_runner import TrainingRunner
from training.distributed import Process
from training.loggers import read_stats
from training.loop import Plan, TrainingLoop
from training.losses import LossBuilder
from training.parts import build_discriminator, build_optimizer, build_stage
from training.stages import EditorStage
from training.tasks.sfe import SFETask
from utils.errors import UserError

CPU = torch.device("cpu")
RAMP = TrainArgs().feature_ramp


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> TrainingToy:
    return shared_toy(tmp_path_factory.getbasetemp())


class Learner:
    """A stage in its loop."""

    def __init__(self, toy: TrainingToy, stage: int, *more: str, frozen_norms: bool = False) -> None:
        config = toy.config(stage, "x", *more)
        torch.manual_seed(0)
        self.stage = build_stage(config, toy.domain, CPU)
        if frozen_norms:
            for module in self.stage.encoder.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        self.discriminator = build_discriminator(config, toy.domain, CPU)
        losses = LossBuilder(config.encoder_losses, config.disc_losses, toy.domain.encoder_size, CPU)
        self.optimizer = build_optimizer("ranger", self.stage.encoder.parameters(), config.optimizers)
        self.disc_optimizer = build_optimizer("adam", self.discriminator.parameters(), config.optimizers)
        images = TrainingImages(toy.images, toy.domain.generator.size, seed=1, workers=0)
        self.task = SFETask(
            config, Process(CPU), self.stage, self.optimizer, self.discriminator, self.disc_optimizer, losses, images,
            None, None,
        )  # fmt: skip
        plan = Plan(config.train.steps, 1, 1, 1, clip_grad_norm=config.train.clip_grad_norm)
        self.loop = TrainingLoop(self.task, plan, Process(CPU), toy.experiments)

    def step(self, step: int, batches: list[Batch], adversarial: bool) -> dict[str, float]:
        return self.loop.update(step, self.task.learn(step, batches, adversarial))


def draw(toy: TrainingToy, count: int, size: int) -> list[Batch]:
    images = TrainingImages(toy.images, toy.domain.generator.size, seed=1, workers=0)
    return [images.next_batch(size) for _ in range(count)]


def weights(module: nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in module.parameters()]


def changed(module: nn.Module, before: Sequence[torch.Tensor]) -> bool:
    return any(not torch.equal(a, b) for a, b in zip(weights(module), before, strict=True))


def test_the_discriminator_learns_in_its_phase_only(toy: TrainingToy) -> None:
    learner = Learner(toy, 1)
    encoder, disc = learner.stage.encoder, learner.discriminator
    before = weights(encoder), weights(disc)
    values = learner.step(1, draw(toy, 1, 4), adversarial=False)
    assert set(values) == {"l2", "feat_rec", "total", "encoder_grad_norm"}
    assert changed(encoder, before[0]) and not changed(disc, before[1])
    values = learner.step(15, draw(toy, 1, 4), adversarial=True)
    assert set(values) == {
        "l2", "feat_rec", "adv", "total", "disc_main", "disc_total", "encoder_grad_norm", "disc_grad_norm"
    }  # fmt: skip
    assert changed(disc, before[1])
    assert "disc_r1" in learner.step(16, draw(toy, 1, 4), adversarial=True)


def test_each_loss_reaches_its_own_network_only(toy: TrainingToy) -> None:
    learner = Learner(toy, 1)
    (batch,) = draw(toy, 1, 4)
    learner.task.learn(16, [batch], adversarial=True)
    stage, disc, losses = learner.stage, learner.discriminator, learner.task.losses
    real = batch.images(CPU)
    pairs = stage(real, 16)
    of_encoder = losses.encoder(pairs, disc(pairs.generator_fakes))
    assert of_encoder.parts["adv"] > 0
    of_disc = losses.discriminator(disc, pairs.discriminator_fakes, real, 16)
    for network, loss in ((stage.encoder, of_encoder), (disc, of_disc)):
        expected = torch.autograd.grad(loss.total, list(network.parameters()), retain_graph=True)
        for parameter, gradient in zip(network.parameters(), expected, strict=True):
            assert torch.allclose(parameter.grad, gradient, rtol=1e-4, atol=1e-7)
    others = [p for p in stage.parameters() if all(p is not q for q in stage.encoder.parameters())]
    assert others and all(parameter.grad is None for parameter in others)


def test_the_discriminator_and_the_network_learn_against_each_other(toy: TrainingToy) -> None:
    learner = Learner(toy, 1, "encoder_losses.l2=0", "encoder_losses.feat_rec=0", "encoder_losses.adv=1")
    batch = draw(toy, 1, 4)

    def steps(encoder_lr: float, disc_lr: float) -> list[dict[str, float]]:
        learner.optimizer.param_groups[0]["lr"] = encoder_lr
        learner.disc_optimizer.param_groups[0]["lr"] = disc_lr
        return [learner.step(RAMP + 1 + i, batch, adversarial=True) for i in range(30)]

    values = steps(0.0, 0.01)
    assert values[-1]["disc_main"] < 0.9 * values[0]["disc_main"]
    values = steps(0.01, 0.0)
    assert values[-1]["adv"] < 0.9 * values[0]["adv"]


def test_edits_depend_on_seed_and_step_only(toy: TrainingToy) -> None:
    """Not on the global random generator, which is left alone."""
    options = ["encoder_losses.adv=0", "optimizers.ranger.lr=0.01"]
    first, second, third = (
        Learner(toy, 2, *options, f"exp.seed={seed}", frozen_norms=True) for seed in (1, 1, 3)
    )
    random.seed(0)
    values = [first.step(step, draw(toy, 2, 2), adversarial=False)["l2"] for step in range(6)]
    state = random.getstate()
    random.seed(5)
    assert [second.step(step, draw(toy, 2, 2), adversarial=False)["l2"] for step in range(6)] == values
    assert [third.step(step, draw(toy, 2, 2), adversarial=False)["l2"] for step in range(6)] != values
    random.seed(0)
    assert random.getstate() == state


def test_accumulated_batches_are_one_large_batch(toy: TrainingToy) -> None:
    """Except for BatchNorm, which reads each batch by itself."""
    learners = [Learner(toy, 1, "optimizers.adam.lr=0.01", frozen_norms=True) for _ in range(2)]
    whole = learners[0].step(15, draw(toy, 1, 8), adversarial=False)
    parts = learners[1].step(15, draw(toy, 2, 4), adversarial=False)
    assert parts == pytest.approx(whole, rel=1e-4)
    for a, b in zip(weights(learners[0].stage.encoder), weights(learners[1].stage.encoder), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("number", [1, 2])
def test_bf16_takes_nearly_the_same_step(toy: TrainingToy, number: int) -> None:
    values = {}
    for precision in ("fp32", "bf16"):
        learner = Learner(toy, number, f"train.precision={precision}")
        before = weights(learner.stage.encoder)
        values[precision] = learner.step(RAMP + 16, draw(toy, 1, 4), adversarial=True)
        assert changed(learner.stage.encoder, before)
        assert all(parameter.dtype == torch.float32 for parameter in learner.stage.encoder.parameters())
    assert values["bf16"] != values["fp32"]
    for losses in values.values():
        del losses["encoder_grad_norm"], losses["disc_grad_norm"]
    assert values["bf16"] == pytest.approx(values["fp32"], rel=0.1)


def test_a_loss_that_is_not_finite_stops_before_the_weights_change(toy: TrainingToy) -> None:
    learner = Learner(toy, 1)
    with torch.no_grad():
        learner.stage.encoder.fuser.conv.weight.fill_(float("nan"))
    before = weights(learner.stage.encoder.fs_backbone)
    with pytest.raises(UserError, match=r"step 7: a loss is not finite \(l2 nan, .*\) on \d\.png, \d\.png"):
        learner.task.batch_names = [name for batch in draw(toy, 1, 4) for name in batch.names]
        learner.step(7, draw(toy, 1, 4), adversarial=False)
    assert not changed(learner.stage.encoder.fs_backbone, before)


@pytest.fixture(scope="module")
def trained_inverter(toy: TrainingToy, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float]]:
    """Stage 1 on the 8 images and e4e's versions of them: the checkpoint, and l2 of every step."""
    learner = Learner(toy, 1, "optimizers.ranger.lr=0.01")
    (batch,) = draw(toy, 1, 8)
    with torch.no_grad():  # the target of an edit of power 0 is e4e's image itself
        e4es = Learner(toy, 2).stage(batch.images(CPU), 1, ("age", 0.0)).real[8:]
    pixels = (127.5 * (e4es.clamp(-1, 1) + 1)).round().to(torch.uint8)
    both = [Batch(torch.cat([batch.pixels, pixels]), batch.names * 2, batch.flipped.repeat(2))]
    values = [learner.step(RAMP + i, both, adversarial=False)["l2"] for i in range(200)]
    path = tmp_path_factory.mktemp("trained") / "inverter.pt"
    save({"state_dict": {f"encoder.{k}": v for k, v in learner.stage.encoder.state_dict().items()}}, path)
    return path, values


def test_stage_1_overfits_a_few_images(trained_inverter: tuple[Path, list[float]]) -> None:
    _, values = trained_inverter
    assert sum(values[-10:]) / 10 < values[0] / 10


def test_stage_2_overfits_their_edits(toy: TrainingToy, trained_inverter: tuple[Path, list[float]]) -> None:
    inverter = f"methods_args.fse_full.inverter_pth={trained_inverter[0]}"
    learner = Learner(toy, 2, inverter, "optimizers.ranger.lr=0.02")
    batch = draw(toy, 1, 8)

    @torch.no_grad()
    def editing_loss() -> float:
        """l2 of the edits against what they should be, over all directions and powers."""
        losses = []
        for name, powers in EDITS.items():
            for power in powers:
                pairs = learner.stage(batch[0].images(CPU), 1, (name, power))
                losses.append(F.mse_loss(pairs.fake[8:], pairs.real[8:]).item())
        return sum(losses) / len(losses)

    before = editing_loss()
    for i in range(120):
        learner.step(i, batch, adversarial=False)
    assert editing_loss() < before / 3


def train(toy: TrainingToy, stage: int, name: str, *more: str) -> Path:
    return TrainingRunner(toy.config(stage, name, "train.resume=auto", *more), toy.domain).run()


@pytest.mark.parametrize("number", [1, 2])
def test_activation_checkpointing_changes_no_number(toy: TrainingToy, number: int) -> None:
    values = []
    for option in ("False", "True"):
        folder = train(
            toy, number, f"recomputed_{number}_{option}", f"train.activation_checkpointing={option}", "train.steps=3"
        )
        values.append(read(folder / "iteration_3.pt")["state_dict"])
    assert values[0].keys() == values[1].keys()
    assert not [key for key, value in values[0].items() if not torch.equal(value, values[1][key])]


@pytest.mark.parametrize("number", [1, 2])
def test_a_moving_average_is_measured_exported_and_started_from(toy: TrainingToy, number: int) -> None:
    name, rate = f"averaged_{number}", "optimizers.ranger.lr=0.05"
    folder = train(toy, number, name, "train.steps=2", "train.log_step=1", rate)
    before = read(folder / "iteration_2.pt")["state_dict"]
    measured = [f"data.input_val_dir={toy.images}", "train.val_step=3"]
    train(toy, number, name, "train.steps=3", "train.ema=0.75", "train.log_step=1", rate, *measured)
    tensors = read(folder / "iteration_3.pt")["state_dict"]
    light = read(next(folder.glob("sfe_*_light.pt")))["state_dict"]
    for key, value in tensors.items():
        if key.startswith("encoder.") and value.is_floating_point():
            average = tensors[key.replace("encoder.", "ema.", 1)]
            assert torch.allclose(average, torch.lerp(before[key], value, 0.25), atol=1e-6), key
            assert torch.equal(light[key], average)
    assert any(not torch.equal(light[key], tensors[key]) for key in light if key.startswith("encoder."))

    option = f"model.checkpoint_path={folder / 'iteration_3.pt'}"  # the average, not the network that goes on learning
    stage = build_stage(toy.config(number, "x", option), toy.domain, CPU).eval()
    assert all(torch.equal(value, light[f"encoder.{key}"]) for key, value in stage.encoder.state_dict().items())
    metrics = MetricSet(["l2"], CPU)
    images = ImageFolder(toy.images, toy.domain.generator.size)
    for name, x in zip(images.names, images, strict=True):
        with torch.no_grad():
            metrics.update(x[None], stage.reconstruct(x[None]), [name])
    (row,) = [row for row in read_stats(folder / "stats.jsonl") if "val/l2" in row]
    assert row["val/l2"] == pytest.approx(metrics.compute()["l2"], rel=1e-4)


def test_frozen_networks_are_stored_in_half_precision_but_checkpoints_keep_all_digits(toy: TrainingToy) -> None:
    measured = [f"data.input_val_dir={toy.images}", "train.val_step=2", "train.train_dis=False"]
    folder = train(toy, 2, "half", "train.precision=bf16", "train.steps=2", *measured)
    tensors = read(folder / "iteration_2.pt")["state_dict"]
    inverter = load_inverter(toy.files.inverter, toy.domain).state_dict()
    assert all(torch.equal(tensors[f"inverter.{key}"], value) for key, value in inverter.items())

    def build() -> EditorStage:
        stage = build_stage(toy.config(2, "x", "train.precision=bf16"), toy.domain, CPU).eval()
        assert isinstance(stage, EditorStage)
        return stage

    stage, plain = build(), load_e4e(toy.files.e4e, toy.domain)
    assert all(p.dtype == torch.bfloat16 for part in stage.e4e.styles.modules() for p in part.parameters(recurse=False)
               if isinstance(part, nn.Conv2d))  # fmt: skip
    (batch,) = draw(toy, 1, 4)
    x = batch.images(CPU)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(stage.e4e(x), plain(x))
        moved = {key: value + 0.01 for key, value in inverter.items() if key.endswith("conv.weight")}
        stage.inverter.load_state_dict(moved, strict=False)  # as a checkpoint does before the first step
        assert not torch.equal(stage.reconstruct(x), build().reconstruct(x))
