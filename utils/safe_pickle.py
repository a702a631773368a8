"""Read NVIDIA's StyleGAN `.pkl` files and NumPy pickles without importing or running anything that they name.

A pickle is a program for a small stack machine. `pickle.load` runs it with Python's whole world in reach, and NVIDIA's
networks even carry the source text of their classes, which their own loader executes. Here `pickletools.genops`
decodes the opcodes and `_Machine` interprets the few that hold data. A name in the file is looked up in one table of
pure builders and is never imported; any other name is an error.

Nothing is allocated on the word of the file: each tensor's bytes have to be in it, all together at most the file's
size, and the number of opcodes is bounded too.
"""

from __future__ import annotations

import io
import math
import pickletools
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from utils.errors import UserError

_MAX_OPCODES = 1_000_000  # a StyleGAN2 file with G, D and G_ema has some 50,000
_TORCH_MAGIC = 0x1950A86A20F9469CFC6C  # first number in the stream of torch.save's format before the zip
_DAMAGED = (ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)


@dataclass(eq=False)
class PersistentObject:
    """An object of one of NVIDIA's persistent classes, as inert data: its class's name and what was its `__dict__`."""

    class_name: str
    state: dict[str, Any]

    @property
    def init_kwargs(self) -> dict[str, Any]:
        """Keyword arguments the object was made with, e.g. `img_resolution` (empty if the file has none)."""
        return _dict(self.state.get("_init_kwargs"))


def load(path: Path) -> Any:
    """Read a pickle: numbers, text, lists, dicts, NumPy arrays, CPU tensors and `PersistentObject`s.

    Parameters come back as plain tensors, `EasyDict` and `OrderedDict` as dicts. Raises `UserError` for a file that is
    missing, damaged, or that names anything else.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path or download the file") from error
    if data.startswith(b"PK\x03\x04"):
        raise UserError(f"{path}: found a zip archive as torch.save writes it, wanted a plain pickle; check the path")
    try:
        return _Machine(len(data)).run(io.BytesIO(data))
    except _Refused as error:
        raise UserError(f"{path}: {error}; use a file from a source that you trust") from error
    except _DAMAGED as error:
        raise UserError(f"{path}: damaged, or not a pickle ({type(error).__name__}); download it again") from error


def module_tensors(module: PersistentObject) -> dict[str, torch.Tensor]:
    """Parameters and buffers of an NVIDIA network and its parts, under state-dict keys like `b1024.conv0.weight`."""
    tensors: dict[str, torch.Tensor] = {}
    seen: set[int] = set()

    def visit(part: Any, prefix: str) -> None:
        # A file can put one part in many places, or inside itself: that would never end.
        if not isinstance(part, PersistentObject) or id(part) in seen or prefix.count(".") > 32:
            raise UserError(f"found no tree of NVIDIA modules at {prefix or 'the top'!r}; download the file again")
        seen.add(id(part))
        for group in ("_parameters", "_buffers"):
            for name, value in _dict(part.state.get(group)).items():
                if isinstance(value, torch.Tensor):  # None stands for a parameter that is switched off
                    tensors[f"{prefix}{name}"] = value
        for name, child in _dict(part.state.get("_modules")).items():
            if child is not None:
                visit(child, f"{prefix}{name}.")

    visit(module, "")
    return tensors


class _Refused(Exception):
    """The file asks for something that no weight file needs."""


class _Global(NamedTuple):
    """A name in the file. It stands on the stack as this pair of strings and cannot be called."""

    module: str
    name: str


class _Machine:
    """Interpreter of pickle's opcodes (protocols 0 to 5) for data."""

    def __init__(self, file_size: int) -> None:
        self.bytes_left = file_size  # for tensors and arrays, which copy bytes of the file
        self.opcodes_left = _MAX_OPCODES

    def spend(self, size: int) -> None:
        """Count `size` bytes about to be allocated."""
        self.bytes_left -= size
        if self.bytes_left < 0:
            raise _Refused("its tensors claim more bytes than the file has")

    def run(self, stream: io.BytesIO, persistent: Callable[[Any], Any] | None = None) -> Any:
        """Interpret one pickle and leave the stream behind it; `persistent` resolves torch's storage records."""
        stack: list[Any] = []
        marks: list[int] = []
        memo: dict[int, Any] = {}

        def since_mark() -> list[Any]:
            start = marks.pop()
            items = stack[start:]
            if len(items) != len(stack) - start:
                raise ValueError("stack underflow")
            del stack[start:]
            return items

        arg: Any
        for opcode, arg, _ in pickletools.genops(stream):
            self.opcodes_left -= 1
            if self.opcodes_left < 0:
                raise _Refused(f"it has more than {_MAX_OPCODES} pickle opcodes")
            name = opcode.name
            if name in _LITERALS:
                stack.append(arg)
            elif name in _CONSTANTS:
                stack.append(_CONSTANTS[name]())
            elif name in ("PROTO", "FRAME"):
                pass
            elif name == "MARK":
                marks.append(len(stack))
            elif name == "POP":
                stack.pop()
            elif name == "POP_MARK":
                since_mark()
            elif name == "DUP":
                stack.append(stack[-1])
            elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
                memo[arg] = stack[-1]
            elif name == "MEMOIZE":
                memo[len(memo)] = stack[-1]
            elif name in ("GET", "BINGET", "LONG_BINGET"):
                stack.append(memo[arg])
            elif name == "LIST":
                stack.append(since_mark())
            elif name == "APPEND":
                item = stack.pop()
                _want(stack[-1], list).append(item)
            elif name == "APPENDS":
                items = since_mark()
                _want(stack[-1], list).extend(items)
            elif name == "TUPLE":
                stack.append(tuple(since_mark()))
            elif name in _SHORT_TUPLES:
                size = _SHORT_TUPLES[name]
                items = stack[-size:]
                if len(items) != size:
                    raise ValueError("stack underflow")
                stack[-size:] = [tuple(items)]
            elif name == "DICT":
                stack.append(_fill({}, since_mark()))
            elif name == "SETITEM":
                value, key = stack.pop(), stack.pop()
                _fill(_want(stack[-1], dict), [key, value])
            elif name == "SETITEMS":
                items = since_mark()
                _fill(_want(stack[-1], dict), items)
            elif name == "ADDITEMS":
                items = since_mark()
                _want(stack[-1], set).update(map(_key, items))
            elif name == "FROZENSET":
                stack.append(frozenset(map(_key, since_mark())))
            elif name == "GLOBAL":
                stack.append(_known(*arg.split(" ", 1)))
            elif name == "STACK_GLOBAL":
                attribute, module = stack.pop(), stack.pop()
                stack.append(_known(module, attribute))
            elif name in ("REDUCE", "NEWOBJ"):
                args, builder = _want(stack.pop(), tuple), _want(stack.pop(), _Global)
                stack.append(_BUILDERS[builder](self, *args))
            elif name == "BUILD":
                state = stack.pop()
                self._set_state(stack[-1], state)
            elif name == "BINPERSID" and persistent:
                stack.append(persistent(stack.pop()))
            elif name == "STOP":
                (result,) = stack
                return result
            else:
                raise _Refused(f"it uses the pickle opcode {name}")
        raise EOFError("no STOP")

    def _set_state(self, target: Any, state: Any) -> None:
        """What the opcode BUILD does, for the kinds of object that it may touch."""
        if isinstance(target, np.ndarray):
            _, shape, dtype, fortran, raw = state
            raw = raw.encode("latin-1") if isinstance(raw, str) else raw  # from Python 2
            if _count(shape) * _plain(dtype).itemsize != len(_want(raw, bytes)):
                raise _Refused("an array in it claims another size than its data has")
            self.spend(len(raw))
            target.__setstate__((1, shape, dtype, bool(fortran), raw))  # type: ignore[arg-type]
        elif isinstance(target, np.dtype):
            order, details = state[1], tuple(state[2:8])
            if order not in ("<", ">", "|", "=") or details != (None, None, None, -1, -1, 0):
                raise _Refused("it has a NumPy type that is not a plain number")
            target.__setstate__((3, order, *details))  # type: ignore[attr-defined]
        elif not isinstance(target, dict):  # attributes of a dict (torch's `_metadata`) are let go
            raise _Refused(f"it sets attributes of a {type(target).__name__}")


