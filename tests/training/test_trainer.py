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
from datasets.training_images import Batch, TrainingImages
from models.weights import save
from training.losses import LossBuilder
from training.parts import build_discriminator, build_optimizer, build_stage
from training.stages import EditorStage
from training.trainer import DivergedError, Trainer

CPU = torch.device("cpu")
RAMP = TrainArgs().feature_ramp


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> TrainingToy:
    return shared_toy(tmp_path_factory.getbasetemp())


def make(toy: TrainingToy, stage: int, *more: str, precision: str = "fp32", frozen_norms: bool = False) -> Trainer:
    config = toy.config(stage, "x", *more)
    random.seed(0)
    torch.manual_seed(0)
    network = build_stage(config, toy.domain, CPU)
    if frozen_norms:
        for module in network.encoder.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
    disc = build_discriminator(config, toy.domain, CPU)
    losses = LossBuilder(config.encoder_losses, config.disc_losses, toy.domain.encoder_size, CPU)
    optimizer = build_optimizer("ranger", network.encoder.parameters(), config.optimizers)
    disc_optimizer = build_optimizer("adam", disc.parameters(), config.optimizers)
    return Trainer(network, optimizer, disc, disc_optimizer, losses, CPU, precision)


def taken(toy: TrainingToy, count: int, size: int) -> list[Batch]:
    pictures = TrainingImages(toy.pictures, toy.domain.generator.size, seed=1, workers=0)
    return [pictures.next_batch(size) for _ in range(count)]


def weights(module: nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in module.parameters()]


def changed(module: nn.Module, before: Sequence[torch.Tensor]) -> bool:
    return any(not torch.equal(a, b) for a, b in zip(weights(module), before, strict=True))


def test_the_discriminator_learns_in_its_phase_only(toy: TrainingToy) -> None:
    trainer = make(toy, 1)
    encoder, disc = trainer.stage.encoder, trainer.discriminator
    before = weights(encoder), weights(disc)
    values = trainer.step(1, taken(toy, 1, 4), adversarial=False)
    assert set(values) == {"l2", "feat_rec", "total"}
    assert changed(encoder, before[0]) and not changed(disc, before[1])
    values = trainer.step(15, taken(toy, 1, 4), adversarial=True)
    assert set(values) == {"l2", "feat_rec", "adv", "total", "disc_main", "disc_total"}
    assert changed(disc, before[1])
    assert "disc_r1" in trainer.step(16, taken(toy, 1, 4), adversarial=True)


def test_each_loss_reaches_its_own_network_only(toy: TrainingToy) -> None:
    trainer = make(toy, 1)
    batches = taken(toy, 1, 4)
    fakes = trainer._learn_stage(16, batches, True, found := {name: [] for name in ("l2", "feat_rec", "adv", "total")})
    assert found["adv"][0] > 0
    assert all(parameter.grad is None for parameter in trainer.discriminator.parameters())
    before = weights(trainer.stage.encoder)
    trainer._learn_discriminator(16, batches, fakes, {f"disc_{name}": [] for name in ("main", "r1", "total")})
    assert not changed(trainer.stage.encoder, before)
    assert all(parameter.grad is None for parameter in trainer.stage.parameters())


def test_the_discriminator_and_the_network_learn_against_each_other(toy: TrainingToy) -> None:
    trainer = make(toy, 1, "encoder_losses.l2=0", "encoder_losses.feat_rec=0", "encoder_losses.adv=1")
    batches = taken(toy, 1, 4)

    def steps(encoder_lr: float, disc_lr: float) -> list[dict[str, float]]:
        trainer.optimizer.param_groups[0]["lr"] = encoder_lr
        trainer.disc_optimizer.param_groups[0]["lr"] = disc_lr
        return [trainer.step(RAMP + 1 + i, batches, adversarial=True) for i in range(30)]

    values = steps(0.0, 0.01)
    assert values[-1]["disc_main"] < 0.9 * values[0]["disc_main"]
    values = steps(0.01, 0.0)
    assert values[-1]["adv"] < 0.9 * values[0]["adv"]


