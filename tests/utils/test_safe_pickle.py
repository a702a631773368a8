"""The restricted pickle reader: what it reads, and that no file can run code, take memory or crash it."""

import builtins
import contextlib
import importlib.util
import io
import os
import pickle
import random
import resource
import struct
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from models.nvidia import module_tensors
from utils import safe_pickle
from utils.errors import UserError
from utils.pickle_builders import PersistentObject

PARITY = Path(__file__).parents[1] / "parity"


@pytest.fixture(scope="module")
def make_checkpoints():
    """The module that writes stand-ins; the names it puts into `sys.modules` are removed again."""
    spec = importlib.util.spec_from_file_location("make_checkpoints", PARITY / "make_checkpoints.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    before = set(sys.modules)
    yield module
    for name in {"torch_utils", "torch_utils.persistence", "dnnlib"} - before:
        sys.modules.pop(name, None)


TENSORS = {
    "b8.resample_filter": torch.ones(4, 4),
    "b8.fromrgb.weight": torch.arange(6, dtype=torch.float32).reshape(2, 3),
    "b8.conv0.bias": torch.tensor([0.5, -2.0]),
    "b4.fc.weight": torch.randn(3, 5),
    "b4.fc.steps": torch.tensor(7.0),
}
KWARGS = {"c_dim": 0, "img_resolution": 8, "conv_clamp": None, "epilogue_kwargs": {"mbstd_group_size": 4}}


@pytest.fixture(scope="module")
def network_file(make_checkpoints, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("pkl") / "network.pkl"
    make_checkpoints.nvidia_pickle(TENSORS, "Discriminator", KWARGS, path)
    return path


def written(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "file.pkl"
    path.write_bytes(data)
    return path


def refused(tmp_path: Path, data: bytes) -> str:
    """The one line with which the bytes are refused."""
    with pytest.raises(UserError) as caught:
        safe_pickle.load(written(tmp_path, data))
    line = str(caught.value)
    assert "\n" not in line
    assert str(tmp_path / "file.pkl") in line
    return line


# ---- What it reads ----


def test_nvidia_network(network_file):
    content = safe_pickle.load(network_file)
    assert set(content) == {"training_set_kwargs", "D", "augment_pipe"}
    network = content["D"]
    assert network.state["_init_kwargs"] == KWARGS
    tensors = module_tensors(network)
    assert set(tensors) == set(TENSORS)
    assert all(torch.equal(tensors[key], value) for key, value in TENSORS.items())
    assert network.state["weight_gain"] == 0.5
    assert not any("module_src" in repr(vars(part)) for part in [network, network.state["_modules"]["b8"]])


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_and_arrays(tmp_path, protocol):
    value = {
        "list": [1, -(2**40), 2.5, True, None, "naïve", b"\x00\xff", (), (1, 2, 3, 4), {"a": {}}],
        "ordered": OrderedDict(b=1, a=2),
        "arrays": [np.arange(6, dtype=d).reshape(2, 3) for d in ("<f4", ">f4", "<f8", "i8", "u1", "f2")],
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "scalar": np.float32(1.5),
        "one": np.ones((1, 1, 4), np.float32),
    }
    value["again"] = value["arrays"][0]
    read = safe_pickle.load(written(tmp_path, pickle.dumps(value, protocol)))
    value = pickle.loads(pickle.dumps(value, protocol))  # NumPy makes byte orders native
    assert read["list"] == value["list"]
    assert list(read["ordered"].items()) == [("b", 1), ("a", 2)]
    assert read["scalar"] == 1.5
    for array, expected in zip(
        [*read["arrays"], read["fortran"], read["one"]], [*value["arrays"], value["fortran"], value["one"]], strict=True
    ):
        assert array.dtype == expected.dtype
        np.testing.assert_array_equal(array, expected)
    assert read["again"] is read["arrays"][0]


def test_numpy_1_and_python_2_names(tmp_path):
    """As Python 2 wrote `[array([1, 2], '<f4')]`: numpy.core, and bytes as STRING opcodes."""
    raw = struct.pack("<2f", 1, -2.5)
    data = (
        b"\x80\x02](cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        + b"U\x08" + raw + b"tbe."
    )  # fmt: skip
    expected = pickle.loads(data, encoding="latin1")
    (array,) = safe_pickle.load(written(tmp_path, data))
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, expected[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool])
def test_tensors_of_every_type_views_and_empty_ones(tmp_path, dtype):
    base = torch.arange(12).reshape(3, 4).to(dtype)
    value = {"whole": base, "view": base[1:].t(), "parameter": torch.nn.Parameter(torch.ones(2)), "empty": base[:0]}
    read = safe_pickle.load(written(tmp_path, pickle.dumps(value)))
    for name, expected in value.items():
        assert read[name].dtype == expected.dtype
        assert torch.equal(read[name], expected.detach())


# ---- Code in the file ----


class Call:
    """Pickled as a call of `function` with `args`."""

    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


def attacks(target: Path) -> dict[str, object]:
    touch = f"open({str(target)!r}, 'w')"
    return {
        "os.system": Call(os.system, f"touch {target}"),
        "posix.system in a network": {"D": [Call(os.system, f"touch {target}")]},
        "eval": Call(builtins.eval, touch),
        "exec": Call(builtins.exec, touch),
        "open": Call(open, str(target), "w"),
        "getattr chain": Call(getattr, Call(__import__, "os"), "system"),
        "torch.load": Call(torch.load, str(target)),
        "Path.touch": Call(Path.touch, target),
    }


@pytest.mark.parametrize("name", attacks(Path("x")))
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_calls_are_refused_and_named(tmp_path, name, protocol):
    target = tmp_path / "created"
    data = pickle.dumps(attacks(target)[name], protocol)
    line = refused(tmp_path, data)
    assert not target.exists()
    assert "forbidden global" in line or "opcode" in line


def test_the_attack_is_real_and_its_name_is_in_the_message(tmp_path):
    target = tmp_path / "created"
    data = pickle.dumps(Call(os.system, f"touch {target}"))
    assert "posix.system" in refused(tmp_path, data)
    assert not target.exists()
    pickle.loads(data)  # so the bytes do what the tests above say they must not
    assert target.exists()


def test_attack_inside_the_bytes_of_a_tensor(tmp_path):
    target = tmp_path / "created"
    for inner in (
        pickle.dumps(Call(os.system, f"touch {target}"), 2),
        pickle.dumps(torch.serialization.MAGIC_NUMBER, 2) + pickle.dumps(Call(os.system, f"touch {target}"), 2),
        pickle.dumps(Call(torch.storage._load_from_bytes, b"cos\nsystem\n.")),
    ):
        assert "forbidden global" in refused(tmp_path, pickle.dumps(Call(torch.storage._load_from_bytes, inner)))
        assert not target.exists()


@pytest.mark.parametrize(
    "program",
    [
        b"\x80\x02cdnnlib\nEasyDict\n}U\x0c__setstate__cos\nsystem\nsb.",  # BUILD on a class
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}U\x08__code__Nsb.",  # BUILD on a function
        b"\x80\x02N}U\x12__reduce_ex__method\x89sb.",
        b"(S'touch /nowhere'\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nS'touch /nowhere'\no.",  # OBJ
        b"\x80\x02\x82\x01.",  # EXT1
        b"Psome-persistent-id\n.",
        b"\x80\x02U\x01aQ.",  # BINPERSID outside a storage
        b"\x80\x05\x97.",  # NEXT_BUFFER
        b"\x80\x02U\x08os.sysem)R.",  # REDUCE of text
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x05touch\x85R.",
        b"\x80\x04\x8c\x05numpy\x8c\x0fndarray.tofile\x28t\x93.",  # dotted names
        b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.",
        b"cnumpy\ndtype\n(S'O8'\ntR.",  # object arrays hold pointers
    ],
)
def test_hostile_opcodes(tmp_path, program):
    refused(tmp_path, program)


def test_names_with_control_characters_stay_in_one_line(tmp_path):
    module = b"os\x1b[2J\nx"
    data = b"\x80\x04\x8c" + bytes([len(module)]) + module + b"\x8c\x06system\x93."
    assert "\x1b" not in refused(tmp_path, data)


# ---- Memory ----


BOMBS = {
    "memo index": b"\x80\x02Nr\xff\xff\xff\x7f.",  # pickle.load of it asks for 64 GB
    "frame": b"\x80\x04\x95" + struct.pack("<Q", 2**40) + b"N.",
    "bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**36) + b"x.",
    "text": b"\x80\x02X\xff\xff\xff\x7fx.",
    "many empty sets": b"\x80\x04" + b"\x8f" * 2_000_000 + b".",
    "array": pickle.dumps(np.zeros(2, "f4"), 2).replace(b"K\x02\x85", b"J\xff\xff\xff\x7f\x85"),
    "bytearray": b"cbuiltins\nbytearray\n(I68719476736\ntR.",
}


@pytest.mark.parametrize("name", BOMBS)
def test_memory_bombs(tmp_path, name):
    path = written(tmp_path, BOMBS[name])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # The first two hold nothing but None, so they may be read, at the price of a None.
    with contextlib.nullcontext() if name in ("memo index", "frame") else pytest.raises(UserError):
        assert safe_pickle.load(path) is None
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 600 * 1024  # KiB


def test_a_file_of_many_gigabytes_is_not_read(tmp_path):
    path = written(tmp_path, b"")
    os.truncate(path, 5 << 30)  # takes no space
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match="has 5120 MB; files up to 4096 MB are read"):
        safe_pickle.load(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 600 * 1024  # KiB


def test_tensor_claims(tmp_path):
    values = torch.ones(4)
    raw = pickle.dumps(values)
    assert torch.equal(safe_pickle.load(written(tmp_path, raw)), values)
    claims = raw.replace(b"K\x04\x85", b"J\xff\xff\xff\x7f\x85")  # size (2^31 - 1,) over four elements
    assert claims != raw
    assert "claims" in refused(tmp_path, claims)
    record = raw.replace(b"K\x04N", b"J\x00\x00\x00\x40N")  # the storage's own record: 2^30 elements
    assert record != raw
    refused(tmp_path, record)


def test_one_storage_read_again_and_again(tmp_path):
    """A short program that builds the same megabyte 500 times would cost half a gigabyte."""
    stream = io.BytesIO()
    torch.save(torch.zeros(250_000)._typed_storage(), stream, _use_new_zipfile_serialization=False)
    data = stream.getvalue()
    head = b"\x80\x04](ctorch.storage\n_load_from_bytes\nq\x00B" + struct.pack("<I", len(data)) + data + b"q\x01\x85R"
    assert "claim" in refused(tmp_path, head + b"h\x00h\x01\x85R" * 500 + b"e.")


def test_expanded_view_is_refused(tmp_path):
    raw = pickle.dumps(torch.ones(2).expand(3, 2))
    assert "claims" in refused(tmp_path, raw)


# ---- Damage ----


def test_missing_folder_and_wrong_kind_of_file(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        safe_pickle.load(tmp_path / "none.pkl")
    with pytest.raises(UserError):
        safe_pickle.load(tmp_path)
    torch.save({"a": torch.ones(1)}, tmp_path / "zip.pt")
    with pytest.raises(UserError, match="zip archive"):
        safe_pickle.load(tmp_path / "zip.pt")


@pytest.mark.parametrize("data", [b"", b".", b"\x80\x04.", b"version https://git-lfs.github.com/spec/v1\n", b"<html>"])
def test_garbage(tmp_path, data):
    assert "download" in refused(tmp_path, data)


def test_deep_nesting(tmp_path):
    refused(tmp_path, b"\x80\x02" + b")" + b"\x85" * 300_000 + b"q\x00}h\x00Ns.")  # a nested tuple as dict key
    assert safe_pickle.load(written(tmp_path, b"\x80\x02" + b")" + b"\x85" * 1000 + b"."))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # escapes in mutated text
def test_truncation_and_random_mutations(network_file, tmp_path):
    data = network_file.read_bytes()
    chance = random.Random(0)
    for cut in range(0, len(data), 97):
        refused(tmp_path, data[:cut])
    arrays = pickle.dumps([np.arange(3, dtype=np.float32), np.float64(2), [torch.ones(2, 2)]], 3)
    survived = 0
    for turn in range(4000):
        mutant = bytearray(data if turn % 2 else arrays)
        for _ in range(chance.choice([1, 1, 2, 8])):
            mutant[chance.randrange(len(mutant))] = chance.randrange(256)
        try:
            content = safe_pickle.load(written(tmp_path, bytes(mutant)))
            if isinstance(content, dict):
                module_tensors(content.get("D"))
            survived += 1
        except UserError as error:
            assert "\n" not in str(error)
    assert survived  # no reader can notice a changed number inside a tensor


def test_module_tree_that_has_no_end():
    part = PersistentObject({"_modules": {}})
    part.state["_modules"]["again"] = part
    with pytest.raises(UserError):
        module_tensors(part)