def _want(value: Any, kind: type | tuple[type, ...]) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{kind} wanted")
    return value


def _dict(value: Any) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}


def _key(value: Any) -> Any:
    """A dict key or set member: plain values only, since hashing deeply nested tuples overflows the C stack."""
    if not isinstance(value, (str, bytes, int, float, type(None))):
        raise TypeError("plain key wanted")
    return value


def _fill(target: dict[Any, Any], items: list[Any]) -> dict[Any, Any]:
    if len(items) % 2:
        raise ValueError("a key without value")
    target.update(zip(map(_key, items[::2]), items[1::2], strict=True))
    return target


def _known(module: Any, name: Any) -> _Global:
    """The name as an entry of the table; old and new spellings are one."""
    module, name = _want(module, str), _want(name, str)
    found = _Global(_MODULE_NAMES.get(module, module), name)
    if found not in _BUILDERS and found not in _STORAGES and found != _NDARRAY:
        shown = re.sub(r"[^\w.<>-]", "?", f"{module}.{name}"[:80])
        raise _Refused(f"names the forbidden global {shown}, so nothing was loaded")
    return found


def _count(shape: Any) -> int:
    """Number of elements of a shape, which is up to 32 whole numbers from 0."""
    if len(_want(shape, tuple)) > 32 or any(not 0 <= _want(size, int) < 2**63 for size in shape):
        raise ValueError("bad shape")
    return math.prod(shape)


def _plain(dtype: Any) -> np.dtype:
    if _want(dtype, np.dtype).kind not in "biufc":
        raise _Refused("it has a NumPy type that is not a plain number")
    return dtype


# ---- Builders: what a name in the file stands for. All get the machine and the arguments that the file gives. ----


