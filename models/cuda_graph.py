"""CUDA graphs: the kernels of a function, recorded for each shape of its inputs, and started as one.

Never run on a GPU. Tests replay graphs on the CPU. Others take a GPU whose tensors hold no numbers, and check that
nothing recorded waits for the GPU or copies from the CPU.
"""

from collections.abc import Callable
from threading import Lock
from typing import Any

import torch
from torch import Tensor

SHAPES = 8  # of a function that are recorded; others run as ever
WARM_UPS = 3  # runs before the recording, in which kernels are compiled and algorithms chosen


class CudaGraphs:
    """The graphs of one GPU. They share their memory, so that one runs at a time."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._lock = Lock()
        self._pool = torch.cuda.graph_pool_handle()

    def of(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, by graphs: an edit's hundreds of kernels are small, and take the CPU longer than the GPU.

        Arguments and results are tensors on the GPU, lists and tuples of them, and in arguments also constants. For
        arguments of the same shapes, dtypes, strides and constants it must start the same kernels: it draws no random
        numbers, reads no number of a tensor, and copies nothing from the CPU. It is called in inference mode.
        """
        graphs: dict[Any, _Graph] = {}

        def run(*arguments: Any) -> Any:
            key = _key(arguments)
            with self._lock, torch.cuda.device(self._device):
                if key not in graphs:
                    if len(graphs) == SHAPES:
                        return function(*arguments)
                    graphs[key] = _Graph(function, arguments, self._pool)
                return graphs[key].run(arguments)

        return run


class _Graph:
    """A function for arguments of one shape. It reads and writes the same memory at each run."""

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...], pool: Any) -> None:
        self._arguments = _copy(arguments)
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UPS):
                function(*self._arguments)
        torch.cuda.current_stream().wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        # Other threads may go on to copy results to the CPU.
        with torch.cuda.graph(self._graph, pool=pool, capture_error_mode="thread_local"):
            self._results = function(*self._arguments)

    def run(self, arguments: tuple[Any, ...]) -> Any:
        torch._foreach_copy_(_tensors(self._arguments), _tensors(arguments))
        self._graph.replay()
        return _copy(self._results)  # the next run overwrites them


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [tensor for part in value for tensor in _tensors(part)] if isinstance(value, (list, tuple)) else []


def _copy(value: Any) -> Any:
    """The same with its tensors in other memory, by one kernel."""
    copied = _map(value, torch.empty_like)
    torch._foreach_copy_(_tensors(copied), _tensors(value))
    return copied


def _key(value: Any) -> Any:
    return _map(value, lambda tensor: (tensor.shape, tensor.stride(), tensor.dtype), tuple)


def _map(value: Any, change: Callable[[Tensor], Any], sequence: Callable[..., Any] | None = None) -> Any:
    """The value with its tensors changed; lists and tuples are made by `sequence`, or stay what they are."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, (list, tuple)):
        return (sequence or type(value))(_map(part, change, sequence) for part in value)
    return value
