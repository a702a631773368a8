"""The five networks in other runtimes, for `benchmarks/edit.py --against`: the plain modules, eager or compiled by
torch.compile, and as ONNX Runtime and OpenVINO run them. A runtime is wanted only where it is measured:
`pip install onnx onnxscript onnxruntime openvino`.
"""

import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from arguments.domain import DomainConfig
from configs.paths import weight_file
from models.inference import FSEFull
from models.stylegan2.generator import Generator
from models.stylegan2.ops import backend
from models.weights import load_e4e, load_feature_editor, load_generator

RUNTIMES = ("eager", "compile", "onnxruntime", "openvino")
REPEATS = 5

Run = Callable[[], object]


class Decoder(nn.Module):
    """A generator whose styles are separate inputs, as exporters want them."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, *styles: Tensor) -> Tensor:
        return self.generator(list(styles))


@contextmanager
def plain_ops() -> Iterator[None]:
    """The custom ops by plain PyTorch, as SFE_OPS=native has them."""
    before = os.environ.get("SFE_OPS")
    os.environ["SFE_OPS"] = "native"
    backend.forget()
    try:
        yield
    finally:
        os.environ.pop("SFE_OPS")
        if before is not None:
            os.environ["SFE_OPS"] = before
        backend.forget()
        backend.ops_for(torch.empty(0))  # has the kernels tested now, and not while ours are timed


def compare(
    runtimes: Sequence[str], method: FSEFull, domain: DomainConfig, x: Tensor, maps: Tensor, styles: list[Tensor]
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:  # fmt: skip
    """Median seconds of ours, network -> seconds, and of the runtimes, runtime -> network -> seconds; taken in turns.

    x B×3×S×S, maps B×C×h×w and the generator's styles are what the networks read.
    """
    inverter, editor = load_feature_editor(method.checkpoint, domain)
    e4e = load_e4e(weight_file(domain.weights["e4e"]), domain)
    generator = load_generator(weight_file(domain.weights["generator"]), domain.generator)
    plain: dict[str, tuple[nn.Module, tuple[Tensor, ...]]] = {
        "backbone": (inverter.fs_backbone, (x,)), "fuser": (inverter.fuser, (maps, maps)),
        "editor": (editor, (maps, maps)), "e4e": (e4e, (x,)), "decoder": (Decoder(generator), tuple(styles)),
    }  # fmt: skip
    ours: dict[str, Run] = {
        "backbone": lambda: method.inverter.fs_backbone(x), "fuser": lambda: method.inverter.fuser(maps, maps),
        "editor": lambda: method.feature_editor(maps, maps), "e4e": lambda: method.e4e(x),
        "decoder": lambda: method.decoder(styles),
    }  # fmt: skip
    our_times: dict[str, list[float]] = {name: [] for name in plain}
    theirs: dict[str, dict[str, float]] = {runtime: {} for runtime in runtimes}
    with torch.inference_mode():
        for runtime in runtimes:
            for name, (module, inputs) in plain.items():
                with plain_ops():
                    run = prepared(runtime, module, inputs)
                times = []
                for _ in range(REPEATS):
                    our_times[name].append(seconds(ours[name]))
                    with plain_ops():
                        times.append(seconds(run))
                theirs[runtime][name] = statistics.median(times)
    return {name: statistics.median(times) for name, times in our_times.items()}, theirs


def prepared(runtime: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> Run:
    """The module in the runtime, after a first run."""
    run = {"eager": eager, "compile": compiled, "onnxruntime": onnxruntime, "openvino": openvino}[runtime](
        module, inputs
    )
    run()
    return run


def eager(module: nn.Module, inputs: tuple[Tensor, ...]) -> Run:
    return lambda: module(*inputs)


def compiled(module: nn.Module, inputs: tuple[Tensor, ...]) -> Run:
    network = torch.compile(module)
    return lambda: network(*inputs)


def onnxruntime(module: nn.Module, inputs: tuple[Tensor, ...]) -> Run:
    import onnxruntime

    program = torch.onnx.export(module, inputs, dynamo=True, verbose=False)
    assert program is not None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    model = program.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    given = {node.name: value.numpy() for node, value in zip(session.get_inputs(), inputs, strict=True)}
    return lambda: session.run(None, given)


def openvino(module: nn.Module, inputs: tuple[Tensor, ...]) -> Run:
    import openvino

    options = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": "f32"}
    network = openvino.compile_model(openvino.convert_model(module, example_input=inputs), "CPU", options)
    given = [value.numpy() for value in inputs]
    return lambda: network(given)


def seconds(run: Run) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