def _empty_dict(machine: _Machine) -> dict[Any, Any]:
    """An `OrderedDict` or `EasyDict`, which SETITEMS fills."""
    return {}


def _persistent(machine: _Machine, meta: Any) -> PersistentObject:
    """`meta` is {type, version, module_src, class_name, state}; the source text is dropped unread."""
    return PersistentObject(_want(meta["class_name"], str), _want(meta["state"], dict))


def _encoded(machine: _Machine, text: Any, encoding: Any) -> bytes:
    """Bytes as Python 3 writes them in protocol 2: a call of `_codecs.encode(text, 'latin1')`."""
    if encoding != "latin1":
        raise _Refused("it has bytes in another encoding than latin1")
    machine.spend(len(_want(text, str)))
    return text.encode("latin-1")


def _dtype(machine: _Machine, code: Any, align: Any = False, copy: Any = True) -> np.dtype:
    if not re.fullmatch(r"[biufc]\d{1,2}", _want(code, str)):
        raise _Refused("it has a NumPy type that is not a plain number")
    return np.dtype(code, copy=True)  # a copy, because BUILD sets its byte order


def _array(machine: _Machine, kind: Any, shape: Any, code: Any) -> np.ndarray:
    """An empty array, which BUILD fills."""
    return np.empty(0, np.int8)


def _array_of_buffer(machine: _Machine, raw: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    machine.spend(len(_want(raw, (bytes, bytearray))))
    return np.frombuffer(bytearray(raw), _plain(dtype)).reshape(_want(shape, tuple), order="F" if order == "F" else "C")


def _scalar(machine: _Machine, dtype: Any, raw: Any) -> Any:
    raw = raw.encode("latin-1") if isinstance(raw, str) else raw
    (value,) = np.frombuffer(_want(raw, bytes), _plain(dtype))
    return value


def _parameter(machine: _Machine, data: Any, requires_grad: Any = True, hooks: Any = None) -> torch.Tensor:
    return _want(data, torch.Tensor)


def _tensor(
    machine: _Machine, storage: Any, offset: Any, size: Any, stride: Any, requires_grad: Any = False, hooks: Any = None
) -> torch.Tensor:
    _count((offset, *stride))  # checks that these are sound numbers too
    end = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) + 1
    if max(_count(size), end) > _want(storage, torch.Tensor).numel():
        raise _Refused("a tensor in it claims more elements than its storage has")
    return storage.as_strided(size, stride, offset)


def _storage(machine: _Machine, data: Any) -> torch.Tensor:
    """A storage inside the pickle, in torch.save's format before the zip, as a tensor of one dimension.

    The format: pickles of a magic number, a version, facts of the machine, the object (a reference to the storage) and
    the list of keys; then a count (int64) and the elements.
    """
    machine.spend(len(_want(data, bytes)))
    stream = io.BytesIO(data)
    magic, _version, _system = (machine.run(stream) for _ in range(3))
    if magic != _TORCH_MAGIC:
        raise ValueError("no torch.save stream")
    _, kind, _name, _device, count, view = machine.run(stream, persistent=lambda record: record)
    machine.run(stream)
    dtype = _STORAGES[kind]
    raw = memoryview(data)[stream.tell() + 8 :]
    size = _want(count, int) * dtype.itemsize
    if view is not None or not 0 <= size <= len(raw) or int.from_bytes(stream.read(8), "little") != count:
        raise _Refused("a tensor in it claims another size than its data has")
    return torch.frombuffer(bytearray(raw[:size]), dtype=dtype) if size else torch.empty(0, dtype=dtype)


_LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
}
_SHORT_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MODULE_NAMES = {
    "dnnlib.util": "dnnlib",
    "numpy.core.multiarray": "numpy._core.multiarray",
    "numpy.core.numeric": "numpy._core.numeric",
}
_NDARRAY = _Global("numpy", "ndarray")
_BUILDERS: dict[_Global, Callable[..., Any]] = {
    _Global("collections", "OrderedDict"): _empty_dict,
    _Global("dnnlib", "EasyDict"): _empty_dict,
    _Global("_codecs", "encode"): _encoded,
    _Global("torch_utils.persistence", "_reconstruct_persistent_obj"): _persistent,
    _Global("numpy", "dtype"): _dtype,
    _Global("numpy._core.multiarray", "_reconstruct"): _array,
    _Global("numpy._core.multiarray", "scalar"): _scalar,
    _Global("numpy._core.numeric", "_frombuffer"): _array_of_buffer,
    _Global("torch._utils", "_rebuild_parameter"): _parameter,
    _Global("torch._utils", "_rebuild_tensor_v2"): _tensor,
    _Global("torch.storage", "_load_from_bytes"): _storage,
}
_STORAGES = {
    _Global("torch", f"{name}Storage"): dtype
    for name, dtype in {
        "Double": torch.float64,
        "Float": torch.float32,
        "Half": torch.float16,
        "BFloat16": torch.bfloat16,
        "Long": torch.int64,
        "Int": torch.int32,
        "Short": torch.int16,
        "Char": torch.int8,
        "Byte": torch.uint8,
        "Bool": torch.bool,
    }.items()
}
