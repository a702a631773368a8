"""From images with labels to a domain's predictor, encoder, directions and evaluation, on a tiny domain."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from small_domain import SmallDomain

from arguments.domain import load_domain
from arguments.loader import load_options
from arguments.loop_options import EncoderTrainConfig, PredictorTrainConfig
from datasets.images import ImageFolder
from datasets.labels import write_labels
from editings.latent_editor import LatentEditor
from editings.search import MIN_SHARE
from metrics.domain import rounded
from models.inference import FSEInverter
from models.predictor import Predictor
from models.stylegan2.generator import Generator
from models.weights import load_e4e, load_generator, load_predictor, read, save, save_predictor
from runners.directions_runner import DirectionsRunner
from runners.evaluation_runner import NOTHING, EvaluationRunner
from runners.generator_fid import measure_generators
from runners.training_runner import train_network
from training.loggers import read_stats
from training.tasks.encoder import EncoderTask
from training.tasks.network import NetworkTask
from training.tasks.predictor import PredictorTask
from utils.errors import UserError
from utils.images import save_image, to_image

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
ATTRIBUTES = {"tint": ["dark", "light"], "shape": ["round", "square"]}
SIZE = 32


class TinyDomain:
    """A random domain of 32 px with a predictor, and 24 flat images, dark and light, with labels."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.images = folder, folder / "images"
        self.files = SmallDomain(folder, SIZE)
        self._write_networks()
        domain = yaml.safe_load(self.files.path.read_text())
        domain["weights"]["predictor"] = str(folder / "predictor.pt")
        domain["traits"] = {"light": {"attribute": "tint", "values": ["light"]},
                            "square": {"attribute": "shape", "values": ["square"]}}  # fmt: skip
        self.path = folder / "tiny.yaml"
        self.path.write_text(yaml.safe_dump(domain))
        random = np.random.default_rng(0)
        rows = []
        for i in range(24):
            level = -0.7 if i % 2 else 0.7
            image = level + 0.2 * torch.from_numpy(random.standard_normal((3, SIZE, SIZE))).float()
            save_image(to_image(image), self.images / f"{i:02d}.png")
            shape = None if i < 4 else ATTRIBUTES["shape"][int(random.integers(2))]
            rows.append((f"{i:02d}.png", {"tint": ATTRIBUTES["tint"][i % 2 == 0], "shape": shape}))
        write_labels(self.images, rows)

    def _write_networks(self) -> None:
        """A generator whose w vary, and a predictor that says yes of half of its images."""
        torch.manual_seed(0)
        generator, predictor = Generator(self.files.load().generator), Predictor(ATTRIBUTES).eval()
        save({"g_ema": generator.state_dict(), "latent_avg": torch.zeros(16)}, self.files.generator)
        self.write_predictor(predictor, self.folder / "predictor.pt")

    @torch.no_grad()
    def write_predictor(self, predictor: Predictor, path: Path) -> None:
        """With biases such that it says yes of half of the generator's images."""
        generator = load_generator(self.files.generator, self.files.load().generator)
        w = generator.mapping(torch.randn(200, 16, generator=torch.Generator().manual_seed(0)))
        logits = predictor(generator(generator.affine(w[:, None].expand(-1, 8, -1))).clamp(-1, 1))
        excess = [(result[:, 1] - result[:, 0]).median() for result in logits.values()]
        predictor.head.bias -= torch.stack([torch.zeros(2), torch.stack(excess)], dim=1).flatten()
        save_predictor(predictor, path)

    def options(self, name: str, *more: str) -> list[str]:
        return [
            f"exp.domain={self.path}", f"exp.exp_dir={self.folder}", f"exp.name={name}", "train.device=cpu",
            f"data.train_dir={self.images}", "train.batch_size=6", "train.checkpoint_minutes=60", "train.log_step=1",
            *more,
        ]  # fmt: skip


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyDomain:
    return TinyDomain(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def predictor_folder(tiny: TinyDomain) -> Path:
    options = tiny.options("predictor", "train.steps=40", "train.lr=0.005")
    return train_network(load_options(PredictorTrainConfig, options), PredictorTask)


def test_predictor_learns_the_labels(predictor_folder: Path) -> None:
    predictor = load_predictor(predictor_folder / "predictor.pt")
    assert predictor.attributes == ATTRIBUTES
    flat = torch.tensor([-0.7, 0.7])[:, None, None, None].expand(2, 3, SIZE, SIZE)
    assert predictor(flat)["tint"].argmax(dim=1).tolist() == [0, 1]
    rows = read_stats(predictor_folder / "stats.jsonl")
    assert rows[-1]["cross_entropy"] < 0.75 * rows[0]["cross_entropy"]


@pytest.mark.parametrize("kind", ["predictor", "encoder"])
def test_a_resumed_run_equals_an_unbroken_one(tiny: TinyDomain, kind: str) -> None:
    task, schema = {
        "predictor": (PredictorTask, PredictorTrainConfig), "encoder": (EncoderTask, EncoderTrainConfig),
    }[kind]  # fmt: skip

    class Stopped(task):
        """Gets SIGTERM during step 2."""

        def gradients(self, step: int) -> Mapping[str, torch.Tensor]:
            if step == 2:
                signal.raise_signal(signal.SIGTERM)
            return super().gradients(step)

    def run(name: str, make: type[NetworkTask]) -> Path:
        return train_network(load_options(schema, tiny.options(f"{kind}_{name}", "train.steps=5")), make)

    assert not (run("parts", Stopped) / "iteration_5.pt").exists()
    whole, parts = (read(run(name, task) / "iteration_5.pt")["state_dict"] for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert not [key for key in whole if not torch.equal(whole[key], parts[key])]


def test_encoder_learns_to_invert_and_survives_a_kill(tiny: TinyDomain) -> None:
    options = tiny.options("killed", "train.predictor=0")
    endless = [*options, "train.steps=100000", "train.checkpoint_minutes=0"]
    process = subprocess.Popen([sys.executable, "scripts/train_encoder.py", *endless], cwd=ROOT, stderr=subprocess.PIPE)
    folder, deadline = tiny.folder / "killed", time.monotonic() + 60
    while len(list(folder.glob("iteration_*.pt"))) < 2 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    errors = process.communicate()[1].decode()
    assert process.returncode == -signal.SIGKILL, errors
    (folder / ".0123456789abcdef.pt").write_text("half a checkpoint, as a kill while it is written leaves")
    reached = max(int(path.stem.rpartition("_")[2]) for path in folder.glob("iteration_*.pt"))
    train_network(load_options(EncoderTrainConfig, [*options, f"train.steps={reached + 80}"]), EncoderTask)
    assert not list(folder.glob(".*"))
    load_e4e(folder / "e4e.pt", load_domain(str(tiny.path)))
    rows = read_stats(folder / "stats.jsonl")
    assert [row["step"] for row in rows] == list(range(1, reached + 81))
    first, last = (np.mean([row["l2"] + row["w"] for row in part]) for part in (rows[:5], rows[-5:]))
    assert last < 0.85 * first


def test_directions_are_found_and_can_be_used(tiny: TinyDomain, predictor_folder: Path) -> None:
    """Of a trained predictor's `light`, which is how bright a random generator's images are."""
    domain = yaml.safe_load(tiny.path.read_text())
    tiny.write_predictor(load_predictor(predictor_folder / "predictor.pt"), tiny.folder / "trained.pt")
    domain["weights"]["predictor"] = str(tiny.folder / "trained.pt")
    path = tiny.folder / "found.yaml"
    path.write_text(yaml.safe_dump(domain))
    runner = DirectionsRunner(str(path), 200, tiny.folder / "found")
    result = {
        "interfacegan": runner.boundaries(), "fs_boundaries": runner.labelled_boundaries(tiny.images),
        "ganspace": runner.components(), "stylespace": runner.channels(),
    }  # fmt: skip
    for family, entries in result.items():
        assert yaml.safe_load((tiny.folder / "found" / f"{family}.yaml").read_text()) == {family: entries}
    assert set(result["ganspace"]["directions"]) == {"light_pc", "square_pc"}
    domain["editings"], domain["editings_dir"] = result, str(tiny.folder / "found")
    path.write_text(yaml.safe_dump(domain))
    editor = LatentEditor(load_domain(str(path)))
    search = runner.search
    w = search.w[:40, None].expand(-1, 8, -1)
    changes = {}
    for directions in editor.available().values():
        for name, (low, high) in directions.items():
            with torch.inference_mode():
                ends = [editor.apply(w, [(name, power)], runner.generator.affine) for power in (low, high)]
                less, more = (search.log_odds(styles)[:, 0].mean() for styles in ends)
            changes[name] = float(more - less)
    assert changes["light_w"] > 0.5
    assert abs(changes["light_pc"]) > 0.1
    with torch.inference_mode():
        styles = runner.generator.affine(w)
        five = search.log_odds(editor.apply(w, [("light_w", 5)], runner.generator.affine))[:, 0]
        # The channel of `light` changes it more than nine of ten channels do, moved by as many standard deviations.
        layer, channel = result["stylespace"]["directions"]["light_ss"]["channels"][0]
        others = [search.channel_change(styles, layer, i)[0].abs() for layer in (0, 2, 3) for i in range(0, 8, 2)]
    assert search.channel_change(styles, layer, channel)[0].abs() >= torch.stack(others).quantile(0.9)
    assert changes["light_ss"] != 0
    assert (five[search.log_odds(styles)[:, 0] < 0] > 0).float().mean() >= MIN_SHARE


def relabelled(tiny: TinyDomain, folder: Path, *labels: dict[str, str | None]) -> Path:
    """A copy of the images in which all have the same labels, or one after another those given."""
    folder.mkdir()
    rows = []
    for i, path in enumerate(sorted(tiny.images.glob("*.png"))):
        (folder / path.name).write_bytes(path.read_bytes())
        rows.append((path.name, labels[i % len(labels)]))
    write_labels(folder, rows)
    return folder


def test_traits_that_all_or_no_images_have_are_left_out(
    tiny: TinyDomain, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runner = DirectionsRunner(str(tiny.path), 200, tmp_path / "out")
    dark, light = ({"tint": tint, "shape": "square"} for tint in ATTRIBUTES["tint"])
    result = runner.labelled_boundaries(relabelled(tiny, tmp_path / "mixed", dark, light))
    assert set(result["directions"]) <= {"light"} and "square: too few labelled images" in caplog.text
    for name, label in {"all": light, "hidden": {"tint": None, "shape": None}}.items():
        with pytest.raises(UserError, match="no trait is present in some of the labelled images, but not all"):
            runner.labelled_boundaries(relabelled(tiny, tmp_path / name, label))
    (tmp_path / "all" / "07.png").unlink()
    with pytest.raises(UserError, match=r"its labels name 07\.png, which is not there"):
        runner.labelled_boundaries(tmp_path / "all")


def test_generators_are_measured_on_two_images_or_more(tiny: TinyDomain, tmp_path: Path) -> None:
    for name in ("step_0000010.pt", "step_0000010_copy.pt", "step_9.pt"):
        (tmp_path / name).write_bytes(tiny.files.generator.read_bytes())
    rows = measure_generators(str(tiny.path), tmp_path, tiny.images, tmp_path, 20)
    assert [row["step"] for row in rows] == [9, 10] and all(np.isfinite(row["fid_like"]) for row in rows)
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a.png").write_bytes((tiny.images / "00.png").read_bytes())
    with pytest.raises(UserError, match="has one image; a distance between sets needs two or more"):
        measure_generators(str(tiny.path), tmp_path, tmp_path / "one", tmp_path, 20)
    for name in ("a.png", "fid.png"):
        (tmp_path / "one" / name).write_bytes((tiny.images / "00.png").read_bytes())
    with pytest.raises(UserError, match=r"fid\.png: would be overwritten"):
        measure_generators(str(tiny.path), tmp_path, tmp_path / "one", tmp_path / "one", 20)


def test_evaluation_measures_what_it_says(tiny: TinyDomain, tmp_path: Path) -> None:
    domain = yaml.safe_load(tiny.path.read_text())
    torch.save(torch.randn(1, 16), tmp_path / "light.pt")
    domain["editings"]["interfacegan"]["directions"]["light"] = {"file": str(tmp_path / "light.pt"), "range": [-5, 5]}
    path = tmp_path / "domain.yaml"
    path.write_text(yaml.safe_dump(domain))
    inverter = tmp_path / "inverter.pt"  # not the one in the editor's checkpoint
    tensors = torch.load(tiny.files.inverter)["state_dict"]
    torch.save({"state_dict": {key: 0.9 * tensor for key, tensor in tensors.items()}}, inverter)
    runner = EvaluationRunner(str(path), str(inverter), str(tiny.files.editor), CPU)
    images = ImageFolder(tiny.images, SIZE)
    names, x = images.names, torch.stack([images[i] for i in range(len(images))])
    log_odds = runner.metrics.log_odds(x, "light").tolist()
    lacking = [name for name, value in zip(names, log_odds, strict=True) if value < 0][:6]
    for variant in "ab":  # the images themselves are the nearest of two "true" ones
        for name in lacking:
            row = x[names.index(name)]
            save_image(to_image(row if variant == "b" else -row), tmp_path / "true" / "light" / variant / name)
    (tmp_path / "light.pt").rename(tmp_path / "gone.pt")
    for edits, words in (({"light": 2.0}, r"light\.pt \(editing 'light'\) does not"), ({"lihgt": 2.0}, "'light'")):
        with pytest.raises(UserError, match=words):
            runner.report({"all": tiny.images}, edits, None, tmp_path / "out")
    assert "decoder" not in vars(runner.sfe)  # nothing was computed
    (tmp_path / "gone.pt").rename(tmp_path / "light.pt")
    (tmp_path / "clash").mkdir()
    (tmp_path / "clash" / "grid.png").write_bytes((tiny.images / "00.png").read_bytes())
    with pytest.raises(UserError, match=r"grid\.png: would be overwritten"):
        runner.report({"clash": tmp_path / "clash"}, {"light": 2.0}, None, tmp_path / "clash")
    text = runner.report({"all": tiny.images}, {"light": 2.0}, tmp_path / "true", tmp_path / "out", shown=2)
    result = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert (tmp_path / "out" / "evaluation.md").read_text() == text
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"grid.png", "sweep.png"}

    nothing = result["edits"]["light"][NOTHING]
    assert nothing == {"images": len(lacking), "done": 0.0, "kept": 1.0, "truth": 0.0}
    sfe = result["inversions"]["all"]["SFE (stage 2)"]
    stage_1 = FSEInverter(runner.domain, str(inverter), CPU, LatentEditor(runner.domain))
    errors = []
    for row in x[[names.index(name) for name in lacking]]:
        edited = stage_1.edit(stage_1.invert(row[None]), [("light", [2.0])])
        errors.append(min(float((rounded(edited)[0] - true).square().mean()) for true in (row, -row)))
    assert np.isclose(result["edits"]["light"]["Inverter (stage 1)"]["truth"], np.mean(errors), rtol=1e-3)
    method = runner.sfe
    inverted = [to_image(method.reconstruct(method.invert(row[None]))[0]) for row in x]
    pixels = np.stack([np.asarray(image) for image in inverted]) / 127.5 - 1
    assert np.isclose(sfe["l2"], np.square(pixels - x.permute(0, 2, 3, 1).numpy()).mean(), rtol=1e-3)
    assert 0 <= sfe["kept"] <= 1 and sfe["frechet"] >= 0 and sfe["ms"] > 0
    e4e = result["inversions"]["all"]["W+ encoder"]
    assert e4e["l2"] != sfe["l2"]
    with pytest.raises(UserError, match="'age' is not a trait of small; there are: light, square"):
        runner.edits(tiny.images, {"age": 2.0}, None)
