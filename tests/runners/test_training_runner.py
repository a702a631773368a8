"""Whole training runs, as processes: what they write, and that they go on where they stopped."""

import json
import os
import random
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from training_toy import TrainingToy, shared_toy
from warm_python import WarmPython

from arguments.loader import load_options
from arguments.train_options import TrainConfig
from models.weights import load_feature_editor, load_inverter

KILLS = 30
DISCRIMINATOR = ("train.train_dis=True", "train.bs_used_before_adv_loss=2")


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> TrainingToy:
    return shared_toy(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def python() -> Iterator[WarmPython]:
    warm = WarmPython("runners.training_runner", "matplotlib.figure", "wandb")
    yield warm
    warm.close()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log.txt"


def read(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


def steps(folder: Path) -> list[int]:
    return sorted(int(path.stem.partition("_")[2]) for path in folder.glob("iteration_*.pt"))


def stats(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "stats.jsonl").read_text().splitlines()]


def assert_same(a: Any, b: Any, where: str = "") -> None:
    """Equal to the last bit."""
    assert type(a) is type(b), where
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_same(a[key], b[key], f"{where}.{key}")
    else:
        assert a == b, where


def wait_for(path: Path, pid: int) -> None:
    start = time.monotonic()
    while not path.exists():
        assert time.monotonic() - start < 300, f"{path} did not come"
        os.kill(pid, 0)
        time.sleep(0.005)


@pytest.mark.parametrize(
    ("stage", "start"),
    [(1, 8), (1, 13), (2, 8)],
    ids=["stage 1, killed in the discriminator's phase", "stage 1, killed before it", "stage 2"],
)
def test_10_steps_a_kill_and_10_more_equal_20(
    toy: TrainingToy, python: WarmPython, log: Path, stage: int, start: int
) -> None:
    name = f"resume_{stage}_{start}"
    options = [*DISCRIMINATOR, f"train.dis_train_start_step={start}", "train.log_step=5", "train.checkpoint_step=10"]
    whole = toy.arguments(stage, f"{name}_whole", *options, "train.steps=20")
    assert python.run("train.py", *whole, log=log) == 0, log.read_text()

    folder = toy.experiments / f"{name}_broken_000"
    broken = toy.arguments(stage, f"{name}_broken", *options, "train.resume=auto")
    pid = python.start("train.py", *broken, "train.steps=100000", log=log)
    wait_for(folder / "iteration_10.pt", pid)
    os.kill(pid, signal.SIGKILL)
    assert python.wait(pid) == -9
    for path in folder.glob("iteration_[2-9]0.pt"):
        path.unlink()  # the kill came late
    assert python.run("train.py", *broken, "train.steps=20", log=log) == 0, log.read_text()
    assert "resuming from" in log.read_text() and "after step 10" in log.read_text()

    expected = toy.experiments / f"{name}_whole_000"
    assert_same(read(folder / "iteration_20.pt"), read(expected / "iteration_20.pt"))
    position = read(folder / "iteration_20.pt")["training"]["pictures"]["position"]
    assert position == 2 * (start - 1) + 4 * (21 - start)  # the batch changed at the discriminator's first step
    losses = [{k: v for k, v in row.items() if k != "time"} for row in stats(folder)]
    assert losses == [{k: v for k, v in row.items() if k != "time"} for row in stats(expected)]
    assert [row["step"] for row in losses] == [5, 10, 15, 20] and "train/disc_r1" in losses[-1]


def test_a_run_killed_at_any_moment_resumes(toy: TrainingToy, python: WarmPython, log: Path) -> None:
    """Every third kill comes while a checkpoint is being written."""
    moments = random.Random(1)
    folder = toy.experiments / "killed_000"
    options = ["train.resume=auto", "train.checkpoint_step=1", "train.log_step=1", "train.keep_checkpoints=2"]
    arguments = toy.arguments(1, "killed", *options, "model.batch_size=1")
    reached, half_written = 0, 0
    for i in range(KILLS):
        pid = python.start("train.py", *arguments, "train.steps=100000", log=log)
        if i % 3 == 2:
            until = time.monotonic() + 10
            while not list(folder.glob(".*.pt")) and time.monotonic() < until:
                pass
        else:
            time.sleep(moments.uniform(0.0, 2.5))  # a slow machine writes the first checkpoint after 1.2 s
        os.kill(pid, signal.SIGKILL)
        assert python.wait(pid) == -9, log.read_text()
        half_written += len(list(folder.glob(".*.pt"))) > 0
        result = steps(folder)
        assert len(result) <= 3  # two are kept; the third was about to be removed
        for step in result:
            assert read(folder / f"iteration_{step}.pt")["training"]["step"] == step
        assert max(result, default=0) >= reached
        reached = max(result, default=0)
    assert reached > 0 and half_written > 0
    assert python.run("train.py", *arguments, f"train.steps={reached + 2}", log=log) == 0, log.read_text()
    assert steps(folder) == [reached + 1, reached + 2] and not list(folder.glob(".*.pt"))
    assert [row["step"] for row in stats(folder)] == list(range(1, reached + 3))
    assert sorted(path.name for path in toy.experiments.glob("killed_*")) == ["killed_000"]


def test_sigterm_saves_and_stops(toy: TrainingToy, python: WarmPython, log: Path) -> None:
    folder = toy.experiments / "sigterm_000"
    arguments = toy.arguments(1, "sigterm", "train.log_step=1", "train.checkpoint_step=100000", "train.steps=100000")
    pid = python.start("train.py", *arguments, log=log)
    wait_for(folder / "stats.jsonl", pid)
    while not stats(folder):
        time.sleep(0.01)
    os.kill(pid, signal.SIGTERM)
    assert python.wait(pid) == 0, log.read_text()
    (last,) = steps(folder)
    assert last == stats(folder)[-1]["step"] and f"stopped by SIGTERM after step {last}" in log.read_text()
    assert json.loads((folder / "save_options.json").read_text())["start_step"] == last + 1


def test_a_loss_that_is_not_finite_stops_the_run(toy: TrainingToy, python: WarmPython, log: Path) -> None:
    arguments = toy.arguments(1, "diverged", "optimizers.ranger.lr=1e30", "train.checkpoint_step=1", "train.steps=50")
    assert python.run("train.py", *arguments, log=log) == 2
    (line,) = [line for line in log.read_text().splitlines() if line.startswith("error: ")]
    folder = toy.experiments / "diverged_000"
    step = steps(folder)[-1] + 1
    assert f"step {step}: a loss is not finite" in line and f"iteration_{step - 1}.pt" in line
    assert sum(f"{i}.png" in line for i in range(8)) == 4  # the images of the batch


def test_a_run_leaves_everything_that_it_promises(toy: TrainingToy, python: WarmPython, log: Path) -> None:
    options = [
        *DISCRIMINATOR, "train.dis_train_start_step=1", "train.steps=6", "train.log_step=2", "train.checkpoint_step=2",
        "train.val_step=3", "train.keep_checkpoints=1", f"data.input_val_dir={toy.images}",
        f"data.special_dir={toy.images}", "exp.wandb=True",
    ]  # fmt: skip
    arguments = toy.arguments(1, "whole", *options)
    assert python.run("train.py", *arguments, log=log) == 0, log.read_text()
    text, folder = log.read_text(), toy.experiments / "whole_000"

    assert re.search(r"step 2 of 6, 0:\d\d:\d\d left:  train/l2 0\.\d+", text)
    rows = stats(folder)
    assert [row["step"] for row in rows if "train/l2" in row] == [2, 4, 6]
    measured = {row["step"]: row["val/l2"] for row in rows if "val/l2" in row}
    assert set(measured) == {3, 6}
    assert json.loads((folder / "metrics/iteration_3.json").read_text()) == {"l2": measured[3]}
    best = min(measured, key=lambda step: measured[step])
    assert steps(folder) == sorted({best, 6})  # the newest one, and the best

    with Image.open(folder / "curves.png") as curves:
        assert curves.format == "PNG" and min(curves.size) > 300
    for step in (3, 6):
        with Image.open(folder / f"special/step_{step:07d}.png") as grid:
            assert grid.size == (2 * 256, 8 * 280)

    saved = load_options(TrainConfig, [f"exp.config_dir={folder}", "exp.config=config.yaml"])
    given = load_options(TrainConfig, arguments)
    saved.exp.config_dir, saved.exp.config = given.exp.config_dir, given.exp.config
    assert saved == given
    assert "scripts/train.py" in (folder / "run_command.sh").read_text()
    assert json.loads((folder / "save_options.json").read_text())["start_step"] == 7
    assert (folder / "inference_results").is_dir()

    full = read(folder / "iteration_6.pt")
    assert set(full) == {"state_dict", "encoder_opt", "disc_opt", "latent_avg", "training"}
    assert {key.partition(".")[0] for key in full["state_dict"]} == {"encoder", "discriminator"}
    light = load_inverter(folder / "sfe_inverter_light.pt", toy.domain).state_dict()
    assert_same(dict(light), {k[8:]: v for k, v in full["state_dict"].items() if k.startswith("encoder.")})

    export = [folder / f"iteration_{best}.pt", folder / "best.pt"]
    assert python.run("export_light.py", *export, log=log) == 0 and "holds an Inverter" in log.read_text()
    exported = read(folder / "best.pt")["state_dict"]
    assert exported.keys() == read(folder / "sfe_inverter_light.pt")["state_dict"].keys()

    run_id = full["training"]["wandb_id"]
    (offline,) = (folder / "wandb").glob("offline-run-*")
    content = (offline / f"run-{run_id}.wandb").read_bytes()
    for trace in (b"train/l2", b"val/l2", b"special", b"image, inversion", b"input_train_dir", b"source"):
        assert trace in content, trace
    assert len(list((offline / "files/media/images").glob("special_*.png"))) == 16

    # The same run on Weights & Biases goes on.
    more = [argument for argument in arguments if "train.steps" not in argument]
    assert python.run("train.py", *more, "train.steps=7", "train.resume=auto", log=log) == 0, log.read_text()
    assert read(folder / "iteration_7.pt")["training"]["wandb_id"] == run_id
    assert len(list((folder / "wandb").glob(f"offline-run-*-{run_id}"))) == 2


def test_stage_2_starts_from_stage_1_and_gives_an_editor(toy: TrainingToy, python: WarmPython, log: Path) -> None:
    options = [*DISCRIMINATOR, "train.dis_train_start_step=1"]
    assert python.run("train.py", *toy.arguments(1, "first", *options, "train.steps=2"), log=log) == 0
    inverter = toy.experiments / "first_000" / "iteration_2.pt"
    more = [f"methods_args.fse_full.inverter_pth={inverter}", "train.start_step=3", "train.steps=4"]
    assert python.run("train.py", *toy.arguments(2, "second", *options, *more), log=log) == 0, log.read_text()
    folder = toy.experiments / "second_000"
    full, before = read(folder / "iteration_4.pt")["state_dict"], read(inverter)["state_dict"]
    assert {key.partition(".")[0] for key in full} == {"encoder", "inverter", "discriminator"}
    for key, value in before.items():
        if key.startswith("encoder."):
            assert torch.equal(full[key.replace("encoder.", "inverter.", 1)], value)
    own, editor = load_feature_editor(folder / "sfe_editor_light.pt", toy.domain)
    assert torch.equal(own.fuser.conv.weight, before["encoder.fuser.conv.weight"])
    assert torch.equal(editor.conv.weight, full["encoder.conv.weight"])
    drift = max((full[key] - value).abs().max() for key, value in before.items() if key.startswith("discriminator."))
    assert 0 < drift < 0.01  # the discriminator of stage 1, two steps later


def test_resume_path_takes_a_checkpoint_or_its_options(toy: TrainingToy, python: WarmPython, log: Path) -> None:
    def run(*options: str) -> str:
        assert python.run("train.py", *toy.arguments(1, "path", *options), log=log) == 0, log.read_text()
        return log.read_text()

    run("train.steps=3", "train.checkpoint_step=1")
    first = toy.experiments / "path_000"
    assert "after step 3" in run("train.steps=4", f"train.resume_path={first / 'save_options.json'}")
    assert steps(first) == [2, 3, 4] and not (toy.experiments / "path_001").exists()
    # an older one begins a branch of its own
    assert "after step 2" in run("train.steps=3", f"train.resume_path={first / 'iteration_2.pt'}")
    assert steps(first) == [2, 3, 4] and steps(toy.experiments / "path_001") == [3]
    assert_same(read(first / "iteration_3.pt"), read(toy.experiments / "path_001" / "iteration_3.pt"))
    # without resume, a new experiment begins
    assert "after step" not in run("train.steps=1") and steps(toy.experiments / "path_002") == [1]


@pytest.mark.parametrize(
    ("stage", "option", "expected"),
    [
        (1, "train.precision=fp16", "train.precision=fp16 wants a GPU"),
        (1, "data.transform=face_256", "data.transform is face_256"),
        (1, "train.val_metrics=[beauty]", "there is no metric 'beauty'"),
        (2, "train.editings_data={younger: [3]}", "editing 'younger'"),
    ],
)
def test_what_cannot_work_stops_before_anything_is_written(
    toy: TrainingToy, python: WarmPython, log: Path, stage: int, option: str, expected: str
) -> None:
    options = [option, f"data.input_val_dir={toy.images}"]
    assert python.run("train.py", *toy.arguments(stage, "wrong", *options), log=log) == 2
    assert expected in log.read_text() and not list(toy.experiments.glob("wrong*"))


def test_a_missing_file_of_a_direction_stops_before_anything_is_written(
    toy: TrainingToy, python: WarmPython, log: Path, tmp_path: Path
) -> None:
    gone = tmp_path / "gone.pt"
    domain = toy.files.path.read_text().replace(str(toy.folder / "age.pt"), str(gone))
    (tmp_path / "domain.yaml").write_text(domain)
    arguments = toy.arguments(2, "directionless", f"exp.domain={tmp_path / 'domain.yaml'}")
    assert python.run("train.py", *arguments, log=log) == 2
    [last] = [line for line in log.read_text().splitlines() if line.startswith("error: ")]
    assert f"{gone} (editing 'age') does not exist" in last and "Traceback" not in log.read_text()
    assert not list(toy.experiments.glob("directionless*"))


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("data.train_dir=", "data.train_dir is empty"),
        ("exp.exp_dir={images}/runs", "exp.exp_dir: {images}/runs/inside is inside {images}"),
    ],
)
def test_networks_are_not_trained_on_results(
    toy: TrainingToy, python: WarmPython, log: Path, option: str, expected: str
) -> None:
    options = [f"data.train_dir={toy.images}", f"exp.domain={toy.files.path}", "exp.name=inside", "train.device=cpu"]
    assert python.run("train_encoder.py", *options, option.format(images=toy.images), log=log) == 2
    assert expected.format(images=toy.images) in log.read_text() and "Traceback" not in log.read_text()
    assert not (toy.images / "runs").exists()
