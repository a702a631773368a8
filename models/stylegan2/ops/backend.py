"""Which implementation computes the ops on a device: compiled kernels that passed their test there, or plain PyTorch.

The environment's SFE_OPS may say: auto (the default), as above; native, plain PyTorch everywhere; cuda, as auto, but
an error where a GPU would not run the compiled kernels.
"""

import functools
import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from models.stylegan2.ops import cuda, library, native, self_test
from utils.errors import UserError

logger = logging.getLogger(__name__)

_replacements = torch.library.Library("sfe", "IMPL")  # must live as long as what it registers

_only_plain = False


def ops_for(x: Tensor) -> Any:
    """The ops for tensors like x, with the signatures of `native`: torch.ops.sfe, a `cuda.Ops`, or `native`.

    On first use of a device, kernels are compiled or read from the cache, and tested.
    """
    if _only_plain:
        return native
    return _on_cpu() if x.device.type == "cpu" else _elsewhere(x.device, x.dtype)


def _apart(decide: Callable[..., Any]) -> "functools._lru_cache_wrapper[Any]":
    """Decides once, on a separate thread, so that modes of the caller (autocast, fake tensors) have no effect."""

    @functools.cache
    @functools.wraps(decide)
    def run(*args: Any) -> Any:
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(decide, *args).result()

    return run


@contextmanager
def plain() -> Iterator[None]:
    """Use plain PyTorch within the block, in graphs too: for formats without custom ops. For one thread at a time."""
    global _only_plain
    before, _only_plain = _only_plain, True
    try:
        yield
    finally:
        _only_plain = before


def only_plain() -> bool:
    """Whether this is inside `plain`."""
    return _only_plain


def forget() -> None:
    """Make the next use of a device decide again, for example after a change of SFE_OPS."""
    _on_cpu.cache_clear()
    _elsewhere.cache_clear()
    _wanted.cache_clear()


@_apart
def _on_cpu() -> Any:
    if _wanted() == "native":
        return native
    try:
        library.load()
    except Exception as error:  # a compiler fails in many ways, and none of them should stop an edit
        logger.warning("custom ops: plain PyTorch for the CPU (slower), they could not be built: %s", _line(error))
        return native
    try:
        for dtype in cuda.TYPES:
            self_test.check(torch.ops.sfe, torch.device("cpu"), dtype)
        self_test.check_winograd(torch.ops.sfe)
    except Exception as error:
        logger.warning("custom ops: plain PyTorch for the CPU (slower), they failed their test: %s", _line(error))
        _replace_library()
        return native
    return torch.ops.sfe


def _replace_library() -> None:
    """From now on, compute torch.ops.sfe on the CPU, which graphs call, by plain PyTorch."""
    winograd = ("winograd_weight", "winograd_conv", "winograd_up_weight", "winograd_up", "winograd_down")
    for name in ("upfirdn2d", "fused_bias_act", "blur_bias_act", "act_grad", *winograd):
        _replacements.impl(name, getattr(native, name), "CPU")


@_apart
def _elsewhere(device: torch.device, dtype: torch.dtype) -> Any:
    wanted = _wanted()
    if wanted == "native":
        return native
    if device.type != "cuda" or dtype not in cuda.TYPES:
        logger.info("custom ops: plain PyTorch, there are no compiled kernels for %s, %s", device, dtype)
        return native
    try:
        ops = _cuda_ops(device, dtype)
        self_test.check(ops, device, dtype)
    except Exception as error:
        if wanted == "cuda":
            raise UserError(f"SFE_OPS is cuda, but the kernels do not run on {device}: {_line(error)}") from error
        logger.warning("custom ops: plain PyTorch for %s, %s (slower): %s", device, dtype, _line(error))
        return native
    return ops


def _cuda_ops(device: torch.device, dtype: torch.dtype) -> cuda.Ops:
    from models.stylegan2.ops import driver, nvrtc

    major, minor = torch.cuda.get_device_capability(device)
    code = nvrtc.cubin(f"sm_{major}{minor}", dtype)
    index = torch.cuda.current_device() if device.index is None else device.index
    kernels = driver.Kernels(driver.Driver(), index, code, lambda: torch.cuda.current_stream(device).cuda_stream)
    return cuda.Ops(kernels.launch, dtype)


@functools.cache
def _wanted() -> str:
    wanted = os.environ.get("SFE_OPS", "auto")
    if wanted not in ("auto", "native", "cuda"):
        raise UserError(f"SFE_OPS is '{wanted}'; wanted auto, native or cuda")
    if wanted == "native":
        logger.info("custom ops: plain PyTorch, as SFE_OPS=native asks")
    return wanted


def _line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
