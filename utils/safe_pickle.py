"""Read NVIDIA's StyleGAN `.pkl` files and NumPy pickles without importing or running anything that they name.

A pickle is a program for a small stack machine. `pickle.load` runs it with every importable name in reach, and NVIDIA's
networks even carry the source text of their classes, which their own loader executes. Here `pickletools.genops`
decodes the opcodes and `_Machine` interprets the few that hold data. A name in the file is looked up in one table of
pure builders and is never imported; any other name is an error.

Memory is bounded: each tensor's bytes have to be in the file, all together at most the file's size, and file size and
number of opcodes have limits.

A subclass of `pickle.Unpickler` with the same table does not give this promise, because its C code acts on opcodes
before it asks the subclass. With CPython 3.11, the nine bytes `80 02 4e 72 ff ff ff 0f 2e`, which store None at a large
memo index, make it take 4 GB; a file of 300 kB with a deeply nested tuple as a dict key ends the process by a
segmentation fault; and SETITEM, ADDITEMS and BUILD would call methods of the tensors and arrays on the stack.
"""

import io
import pickletools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from utils.errors import UserError
from utils.pickle_builders import BUILDERS, NDARRAY, STORAGES, Global, RefusedError, expect, set_state

_MAX_BYTES = 4 << 30  # of a file; the largest published one has 0.4 GB
_MAX_OPCODES = 1_000_000  # a StyleGAN2 file with G, D and G_ema has about 50,000
_DAMAGED = (ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)

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
_MODULE_NAMES = {  # other spellings of the modules in the table
    "dnnlib.util": "dnnlib",
    "numpy.core.multiarray": "numpy._core.multiarray",
    "numpy.core.numeric": "numpy._core.numeric",
}


def load(path: Path) -> Any:
    """Read a pickle: numbers, text, lists, dicts, NumPy arrays, CPU tensors and persistent objects.

    Parameters come back as plain tensors, `EasyDict` and `OrderedDict` as dicts. Raises `UserError` for a file that is
    missing, damaged, too large, or that names anything else.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise UserError(f"{path}: has {size >> 20} MB; files up to {_MAX_BYTES >> 20} MB are read")
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path or download the file") from error
    if data.startswith(b"PK\x03\x04"):
        raise UserError(f"{path}: found a zip archive as torch.save writes it, expected a plain pickle; check the path")
    try:
        return _Machine(len(data)).run(io.BytesIO(data))
    except RefusedError as error:
        raise UserError(f"{path}: {error}; use a file from a source that you trust") from error
    except _DAMAGED as error:
        raise UserError(f"{path}: damaged, or not a pickle ({type(error).__name__}); download it again") from error


class _Machine:
    """Interpreter of pickle's opcodes (protocols 0 to 5) for data."""

    def __init__(self, file_size: int) -> None:
        self.bytes_left = file_size  # for tensors and arrays, which copy bytes of the file
        self.opcodes_left = _MAX_OPCODES

    def spend(self, size: int) -> None:
        """Count `size` bytes about to be allocated."""
        self.bytes_left -= size
        if self.bytes_left < 0:
            raise RefusedError("its tensors claim more bytes than the file has")

    def run(self, stream: io.BytesIO, persistent: Callable[[Any], Any] | None = None) -> Any:
        """Interpret one pickle and leave the stream behind it; `persistent` resolves torch's storage records."""
        stack: list[Any] = []
        marks: list[int] = []
        memo: dict[int, Any] = {}

        def take(count: int) -> list[Any]:
            """The topmost items, which leave the stack."""
            start = len(stack) - count
            if count < 0 or start < 0:
                raise ValueError("stack underflow")
            items = stack[start:]
            del stack[start:]
            return items

        def since_mark() -> list[Any]:
            return take(len(stack) - marks.pop())

        arg: Any
        for opcode, arg, _ in pickletools.genops(stream):
            self.opcodes_left -= 1
            if self.opcodes_left < 0:
                raise RefusedError(f"it has more than {_MAX_OPCODES} pickle opcodes")
            match opcode.name:
                case name if name in _LITERALS:
                    stack.append(arg)
                case name if name in _CONSTANTS:
                    stack.append(_CONSTANTS[name]())
                case "PROTO" | "FRAME":
                    pass
                case "MARK":
                    marks.append(len(stack))
                case "POP":
                    stack.pop()
                case "POP_MARK":
                    since_mark()
                case "DUP":
                    stack.append(stack[-1])
                case "PUT" | "BINPUT" | "LONG_BINPUT":
                    memo[arg] = stack[-1]
                case "MEMOIZE":
                    memo[len(memo)] = stack[-1]
                case "GET" | "BINGET" | "LONG_BINGET":
                    stack.append(memo[arg])
                case "LIST":
                    stack.append(since_mark())
                case "APPEND" | "APPENDS" as name:
                    items = take(1) if name == "APPEND" else since_mark()
                    expect(stack[-1], list).extend(items)
                case "TUPLE":
                    stack.append(tuple(since_mark()))
                case name if name in _SHORT_TUPLES:
                    stack.append(tuple(take(_SHORT_TUPLES[name])))
                case "DICT":
                    stack.append(_filled({}, since_mark()))
                case "SETITEM" | "SETITEMS" as name:
                    items = take(2) if name == "SETITEM" else since_mark()
                    _filled(expect(stack[-1], dict), items)
                case "ADDITEMS":
                    items = since_mark()
                    expect(stack[-1], set).update(map(_key, items))
                case "FROZENSET":
                    stack.append(frozenset(map(_key, since_mark())))
                case "GLOBAL":
                    stack.append(_known(*arg.split(" ", 1)))
                case "STACK_GLOBAL":
                    stack.append(_known(*take(2)))
                case "REDUCE" | "NEWOBJ":
                    builder, args = take(2)
                    stack.append(BUILDERS[expect(builder, Global)](self, *expect(args, tuple)))
                case "BUILD":
                    (state,) = take(1)
                    set_state(self, stack[-1], state)
                case "BINPERSID" if persistent:
                    stack.append(persistent(stack.pop()))
                case "STOP":
                    (result,) = stack
                    return result
                case name:
                    raise RefusedError(f"it uses the pickle opcode {name}")
        raise EOFError("no STOP")


def _key(value: Any) -> Any:
    """A dict key or set member: plain values only, since hashing deeply nested tuples overflows the C stack."""
    return expect(value, (str, bytes, int, float, type(None)))


def _filled(target: dict[Any, Any], items: list[Any]) -> dict[Any, Any]:
    if len(items) % 2:
        raise ValueError("a key without value")
    target.update(zip(map(_key, items[::2]), items[1::2], strict=True))
    return target


def _known(module: Any, name: Any) -> Global:
    """The name as an entry of the table; old and new spellings are one."""
    module, name = expect(module, str), expect(name, str)
    entry = Global(_MODULE_NAMES.get(module, module), name)
    if entry not in BUILDERS and entry not in STORAGES and entry != NDARRAY:
        shown = re.sub(r"[^\w.<>-]", "?", f"{module}.{name}"[:80])
        raise RefusedError(f"names the forbidden global {shown}, so nothing was loaded")
    return entry
