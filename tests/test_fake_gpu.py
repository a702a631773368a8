"""What a GPU would do, without one: all tensors of edits and trainings on one device, and waits for the GPU.

Waits for the GPU and copies to it are noted (see fake_gpu.py), and these tests freeze them: a new one in a step or an
edit fails here. Where one has gone, take it off the list.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from emulated_graphs import emulate_graphs
from fake_gpu import GPU, FakeGpu, fake_gpu
from PIL import Image
from torch import nn
from training_toy import TrainingToy, shared_toy

from arguments.domain import load_domain
from arguments.loader import load_options
from arguments.loop_options import EncoderTrainConfig, GeneratorTrainConfig, LoopConfig, PredictorTrainConfig
from datasets.training_images import TrainingImages
from editings.latent_editor import LatentEditor
from models.inference import METHODS, Method
from models.stylegan2.ops import backend, fused_bias_act, native
from training.distributed import Process
from training.ema import MovingAverage
from training.loop import Plan, Task, TrainingLoop
from training.losses import LossBuilder
from training.optimizers import Ranger
from training.parts import build_discriminator, build_optimizer, build_stage
from training.tasks.encoder import EncoderTask
from training.tasks.generator import GeneratorTask
from training.tasks.network import NetworkTask
from training.tasks.predictor import PredictorTask
from training.tasks.sfe import SFETask
from utils.errors import UserError
from utils.images import save_image

ROOT = Path(__file__).resolve().parent.parent
AVATARS = ROOT / "pretrained_models" / "avatars"
PROCESS = Process(GPU)
LOSSES = "training/loop.py, _read"  # of all losses and gradients at once, the one wait of a step
CUDNN = torch.backends.cudnn.is_available()  # without, fake convolutions do not know its layouts
SENT = "utils/devices.py, send"  # from pinned memory


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGpu]:
    """One that runs the custom ops' kernels."""
    monkeypatch.setattr(backend, "ops_for", lambda x: torch.ops.sfe)
    with fake_gpu(monkeypatch) as notes:
        yield notes


def test_devices_are_not_mixed(gpu: FakeGpu) -> None:
    """Of the tests themselves: an operator, and an op of ours, that get a tensor on the CPU."""
    x, bias = torch.rand(1, 3, 4, 4, device=GPU), torch.rand(3)
    with pytest.raises(RuntimeError, match=r"cuda:0.*cpu"):
        x + bias.reshape(3, 1, 1)
    with pytest.raises(ValueError, match="bias is on cpu, but x on cuda:0"):
        fused_bias_act(x, bias)
    assert not gpu.waits and not gpu.copies


def test_waits_and_copies_are_noted(gpu: FakeGpu) -> None:
    x = torch.rand(3, device=GPU)
    for read in (lambda: x.sum().item(), x.tolist, x.cpu, lambda: bool(x[0] > 0), lambda: int(x[0])):
        gpu.clear()
        read()
        assert list(gpu.waits.values()) == [1] and not gpu.copies
    y = torch.rand(3)
    for write in (lambda: torch.tensor([1.0], device=GPU), lambda: y.to(GPU), lambda: x.copy_(y)):
        gpu.clear()
        write()
        assert list(gpu.copies.values()) == list(gpu.waits.values()) == [1]
    for write in (lambda: y.to(GPU, non_blocking=True), lambda: x.copy_(y, non_blocking=True)):
        gpu.clear()
        write()
        assert list(gpu.copies.values()) == [1] and not gpu.waits
    gpu.clear()
    (x * 2).to(torch.float16).contiguous().to(GPU)
    assert not gpu.copies and not gpu.waits


def test_casts_of_frozen_weights_are_noted(gpu: FakeGpu) -> None:
    frozen, learned = torch.rand(3, 3, device=GPU), torch.rand(3, 3, device=GPU, requires_grad=True)
    half = frozen.half()
    for weight, casts in ((lambda: learned, 0), (lambda: half, 0), (lambda: frozen, 1), (lambda: 2 * frozen[:2], 1)):
        gpu.clear()
        x = torch.rand(3, 3).to(GPU)
        with torch.autocast("cuda", torch.float16):
            x @ weight().T
        assert sum(gpu.casts.values()) == casts