def test_accumulated_batches_are_one_large_batch(toy: TrainingToy) -> None:
    """BatchNorm aside, which sees each batch by itself."""
    trainers = [make(toy, 1, "optimizers.adam.lr=0.01", frozen_norms=True) for _ in range(2)]
    whole = trainers[0].step(15, taken(toy, 1, 8), adversarial=False)
    parts = trainers[1].step(15, taken(toy, 2, 4), adversarial=False)
    assert parts == pytest.approx(whole, rel=1e-4)
    for a, b in zip(weights(trainers[0].stage.encoder), weights(trainers[1].stage.encoder), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("number", [1, 2])
def test_bf16_takes_nearly_the_same_step(toy: TrainingToy, number: int) -> None:
    values = {}
    for precision in ("fp32", "bf16"):
        trainer = make(toy, number, precision=precision)
        before = weights(trainer.stage.encoder)
        values[precision] = trainer.step(RAMP + 16, taken(toy, 1, 4), adversarial=True)
        assert changed(trainer.stage.encoder, before)
        assert all(parameter.dtype == torch.float32 for parameter in trainer.stage.parameters())
    assert values["bf16"] != values["fp32"]
    assert values["bf16"] == pytest.approx(values["fp32"], rel=0.1)


def test_a_loss_that_is_not_finite_stops_before_the_weights_change(toy: TrainingToy) -> None:
    trainer = make(toy, 1)
    with torch.no_grad():
        trainer.stage.encoder.fuser.conv.weight.fill_(float("nan"))
    before = weights(trainer.stage.encoder.fs_backbone)
    with pytest.raises(DivergedError, match=r"step 7: the loss is nan \(l2 nan, .*\) on \d\.png, \d\.png"):
        trainer.step(7, taken(toy, 1, 4), adversarial=False)
    assert not changed(trainer.stage.encoder.fs_backbone, before)


@pytest.fixture(scope="module")
def trained_inverter(toy: TrainingToy, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float]]:
    """Stage 1 on the 8 pictures and e4e's versions of them: the checkpoint, and l2 of every step."""
    trainer = make(toy, 1, "optimizers.ranger.lr=0.01")
    stage_2 = make(toy, 2).stage
    assert isinstance(stage_2, EditorStage)
    (batch,) = taken(toy, 1, 8)
    with torch.no_grad():
        e4es, *_ = stage_2._known_edit(batch.images, "age", 0.0)
    both = [Batch(torch.cat([batch.images, e4es]), batch.names * 2)]
    values = [trainer.step(RAMP + i, both, adversarial=False)["l2"] for i in range(200)]
    path = tmp_path_factory.mktemp("trained") / "inverter.pt"
    save({"state_dict": {f"encoder.{k}": v for k, v in trainer.stage.encoder.state_dict().items()}}, path)
    return path, values


def test_stage_1_overfits_a_few_pictures(trained_inverter: tuple[Path, list[float]]) -> None:
    _, values = trained_inverter
    assert sum(values[-10:]) / 10 < values[0] / 10


def test_stage_2_overfits_their_edits(toy: TrainingToy, trained_inverter: tuple[Path, list[float]]) -> None:
    inverter = f"methods_args.fse_full.inverter_pth={trained_inverter[0]}"
    trainer = make(toy, 2, inverter, "optimizers.ranger.lr=0.02")
    stage = trainer.stage
    assert isinstance(stage, EditorStage)
    batch = taken(toy, 1, 8)

    @torch.no_grad()
    def editing_loss() -> float:
        """l2 of the edits against what they should be, over all directions and powers."""
        losses = []
        for name, powers in EDITS.items():
            for power in powers:
                stage.edits = {name: [power]}
                pairs = stage(batch[0].images, 1)
                losses.append(F.mse_loss(pairs.fake[8:], pairs.real[8:]).item())
        stage.edits = EDITS
        return sum(losses) / len(losses)

    before = editing_loss()
    for i in range(120):
        trainer.step(i, batch, adversarial=False)
    assert editing_loss() < before / 3
