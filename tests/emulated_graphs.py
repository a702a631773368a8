"""CUDA graphs without a GPU, under the names of torch.cuda: operators are recorded, and replayed in the same memory."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Graph:
    """In the place of torch.cuda.CUDAGraph."""

    def __init__(self) -> None:
        self.calls: list[tuple[Callable, Any, Any, Any]] = []  # operator, its arguments, and its result

    def replay(self) -> None:
        """Run the operators again; each writes its result where it wrote it when it was recorded."""
        for operator, arguments, options, result in self.calls:
            read = {x.untyped_storage()._cdata for x in tree_leaves((arguments, options)) if isinstance(x, Tensor)}
            again = operator(*arguments, **options)
            for old, new in zip(tree_leaves(result), tree_leaves(again), strict=True):
                if isinstance(old, Tensor) and old.untyped_storage()._cdata not in read:  # no view, not in place
                    old.copy_(new)


class _Recorder(TorchDispatchMode):
    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        self.graph.calls.append((function, args, kwargs or {}, result))
        return result


class _Stream:
    def wait_stream(self, stream: "_Stream") -> None:
        pass


@contextmanager
def record(graph: Graph, pool: Any = None, capture_error_mode: str = "global") -> Iterator[None]:
    """In the place of torch.cuda.graph."""
    with _Recorder(graph):
        yield


def emulate_graphs(monkeypatch: pytest.MonkeyPatch, record: Callable[..., Any] = record) -> list[Graph]:
    """The graphs that are recorded from now on; `record` may take the recorder's place."""
    graphs: list[Graph] = []

    class Listed(Graph):
        def __init__(self) -> None:
            super().__init__()
            graphs.append(self)

    for name, value in {
        "CUDAGraph": Listed, "graph": record, "graph_pool_handle": tuple, "Stream": _Stream,
        "current_stream": _Stream, "stream": lambda stream: nullcontext(), "device": lambda device: nullcontext(),
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, value)
    return graphs