@pytest.mark.skipif(torch.cuda.is_available(), reason="the GPU here runs the kernels")
def test_a_gpu_that_does_not_run_the_kernels(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """One warning and plain PyTorch, or an error where SFE_OPS asks for one."""
    backend.forget()
    with fake_gpu(monkeypatch):
        x = torch.rand(1, 3, 4, 4, device=GPU)
        assert fused_bias_act(x).device == fused_bias_act(x).device == GPU
        (warning,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
        assert warning.startswith("custom ops: plain PyTorch for cuda:0, torch.float32 (slower): ")
        monkeypatch.setenv("SFE_OPS", "cuda")
        backend.forget()
        with pytest.raises(UserError, match="SFE_OPS is cuda, but the kernels do not run on cuda:0: "):
            fused_bias_act(x)
    monkeypatch.undo()
    backend.forget()


def avatars(name: str, dtype: torch.dtype, cuda_graph: bool = False) -> tuple[Method, LatentEditor]:
    domain = load_domain("avatars")
    checkpoint = AVATARS / ("sfe_editor.pt" if name == "fse_full" else "sfe_inverter.pt")
    editor = LatentEditor(domain, device=GPU)
    return METHODS[name](domain, str(checkpoint), GPU, editor, dtype, cuda_graph=cuda_graph), editor


@pytest.mark.parametrize("name, ops, dtype, operators", [
    ("fse_full", "compiled", torch.float32, 172), ("fse_full", "compiled", torch.float16, 195),
    ("fse_full", "plain", torch.float32, 256), ("fse_inverter", "compiled", torch.float32, 119),
])  # fmt: skip
def test_edits(
    gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch, name: str, ops: str, dtype: torch.dtype, operators: int
) -> None:
    if ops == "plain":
        monkeypatch.setattr(backend, "ops_for", lambda x: native)
    method, editor = avatars(name, dtype)
    x, mask = torch.rand(1, 3, 64, 64), torch.rand(1, 1, 64, 64)
    inversion = method.invert(x)
    assert inversion.features.dtype == dtype and inversion.w.dtype == torch.float32
    for images in (method.reconstruct(inversion), method.e4e_images(inversion)):
        assert images.device == GPU and images.shape == (1, 3, 64, 64) and images.dtype == torch.float32
    gpu.clear()
    method.invert(x)
    assert gpu.copies == {SENT: 1} and not gpu.waits
    for directions in editor.available().values():
        edits = [(direction, [2.0, -3.0]) for direction in list(directions)[:1]]
        assert method.edit(inversion, edits).device == GPU  # reads the direction's file
        gpu.clear()
        assert method.edit(inversion, edits, mask).shape == (2, 3, 64, 64)
        assert gpu.copies == {SENT: 1} and not gpu.waits  # the mask; powers stay Python's numbers
    gpu.clear()
    method.edit(method.invert(x), edits)
    assert not gpu.casts
    first = {"models/frozen_layers.py, forward": 2}  # each encoder's first conv, which reads the image
    assert (gpu.channels_first == first) == (dtype == torch.float16) or not CUDNN
    counts = []
    for powers in ([2.0], [1.0, 2.0], [1.0, 2.0, 3.0, 4.0, 5.0]):
        gpu.clear()
        method.edit(inversion, [(next(iter(editor.available()["interfacegan"])), powers)])
        counts.append(len(gpu.operators))
    latents = 2 if name == "fse_full" else 1
    assert counts[0] == operators and counts[2] - counts[1] == 3 * latents  # each further power is written by one


@pytest.mark.parametrize("name, graphs, operators", [("fse_full", 8, 33), ("fse_inverter", 5, 12)])
def test_what_cuda_graphs_record(
    gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch, name: str, graphs: int, operators: int
) -> None:
    """The same operators as each run before; none that waits for the GPU, or copies to it."""
    recorded = []

    @contextmanager
    def record(*_: object, **__: object) -> Iterator[None]:
        before = list(gpu.operators)
        gpu.clear()
        yield
        recorded.append(list(gpu.operators))
        assert before[-len(gpu.operators) :] == before[-2 * len(gpu.operators) : -len(gpu.operators)] == gpu.operators
        assert not gpu.waits and not gpu.copies

    emulate_graphs(monkeypatch, record)
    method, editor = avatars(name, torch.float16, cuda_graph=True)
    direction = next(iter(editor.available()["interfacegan"]))
    for _ in range(2):
        gpu.clear()
        inversion = method.invert(torch.rand(1, 3, 64, 64))
        method.edit(inversion, [(direction, [2.0])])
    assert len(recorded) == graphs
    gpu.clear()
    method.edit(inversion, [(direction, [-3.0])])
    assert len(gpu.operators) == operators and not gpu.waits and not gpu.copies


def test_updates_start_as_many_kernels_for_many_parameters(gpu: FakeGpu) -> None:
    """Ranger's and the moving average's; only to centralise a matrix's gradient takes two of its own."""
    counts = []
    for vectors, matrices in ((2, 1), (20, 1), (20, 10)):
        shapes = [(8,)] * vectors + [(8, 8)] * matrices
        network = nn.ParameterList(nn.Parameter(torch.rand(*shape, device=GPU)) for shape in shapes)
        optimizer, average = Ranger(network.parameters()), MovingAverage(network, 0.9)
        for parameter in network.parameters():
            parameter.grad = torch.rand_like(parameter)
        optimizer.step()
        gpu.clear()
        optimizer.step()
        average.update()
        counts.append(len(gpu.operators))
        assert not gpu.waits and not gpu.copies
    assert counts == [10, 10, 10 + 2 * 9]


def loop_of(task: Task, folder: Path) -> TrainingLoop:
    return TrainingLoop(task, Plan(1000, 1, 1, 1), PROCESS, folder)


def one_step(loop: TrainingLoop, step: int, gpu: FakeGpu) -> None:
    """The optimizers have their states from steps before."""
    loop.step(step)
    gpu.clear()
    loop.step(step)
    assert all(p.device == GPU for network in loop.state.networks.values() for p in network.parameters())


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> TrainingToy:
    return shared_toy(tmp_path_factory.getbasetemp())


@pytest.mark.parametrize("stage, precision", [(1, "fp32"), (1, "bf16"), (2, "fp16")])
def test_training_of_both_stages(
    toy: TrainingToy, gpu: FakeGpu, stage: int, precision: str, tmp_path: Path
) -> None:  # fmt: skip
    """A step with the discriminator and its penalty."""
    options = ["train.train_dis=True", "train.dis_train_start_step=15", f"train.precision={precision}"]
    config = toy.config(stage, "fake_gpu", *options)
    built = build_stage(config, toy.domain, GPU)
    discriminator = build_discriminator(config, toy.domain, GPU)
    losses = LossBuilder(config.encoder_losses, config.disc_losses, toy.domain.encoder_size, GPU)
    optimizer = build_optimizer("ranger", built.encoder.parameters(), config.optimizers)
    disc_optimizer = build_optimizer("adam", discriminator.parameters(), config.optimizers)
    images = TrainingImages(toy.images, toy.domain.generator.size, seed=1, workers=0)
    task = SFETask(config, PROCESS, built, optimizer, discriminator, disc_optimizer, losses, images, None, None)
    one_step(loop_of(task, tmp_path), 16, gpu)
    assert gpu.waits == {LOSSES: 1}
    assert gpu.copies == {SENT: 1}
    half = precision != "fp32"
    assert gpu.casts == ({"models/stylegan2/discriminator.py, forward": 11} if half else {})  # each once, it learns
    if precision == "fp16" and CUDNN:  # for bf16, cuDNN would have to ask the GPU
        first = {"models/backbone.py, forward": 2, "models/irse.py, stages": 1}  # convs that read images
        assert gpu.channels_first == {**first, "models/stylegan2/discriminator.py, forward": 4}  # after minibatch_std


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four images with labels."""
    random = np.random.default_rng(0)
    rows = []
    for i in range(4):
        save_image(Image.fromarray(random.integers(0, 256, (64, 64, 3), np.uint8)), tmp_path / "images" / f"{i}.png")
        rows.append({"file": f"{i}.png", "hat": ["none", "cap"][i % 2], "glasses": "round" if i else None})
    (tmp_path / "images" / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


@pytest.mark.parametrize("kind, task", [
    (GeneratorTrainConfig, GeneratorTask), (EncoderTrainConfig, EncoderTask), (PredictorTrainConfig, PredictorTask),
])  # fmt: skip
def test_training_of_a_domains_networks(
    gpu: FakeGpu, folder: Path, kind: type[LoopConfig], task: type[NetworkTask]
) -> None:
    (folder / "config.yaml").write_text("train: {batch_size: 4}")
    options = [f"exp.config_dir={folder}", "exp.config=config.yaml", f"data.train_dir={folder / 'images'}"]
    config = load_options(kind, options)
    one_step(loop_of(task(config, load_domain("avatars"), PROCESS), folder), 16, gpu)
    assert gpu.waits == {LOSSES: 1}
    assert gpu.copies == {SENT: 2 if task is PredictorTask else 1}  # labels, too
