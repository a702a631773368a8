"""Stages: the losses' inputs equal what inference computes, and only the trained network learns."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch
from torch import nn
from training_toy import EDITS, TrainingToy, shared_toy

from arguments.train_options import TrainArgs
from datasets.training_images import TrainingImages
from datasets.true_edits import TrueEdit
from editings.latent_editor import LatentEditor
from models import inference, sfe
from models.inference import FSEFull, FSEInverter
from models.weights import new_inverter, save
from training import stages
from training.parts import build_stage
from training.stages import EditorStage, InverterStage, Stage

CPU = torch.device("cpu")
RAMP = TrainArgs().feature_ramp


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> TrainingToy:
    return shared_toy(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def x(toy: TrainingToy) -> torch.Tensor:
    return TrainingImages(toy.images, toy.domain.generator.size, seed=1, workers=0).next_batch(3).images(CPU)


def build(toy: TrainingToy, stage: int, *more: str) -> Stage:
    torch.manual_seed(0)
    return build_stage(toy.config(stage, "x", *more), toy.domain, CPU)


def inverter_stage(toy: TrainingToy) -> Stage:
    return build(toy, 1, f"model.checkpoint_path={toy.files.inverter}").eval()


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return bool((a - b).abs().max() <= 1e-4 * b.abs().max())


def test_training_and_inference_run_the_same_functions() -> None:
    for name in ("invert", "invert_e4e", "decode_coarse", "delta", "decode"):
        assert getattr(stages, name) is getattr(inference, name) is getattr(sfe, name)


@torch.no_grad()
def test_stage_1_pairs_are_the_inversion_and_the_image_of_w_with_x(toy: TrainingToy, x: torch.Tensor) -> None:
    stage = inverter_stage(toy)
    pairs = stage(x, RAMP)
    method = FSEInverter(toy.domain, str(toy.files.inverter), CPU, LatentEditor(toy.domain))
    inversion = method.invert(x)
    assert same(pairs.fake[:3], method.reconstruct(inversion))
    assert same(pairs.fake[3:], method.decoder(method.decoder.affine(inversion.w)))
    assert torch.equal(pairs.real, torch.cat([x, x]))
    assert pairs.generator_fakes is pairs.fake and pairs.discriminator_fakes is pairs.fake
    features, own = pairs.features
    assert same(features, inversion.features)
    assert same(own, method.decoder.trunk(method.decoder.affine(inversion.w), method.layer)[0])
    assert same(stage.reconstruct(x), method.reconstruct(inversion))


@torch.no_grad()
def test_stage_1_fades_the_features_in(toy: TrainingToy, x: torch.Tensor) -> None:
    stage = inverter_stage(toy)
    start, middle, end, later = (stage(x, step) for step in (0, 3000, RAMP, 10 * RAMP))
    assert torch.equal(start.fake[:3], start.fake[3:])
    assert torch.equal(end.fake, later.fake) and not same(middle.fake[:3], end.fake[:3])
    features, own = middle.features
    mixed = 0.7 * own + 0.3 * features
    _, coarse = sfe.invert(stage.encoder, stage.decoder, x)
    assert same(middle.fake[:3], sfe.decode(stage.decoder, mixed, coarse, stage.layer))
    assert same(middle.fake[3:], end.fake[3:])


@torch.no_grad()
def test_stage_1_latents_are_compared_with_e4es(toy: TrainingToy, x: torch.Tensor) -> None:
    stage = build(toy, 1, f"model.checkpoint_path={toy.files.inverter}", "encoder_losses.l2_latent=1").eval()
    method = FSEInverter(toy.domain, str(toy.files.inverter), CPU, LatentEditor(toy.domain))
    inversion = method.invert(x)
    w, w_e4e = stage(x, 1).latents
    assert same(w, inversion.w) and same(w_e4e, sfe.invert_e4e(method.e4e, method.decoder, x))
    assert inverter_stage(toy)(x, 1).latents is None


@torch.no_grad()
def test_stage_2_pairs_are_an_inversion_with_x_and_an_edit_whose_result_is_known(
    toy: TrainingToy, x: torch.Tensor, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stage = build(toy, 2).eval()
    assert isinstance(stage, EditorStage)
    path = tmp_path_factory.mktemp("stage_2") / "editor.pt"
    save({"state_dict": {f"{p}.{k}": v for p, net in stage.saved().items() for k, v in net.state_dict().items()}}, path)
    directions = LatentEditor(toy.domain)
    method = FSEFull(toy.domain, str(path), CPU, directions)
    inversion, decoder = method.invert(x), method.decoder
    w_e4e = sfe.invert_e4e(method.e4e, decoder, x)

    def features(styles: list[torch.Tensor]) -> sfe.Coarse:
        return sfe.decode_coarse(decoder, styles, method.layer)

    for name, powers in EDITS.items():
        for power in powers:
            pairs = stage(x, 1, (name, power))
            source = method.e4e_images(inversion)
            target = method.e4e_images(inversion, [(name, [power])])
            assert same(pairs.fake[:3], method.reconstruct(inversion)) and torch.equal(pairs.real[:3], x)
            assert same(pairs.real[3:], target) and not same(pairs.real[3:], source)
            # what inference does with x_E, if e4e returned exactly the w that x_E was made from
            of_source = method.invert(source)
            moved, moved_e4e = (directions.apply(w, [(name, power)], decoder.affine) for w in (of_source.w, w_e4e))
            delta = sfe.delta(features(decoder.affine(w_e4e)).features, features(moved_e4e).features)
            edited = method.feature_editor(of_source.features, delta)
            assert same(pairs.fake[3:], sfe.decode(decoder, edited, features(moved), method.layer))
            assert same(pairs.generator_fakes, pairs.fake[:3]) and same(pairs.discriminator_fakes, pairs.fake[:3])
    assert same(stage.reconstruct(x), method.reconstruct(inversion))


@torch.no_grad()
def test_edits_of_real_images_enter_the_adversarial_loss_if_listed(toy: TrainingToy, x: torch.Tensor) -> None:
    stage = build(toy, 2, "train.disc_edits=[glasses]").eval()
    assert isinstance(stage, EditorStage)
    pairs = stage(x, 1, ("glasses", 4.0))
    assert len(pairs.generator_fakes) == 6 and len(pairs.discriminator_fakes) == 3
    assert same(pairs.generator_fakes[:3], pairs.fake[:3])
    real, _ = sfe.invert(stage.inverter, stage.decoder, x)
    w_e4e = sfe.invert_e4e(stage.e4e, stage.decoder, x)
    affine, editor = stage.decoder.affine, LatentEditor(toy.domain)
    moved = [editor.apply(w, [("glasses", 4.0)], affine) for w in (real.w, w_e4e)]
    coarse, edited, original = (
        sfe.decode_coarse(stage.decoder, styles, stage.layer) for styles in (*moved, affine(w_e4e))
    )
    features = stage.encoder(real.features, sfe.delta(original.features, edited.features))
    expected = sfe.decode(stage.decoder, features, coarse, stage.layer)
    assert same(pairs.generator_fakes[3:], expected) and not same(pairs.generator_fakes[3:], pairs.generator_fakes[:3])
    assert len(stage(x, 1, ("age", 3.0)).generator_fakes) == 3


@torch.no_grad()
def test_stage_2_compares_edits_made_as_inference_makes_them_with_true_ones(
    toy: TrainingToy, x: torch.Tensor, tmp_path: Path
) -> None:
    stage = build(toy, 2).eval()
    path = tmp_path / "editor.pt"
    save({"state_dict": {f"{p}.{k}": v for p, net in stage.saved().items() for k, v in net.state_dict().items()}}, path)
    method = FSEFull(toy.domain, str(path), CPU, LatentEditor(toy.domain))
    before, after, powers = x.flip(0), x.flip(-1), [4.0, -2.0, 1.0]
    pairs = stage(x, 1, ("age", 3.0), TrueEdit(before, after, "age", powers, ["a", "b", "c"]))
    for i, power in enumerate(powers):
        inferred = method.edit(method.invert(before[i : i + 1]), [("age", [power])])
        assert same(pairs.fake[6 + i : 7 + i], inferred)
    assert torch.equal(pairs.real[6:], after)
    assert len(pairs.fake) == len(pairs.real) == 9 and len(pairs.generator_fakes) == len(pairs.discriminator_fakes) == 3


def test_stage_2_draws_a_direction_and_then_a_power_uniformly(toy: TrainingToy) -> None:
    stage, random = build(toy, 2), Random(1)
    counts = Counter(stage.draw_edit(random) for _ in range(400))
    assert set(counts) == {("age", -3.0), ("age", 3.0), ("glasses", 4.0)}
    assert 150 < counts["glasses", 4.0] < 250  # half of them, not a third
    assert 60 < counts["age", 3.0] < 140
    again = Random(1)
    assert Counter(stage.draw_edit(again) for _ in range(400)) == counts
    assert build(toy, 1).draw_edit(random) is None


@pytest.mark.parametrize("number", [1, 2])
def test_only_the_trained_network_is_in_train_mode_and_learns(toy: TrainingToy, x: torch.Tensor, number: int) -> None:
    stage = build(toy, number)
    trained = {id(module) for module in stage.encoder.modules()} | {id(stage)}
    assert all(module.training == (id(module) in trained) for module in stage.modules())
    parameters = {id(parameter) for parameter in stage.encoder.parameters()}
    assert all(parameter.requires_grad == (id(parameter) in parameters) for parameter in stage.parameters())
    frozen = {k: v.clone() for k, v in stage.state_dict().items() if not k.startswith("encoder.")}
    running = {k: v.clone() for k, v in stage.encoder.state_dict().items() if "running_mean" in k}
    stage(x, 100, stage.draw_edit(Random(1))).fake.mean().backward()
    after = stage.state_dict()
    assert all(torch.equal(after[k], v) for k, v in frozen.items())  # BatchNorm statistics too
    assert all(not torch.equal(after[f"encoder.{k}"], v) for k, v in running.items())
    assert all(parameter.grad is not None for parameter in stage.encoder.parameters())
    assert not any(module.training for module in stage.eval().modules())
    assert any(isinstance(module, nn.BatchNorm2d) and module.training for module in stage.train().modules())


def test_an_inverter_starts_from_the_backbone_file(
    toy: TrainingToy, tmp_path_factory: pytest.TempPathFactory, caplog: pytest.LogCaptureFixture
) -> None:
    """The published iresnet50 layout: conv1, bn1, prelu, layer1.0.… and a head that is not used."""
    stage = build(toy, 1)
    assert isinstance(stage, InverterStage) and "starts from random numbers" in caplog.text
    old = {"conv.0.": "conv1.", "conv.1.": "bn1.", "conv.2.": "prelu."}
    old |= {f"block_{i}.": f"layer{i}." for i in range(1, 5)}
    tensors = {
        name + key.removeprefix(ours): torch.full_like(value, 0.5)
        for key, value in stage.encoder.fs_backbone.state_dict().items()
        for ours, name in old.items()
        if key.startswith(ours)
    }
    path = tmp_path_factory.mktemp("backbone") / "iresnet.pth"
    torch.save({**tensors, "fc.weight": torch.zeros(3), "bn2.bias": torch.zeros(3)}, path)
    backbone = new_inverter(replace(toy.domain, weights={"backbone": str(path)})).fs_backbone
    for key, value in backbone.state_dict().items():
        if value.is_floating_point():
            assert bool((value == 0.5).all()) != key.startswith(("content_layer.", "styles.")), key
