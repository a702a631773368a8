"""A GPU whose tensors hold no numbers: PyTorch's FakeTensors on cuda:0.

Refused are operators that mix devices, and those whose result's size depends on numbers, such as nonzero. What a GPU
would be waited for, and what is copied to and from it, is noted with the function that asks for it. Autograd's engine
wants a real GPU, so that backward only gives every leaf it would reach a gradient.
"""

import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ROOT = Path(__file__).resolve().parent.parent
GPU = torch.device("cuda", 0)
aten = torch.ops.aten
HALF = (torch.float16, torch.bfloat16)
COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd
VALUES: dict[torch.dtype, Any] = {torch.bool: True}  # what reading a fake tensor gives; 1 for all others


class FakeGpu(TorchDispatchMode):
    """Notes what happens, as `file.py, function` with how often.

    `waits`: for the GPU. `copies`: to it. `casts`: of frozen weights. `channels_first`: convolutions of which the image
    or the weight does not have its channels innermost. `operators`: the names of all that compute, in order.

    A copy to it that is not `non_blocking` is a wait, too: PyTorch waits for all that the GPU has to do before it.
    Casts are those to half precision of what depends on nothing that has been made since `clear`, and does not learn.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self.copies: Counter[str] = Counter()
        self.casts: Counter[str] = Counter()
        self.channels_first: Counter[str] = Counter()
        self.operators: list[str] = []
        self._made: dict[int, torch.UntypedStorage] = {}  # memory written since `clear`
        self._read: tuple[str, int] | None = None  # where a number was read last, at which operator

    def clear(self) -> None:
        """Forget all notes."""
        self.waits.clear()
        self.copies.clear()
        self.casts.clear()
        self.channels_first.clear()
        self.operators.clear()
        self._made.clear()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        packet = function.overloadpacket
        if function.namespace == "prim":  # what device a tensor is on
            return function(*args, **(kwargs or {}))
        if function.has_kernel_for_dispatch_key(COMPOSITE):  # in inference mode
            with self:
                return function.decompose(*args, **(kwargs or {}))
        if packet is aten._local_scalar_dense and isinstance(args[0], FakeTensor):
            return self._number(args[0])
        if packet is aten._pin_memory and isinstance(args[0], FakeTensor):
            return args[0]
        result = function(*args, **(kwargs or {}))
        if packet is not aten.empty_like and not _is_view(function, args, result):
            self.operators.append(str(function))
        if packet is aten._to_copy or packet is aten.copy_:
            blocking = not (kwargs or {}).get("non_blocking") and True not in args[2:]
            self._copied(args[0] if packet is aten._to_copy else args[1], result, blocking)
        if packet is aten.convolution and any(x.stride(1) > 1 for x in args[:2]):
            self.channels_first[_place()] += 1
        self._follow(packet, args, result)
        return result

    def _follow(self, packet: Any, args: Any, result: Any) -> None:
        """Count a cast of frozen weights, and note what has been made from other things."""
        read = [x for x in tree_leaves(args) if isinstance(x, Tensor) and _on_gpu(x)]
        if read and all(not x.requires_grad and _memory(x)[0] not in self._made for x in read):
            if packet is aten._to_copy and result.dtype in HALF and read[0].dtype not in HALF:
                self.casts[_place()] += 1
        else:
            self._made.update(_memory(x) for x in tree_leaves(result) if isinstance(x, Tensor) and _on_gpu(x))

    def _number(self, tensor: Tensor) -> Any:
        here = (_place(), len(self.operators))
        if _on_gpu(tensor) and self._read != here:  # a list is read as a whole
            self.waits[here[0]] += 1
            self._read = here
        return VALUES.get(tensor.dtype, 1.0 if tensor.is_floating_point() else 1)

    def _copied(self, source: Any, result: Tensor, blocking: bool) -> None:
        if isinstance(source, Tensor) and _on_gpu(source) != _on_gpu(result):
            if blocking or _on_gpu(source):
                self.waits[_place()] += 1
            if _on_gpu(result):
                self.copies[_place()] += 1


@contextmanager
def fake_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGpu]:
    """Tensors made within the block are fake; files are read as usual, and modules go to the GPU by `to`."""
    mode, notes = FakeTensorMode(allow_non_fake_inputs=True), FakeGpu()
    monkeypatch.setattr(nn.Module, "to", _module_to)
    monkeypatch.setattr(FakeTensor, "__deepcopy__", _deepcopy)
    monkeypatch.setattr(Tensor, "backward", _backward)
    monkeypatch.setattr(torch.autograd, "grad", _grad)
    monkeypatch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)  # or autocast is off
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    for module in list(sys.modules.values()):
        if (getattr(module, "__file__", None) or "").startswith(str(ROOT)):
            for name, value in list(vars(module).items()):
                if callable(value) and getattr(value, "__module__", "") == "models.weights" and "load" in name:
                    monkeypatch.setattr(module, name, _real(value))
    with mode, notes:
        yield notes


def _real(load: Callable) -> Callable:
    @wraps(load)
    def run(*args: Any, **kwargs: Any) -> Any:
        with unset_fake_temporarily():
            return load(*args, **kwargs)

    return run


_to = nn.Module.to


def _module_to(module: nn.Module, *args: Any, **kwargs: Any) -> nn.Module:
    """`nn.Module.to`, which cannot replace fake parameters."""
    if not any(isinstance(value, torch.device) and value.type == "cuda" for value in (*args, *kwargs.values())):
        return _to(module, *args, **kwargs)
    moved: dict[int, tuple[Tensor, Tensor]] = {}  # the originals, too: ids of dead ones would come back
    for part in module.modules():
        for store in (part._parameters, part._buffers):
            for name, value in store.items():
                if value is not None and not _on_gpu(value):
                    if id(value) not in moved:
                        tensor: Tensor = value.detach().to(*args, **kwargs)
                        if isinstance(value, nn.Parameter):
                            tensor = nn.Parameter(tensor, requires_grad=value.requires_grad)
                        moved[id(value)] = tensor, value
                    store[name] = moved[id(value)][0]  # type: ignore[assignment]
    return module


def _deepcopy(tensor: Tensor, memo: dict[int, Any]) -> Tensor:
    """As Tensor's own, which would read the memory that a fake one does not have, and corrupt the process's."""
    copied = torch.empty_like(tensor.detach())
    memo[id(tensor)] = nn.Parameter(copied, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else copied
    return memo[id(tensor)]


def _backward(loss: Tensor, *_: Any, **__: Any) -> None:
    nodes, seen = [loss.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        nodes += [following for following, _ in node.next_functions]
        if (leaf := getattr(node, "variable", None)) is not None:
            leaf.grad = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad + torch.zeros_like(leaf)


def _grad(outputs: Tensor, inputs: Tensor, **_: Any) -> tuple[Tensor]:
    """Of the inputs' shape, and dependent on all that the outputs depend on."""
    return (torch.zeros_like(inputs) + 0 * outputs,)


def _on_gpu(tensor: Tensor) -> bool:
    return tensor.device.type == "cuda"


def _is_view(function: Any, args: Any, result: Any) -> bool:
    """Whether the result is an argument's memory as it is."""
    read = {_memory(x)[0] for x in tree_leaves(args) if isinstance(x, Tensor)}
    written = {_memory(x)[0] for x in tree_leaves(result) if isinstance(x, Tensor)}
    return bool(read & written) and not function._schema.is_mutable


def _memory(tensor: Tensor) -> tuple[int, torch.UntypedStorage]:
    storage = tensor.untyped_storage()
    return storage._cdata, storage


def _place() -> str:
    """The innermost function of the project."""
    for frame in reversed(traceback.extract_stack()):
        path = Path(frame.filename)
        if path.is_relative_to(ROOT) and not path.is_relative_to(ROOT / "tests") and ".venv" not in path.parts:
            return f"{path.relative_to(ROOT)}, {frame.name}"
    return "elsewhere"
