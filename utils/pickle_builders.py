"""What the names in a pickle stand for: pure builders of arrays and tensors, which check all that the file claims.

Each builder gets the reader and the arguments that the file gives. See utils/safe_pickle.py.
"""

import io
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

_TORCH_MAGIC = 0x1950A86A20F9469CFC6C  # first number in the stream of torch.save's format before the zip


class RefusedError(Exception):
    """The file asks for something that no weight file needs."""


class Global(NamedTuple):
    """A name in the file. On the stack it is this pair of strings, which cannot be called."""

    module: str
    name: str


@dataclass(eq=False)
class PersistentObject:
    """An object of one of NVIDIA's persistent classes, as inert data: what was its `__dict__`."""

    state: dict[str, Any]


class Reader(Protocol):
    """The reader of the file, as builders use it."""

    def spend(self, size: int) -> None:
        """Count bytes that are about to be allocated."""

    def run(self, stream: io.BytesIO, persistent: Callable[[Any], Any] | None = None) -> Any:
        """Read a pickle inside the pickle."""


def expect(value: Any, kind: type | tuple[type, ...]) -> Any:
    """The value itself. Raises TypeError if it is not of this kind."""
    if not isinstance(value, kind):
        raise TypeError(f"{kind} expected")
    return value


def set_state(reader: Reader, target: Any, state: Any) -> None:
    """What the opcode BUILD does, for the kinds of object that it may touch."""
    if isinstance(target, np.ndarray):
        _, shape, dtype, fortran, raw = state
        raw = raw.encode("latin-1") if isinstance(raw, str) else raw  # from Python 2
        if _count(shape) * _plain(dtype).itemsize != len(expect(raw, bytes)):
            raise RefusedError("an array in it claims another size than its data has")
        reader.spend(len(raw))
        target.__setstate__((1, shape, dtype, bool(fortran), raw))  # type: ignore[arg-type]
    elif isinstance(target, np.dtype):
        order, details = state[1], tuple(state[2:8])
        if order not in ("<", ">", "|", "=") or details != (None, None, None, -1, -1, 0):
            raise RefusedError("it has a NumPy type that is not a plain number")
        target.__setstate__((3, order, *details))  # type: ignore[attr-defined]
    elif not isinstance(target, dict):  # attributes of a dict (torch's `_metadata`) are ignored
        raise RefusedError(f"it sets attributes of a {type(target).__name__}")


def _count(shape: Any) -> int:
    """Number of elements of a shape, which is up to 32 whole numbers from 0."""
    if len(expect(shape, tuple)) > 32 or any(not 0 <= expect(size, int) < 2**63 for size in shape):
        raise ValueError("bad shape")
    return math.prod(shape)


def _plain(dtype: Any) -> np.dtype:
    if expect(dtype, np.dtype).kind not in "biufc":
        raise RefusedError("it has a NumPy type that is not a plain number")
    return dtype


def _empty_dict(reader: Reader) -> dict[Any, Any]:
    """An `OrderedDict` or `EasyDict`, which SETITEMS fills."""
    return {}


def _persistent(reader: Reader, meta: Any) -> PersistentObject:
    """`meta` is {type, version, module_src, class_name, state}; the source text is dropped unread."""
    return PersistentObject(expect(meta["state"], dict))


def _encoded(reader: Reader, text: Any, encoding: Any) -> bytes:
    """Bytes as Python 3 writes them in protocol 2: a call of `_codecs.encode(text, 'latin1')`."""
    if encoding != "latin1":
        raise RefusedError("it has bytes in another encoding than latin1")
    reader.spend(len(expect(text, str)))
    return text.encode("latin-1")


def _dtype(reader: Reader, code: Any, align: Any = False, copy: Any = True) -> np.dtype:
    if not re.fullmatch(r"[biufc]\d{1,2}", expect(code, str)):
        raise RefusedError("it has a NumPy type that is not a plain number")
    return np.dtype(code, copy=True)  # a copy, because BUILD sets its byte order


def _array(reader: Reader, kind: Any, shape: Any, code: Any) -> np.ndarray:
    """An empty array, which BUILD fills."""
    return np.empty(0, np.int8)


def _array_of_buffer(reader: Reader, raw: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    reader.spend(len(expect(raw, (bytes, bytearray))))
    array = np.frombuffer(bytearray(raw), _plain(dtype))
    return array.reshape(expect(shape, tuple), order="F" if order == "F" else "C")


def _scalar(reader: Reader, dtype: Any, raw: Any) -> Any:
    raw = raw.encode("latin-1") if isinstance(raw, str) else raw
    (value,) = np.frombuffer(expect(raw, bytes), _plain(dtype))
    return value


def _parameter(reader: Reader, data: Any, requires_grad: Any = True, hooks: Any = None) -> torch.Tensor:
    return expect(data, torch.Tensor)


def _tensor(
    reader: Reader, storage: Any, offset: Any, size: Any, stride: Any, requires_grad: Any = False, hooks: Any = None
) -> torch.Tensor:
    _count((offset, *stride))  # checks these numbers too
    end = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) + 1
    if max(_count(size), end) > expect(storage, torch.Tensor).numel():
        raise RefusedError("a tensor in it claims more elements than its storage has")
    return storage.as_strided(size, stride, offset)


def _storage(reader: Reader, data: Any) -> torch.Tensor:
    """A storage inside the pickle, in torch.save's format before the zip, as a tensor of one dimension.

    The format: pickles of a magic number, a version, facts of the machine, the object (a reference to the storage) and
    the list of keys; then a count (int64) and the elements.
    """
    reader.spend(len(expect(data, bytes)))
    stream = io.BytesIO(data)
    magic, _version, _system = (reader.run(stream) for _ in range(3))
    if magic != _TORCH_MAGIC:
        raise ValueError("no torch.save stream")
    _, kind, _name, _device, count, view = reader.run(stream, persistent=lambda record: record)
    reader.run(stream)
    dtype = STORAGES[kind]
    raw = memoryview(data)[stream.tell() + 8 :]
    size = expect(count, int) * dtype.itemsize
    if view is not None or not 0 <= size <= len(raw) or int.from_bytes(stream.read(8), "little") != count:
        raise RefusedError("a tensor in it claims another size than its data has")
    return torch.frombuffer(bytearray(raw[:size]), dtype=dtype) if size else torch.empty(0, dtype=dtype)


NDARRAY = Global("numpy", "ndarray")
BUILDERS: dict[Global, Callable[..., Any]] = {
    Global("collections", "OrderedDict"): _empty_dict,
    Global("dnnlib", "EasyDict"): _empty_dict,
    Global("_codecs", "encode"): _encoded,
    Global("torch_utils.persistence", "_reconstruct_persistent_obj"): _persistent,
    Global("numpy", "dtype"): _dtype,
    Global("numpy._core.multiarray", "_reconstruct"): _array,
    Global("numpy._core.multiarray", "scalar"): _scalar,
    Global("numpy._core.numeric", "_frombuffer"): _array_of_buffer,
    Global("torch._utils", "_rebuild_parameter"): _parameter,
    Global("torch._utils", "_rebuild_tensor_v2"): _tensor,
    Global("torch.storage", "_load_from_bytes"): _storage,
}
STORAGES = {
    Global("torch", f"{name}Storage"): dtype
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
