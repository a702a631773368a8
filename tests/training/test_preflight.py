"""Mistakes in the options: one line that names the key, before torch is imported."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from training_toy import TrainingToy, shared_toy

from arguments.domain import load_domain
from arguments.loader import load_options
from arguments.train_options import TrainConfig

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> TrainingToy:
    return shared_toy(tmp_path_factory.getbasetemp())


def train(toy: TrainingToy, stage: int, *options: str) -> str:
    """The error line of a real run."""
    command = [sys.executable, "-X", "importtime", "scripts/train.py", *toy.arguments(stage, "mistake", *options)]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    lines = [line for line in process.stderr.splitlines() if not line.startswith("import time:")]
    assert process.returncode == 2 and len(lines) == 1 and lines[0].startswith("error: "), process.stderr[-2000:]
    assert " torch\n" not in process.stderr
    assert not toy.experiments.exists() or not list(toy.experiments.glob("mistake*"))
    return lines[0]


@pytest.mark.parametrize(
    ("stage", "option", "expected"),
    [
        (1, "train.stepz=3", "train.stepz"),
        (1, "trane.steps=3", "trane"),
        (1, "train.steps=many", "train.steps"),
        (1, "encoder_losses.l2=high", "encoder_losses.l2"),
        (1, "optimizers.ranger.betas=0.9", "optimizers.ranger.betas"),
        (1, "train.train_runner=fse_editor", "train.train_runner"),
        (1, "optimizers.adam.betas=[0.9,1]", "optimizers.adam.betas"),
        (1, "data.input_train_dir=/no/such/folder", "data.input_train_dir"),
        (1, "data.input_train_dir=", "data.input_train_dir"),
        (1, "data.input_val_dir=/no/such/folder", "data.input_val_dir"),
        (1, "data.special_dir=/no/such/folder", "data.special_dir"),
        (1, "train.resume_path=/no/such/file.pt", "train.resume_path"),
        (1, "exp.name=", "exp.name"),
        (1, "exp.exp_dir={images}/runs", "exp.exp_dir: {images}/runs is inside {images}"),
        (1, "exp.domain=dogs", "exp.domain"),
        (1, "exp.config=no.yaml", "no.yaml"),
        (1, "model.method=fse_full", "model.method"),
        (1, "train.encoder_optimizer=sgd", "sgd"),
        (1, "train.start_step=300001", "train.start_step"),
        (2, "methods_args.fse_full.inverter_pth=", "methods_args.fse_full.inverter_pth"),
        (2, "methods_args.fse_full.inverter_pth=/no/such/file.pt", "methods_args.fse_full.inverter_pth"),
        (2, "encoder_losses.feat_rec=1", "encoder_losses.feat_rec"),
        (2, "train.disc_edits=[mohawk]", "train.disc_edits"),
    ],
)
def test_mistakes_name_their_key(toy: TrainingToy, stage: int, option: str, expected: str) -> None:
    assert expected.format(images=toy.images) in train(toy, stage, option.format(images=toy.images))


def test_a_feature_editor_given_as_the_inverter(toy: TrainingToy) -> None:
    line = train(toy, 2, f"methods_args.fse_full.inverter_pth={toy.files.editor}")
    assert "methods_args.fse_full.inverter_pth" in line and "holds a Feature Editor" in line
    assert "holds a Feature Editor" in train(toy, 1, f"model.checkpoint_path={toy.files.editor}")


def test_an_inverter_given_as_the_feature_editor(toy: TrainingToy) -> None:
    line = train(toy, 2, f"model.checkpoint_path={toy.files.inverter}")
    assert "model.checkpoint_path" in line and "holds an Inverter" in line


def test_an_e4e_encoder_given_as_the_inverter(toy: TrainingToy) -> None:
    line = train(toy, 2, f"methods_args.fse_full.inverter_pth={toy.files.e4e}")
    assert "methods_args.fse_full.inverter_pth" in line
    assert "holds an e4e encoder; wanted the checkpoint of an Inverter" in line


def test_a_folder_without_images(toy: TrainingToy, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    line = train(toy, 1, f"data.input_train_dir={tmp_path}")
    assert "data.input_train_dir" in line and "0 images" in line


@pytest.mark.parametrize(("stage", "role"), [(1, "generator"), (1, "discriminator"), (2, "e4e"), (2, "generator")])
def test_a_missing_weight_file_of_the_domain(toy: TrainingToy, stage: int, role: str, tmp_path: Path) -> None:
    gone = tmp_path / f"{role}.pt"
    domain = toy.files.path.read_text().replace(str(getattr(toy.files, role)), str(gone))
    (tmp_path / "domain.yaml").write_text(domain)
    line = train(toy, stage, f"exp.domain={tmp_path / 'domain.yaml'}", "train.train_dis=True")
    assert line == f"error: domain small: weights.{role}: {gone} does not exist; download or train it first"


def test_the_kind_of_a_large_checkpoint_is_read_without_torch(toy: TrainingToy, tmp_path: Path) -> None:
    """As many tensors as a full checkpoint of the published size has; the kind shows in its very last key."""
    tensors = {f"encoder.body.{i}": torch.zeros(1) for i in range(3000)}
    tensors["inverter.fs_backbone.conv.weight"] = torch.zeros(1)
    torch.save({"encoder_opt": tensors, "state_dict": tensors}, tmp_path / "full.pt")
    assert "holds a Feature Editor" in train(toy, 2, f"methods_args.fse_full.inverter_pth={tmp_path / 'full.pt'}")


def test_the_shipped_configs_are_the_published_ones() -> None:
    first, second = (
        load_options(TrainConfig, [f"exp.config_dir={ROOT / 'configs'}", f"exp.config={name}.yaml"])
        for name in ("fse_inverter_train", "fse_editor_train")
    )
    losses = {"l2": 1.0, "lpips": 0.8, "id": 0.1, "adv": 0.01}
    assert {k: v for k, v in vars(first.encoder_losses).items() if v} == {**losses, "feat_rec": 0.01}
    assert {k: v for k, v in vars(second.encoder_losses).items() if v} == losses
    assert (first.train.start_step, first.train.steps) == (1, 300000)
    assert (second.train.start_step, second.train.steps) == (300001, 500000)
    for config in (first, second):
        assert config.model.batch_size == 8 and config.train.dis_train_start_step == 45000 and config.exp.wandb
        assert (config.train.log_step, config.train.checkpoint_step, config.train.val_step) == (500, 15000, 15000)
        assert (config.disc_losses.r1.coef, config.disc_losses.r1.hyper_d_reg_every) == (10, 16)
        assert (config.train.encoder_optimizer, config.optimizers.ranger.lr) == ("ranger", 1e-4)
    defaults = TrainConfig()
    assert defaults.train.dis_train_start_step == 150000 and not defaults.train.train_dis and defaults.exp.wandb
    known = load_domain("human_faces").editings
    directions = {name for family in known.values() for name in family.get("directions", {})}
    assert set(second.train.editings_data) <= directions and len(second.train.editings_data) == 13
