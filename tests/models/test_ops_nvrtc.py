"""The GPU's kernels through NVRTC, which needs no GPU: machine code for four generations, and its cache."""

import logging
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from models.stylegan2.ops import library, nvrtc

try:
    nvrtc.version()
except OSError as error:
    pytest.skip(f"no NVRTC here: {error}", allow_module_level=True)

GENERATIONS = ("sm_75", "sm_80", "sm_90", "sm_120")  # Turing, Ampere, Hopper, Blackwell
KERNELS = re.findall(r"^(?:LAYOUT|EACH)\((\w+)", (library.FOLDER / nvrtc.SOURCE).read_text(), re.MULTILINE)
FILTERS = ("pointwise", "blur", "up", "down", "any")
NAMES = {name for kernel in KERNELS for name in ([kernel] if "grad" in kernel else [f"{kernel}_{f}" for f in FILTERS])}


def compiled(what: tuple[str, torch.dtype]) -> tuple[str, bytes, str]:
    return str(what), *nvrtc.compile_kernels(*what)


def test_machine_code_without_spills() -> None:
    """For each generation, dtypes of inference and training; float64 once, as only checks use it."""
    dtypes = (torch.float32, torch.float16, torch.bfloat16)
    jobs = [(architecture, dtype) for architecture in GENERATIONS for dtype in dtypes]
    with ThreadPoolExecutor(2) as threads:
        for what, code, messages in threads.map(compiled, [*jobs, ("sm_90", torch.float64)]):
            assert code.startswith(b"\x7fELF"), what
            assert set(re.findall(r"entry function '(\w+)'", messages)) == NAMES and len(NAMES) == 17, what
            spills = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", messages)
            assert spills == [("0", "0", "0")] * len(NAMES), f"{what}\n{messages}"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Path:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "cache"))
    caplog.set_level(logging.INFO)
    return tmp_path / "cache"


def test_compiled_once(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    code = nvrtc.cubin("sm_80", torch.float64)
    assert nvrtc.cubin("sm_80", torch.float64) == code
    assert caplog.text.count("compiling the custom ops for sm_80") == 1
    (file,) = cache.glob("*.cubin")
    assert file.name.startswith("sfe_ops_sm_80_double_") and file.read_bytes() == code
    nvrtc.cubin("sm_90", torch.float64)  # another GPU's is another file
    assert len(list(cache.glob("*.cubin"))) == 2


def test_a_failure_is_kept_too(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(nvrtc.CompileError, match="invalid value for --gpu-architecture"):
        nvrtc.cubin("sm_20", torch.float32)
    (note,) = cache.glob("*.failed")
    with pytest.raises(nvrtc.CompileError, match=f"invalid value for --gpu-architecture.*remove {note} to try again"):
        nvrtc.cubin("sm_20", torch.float32)
    assert caplog.text.count("compiling") == 1
    note.unlink()
    with pytest.raises(nvrtc.CompileError):
        nvrtc.cubin("sm_20", torch.float32)
    assert caplog.text.count("compiling") == 2


def test_a_cache_that_cannot_be_written(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache.write_text("a file where the folder should be")
    assert nvrtc.cubin("sm_80", torch.float64).startswith(b"\x7fELF")
    assert "cannot keep them" in caplog.text
