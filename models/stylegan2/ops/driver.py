"""Loads compiled kernels into a GPU and starts them, by CUDA's driver API: libcuda.so.1, which every driver has."""

import ctypes
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_POINTER, _NUMBER = ctypes.c_void_p, ctypes.c_uint
_SIGNATURES: dict[str, list] = {
    "cuInit": [_NUMBER],
    "cuDeviceGet": [_POINTER, ctypes.c_int],
    "cuDevicePrimaryCtxRetain": [_POINTER, ctypes.c_int],
    "cuCtxPushCurrent_v2": [_POINTER],
    "cuCtxPopCurrent_v2": [_POINTER],
    "cuModuleLoadData": [_POINTER, ctypes.c_char_p],
    "cuModuleGetFunction": [_POINTER, _POINTER, ctypes.c_char_p],
    "cuLaunchKernel": [_POINTER, *[_NUMBER] * 7, _POINTER, _POINTER, _POINTER],
    "cuGetErrorString": [ctypes.c_int, _POINTER],
}


class Driver:
    """The driver API, with errors as RuntimeError. Raises OSError where the library is not there."""

    def __init__(self, library: str = "libcuda.so.1") -> None:
        self._library = ctypes.CDLL(library)
        for name, arguments in _SIGNATURES.items():
            getattr(self._library, name).argtypes = arguments
        self.call("cuInit", 0)

    def call(self, name: str, *arguments: object) -> None:
        result = getattr(self._library, name)(*arguments)
        if result:
            text = ctypes.c_char_p()
            self._library.cuGetErrorString(result, ctypes.byref(text))
            raise RuntimeError(f"{name}: {(text.value or b'unknown error').decode()} ({result})")


class Kernels:
    """The kernels of one compiled file on one GPU.

    index: PyTorch's number of the GPU. code: a cubin. stream: gives the handle of the stream to use, at each start.
    """

    def __init__(self, driver: Driver, index: int, code: bytes, stream: Callable[[], int]) -> None:
        self._driver = driver
        self._stream = stream
        self._context = ctypes.c_void_p()
        self._module = ctypes.c_void_p()
        device = ctypes.c_int()
        driver.call("cuDeviceGet", ctypes.byref(device), index)
        driver.call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), device)  # the one that PyTorch uses
        with self._current():
            driver.call("cuModuleLoadData", ctypes.byref(self._module), code)
        self._function = functools.cache(self._find)

    def launch(
        self, kernel: str, grid: tuple[int, int], block: tuple[int, int], *parameters: ctypes.Structure | ctypes.c_int
    ) -> None:
        """Starts a kernel on the stream; see `cuda.Launch`."""
        pointers = (ctypes.c_void_p * len(parameters))(*(ctypes.addressof(value) for value in parameters))
        with self._current():
            self._driver.call(
                "cuLaunchKernel", self._function(kernel), *grid, 1, *block, 1, 0, self._stream(), pointers, None
            )

    def _find(self, kernel: str) -> ctypes.c_void_p:
        function = ctypes.c_void_p()
        self._driver.call("cuModuleGetFunction", ctypes.byref(function), self._module, kernel.encode())
        return function

    @contextmanager
    def _current(self) -> Iterator[None]:
        """Makes the GPU's context that of this thread: a fresh thread has none, another GPU's may be set."""
        self._driver.call("cuCtxPushCurrent_v2", self._context)
        try:
            yield
        finally:
            self._driver.call("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))
