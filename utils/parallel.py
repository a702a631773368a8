"""Work in the background, with bounded memory: reading ahead and writing."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from itertools import islice
from threading import BoundedSemaphore
from types import TracebackType
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")
R = TypeVar("R")

WAITING = 2  # results that may wait, per thread


class BoundedPool:
    """Threads that run calls in the background; `submit` blocks while too many of them wait.

    As a context manager it waits for every call to end. Threads, not processes: decoding, scaling and encoding of
    images release the GIL, nothing has to be copied, and no process is left over when the run is killed.
    """

    def __init__(self, workers: int) -> None:
        workers = max(workers, 1)
        self._pool = ThreadPoolExecutor(workers)
        self._room = BoundedSemaphore(workers * (1 + WAITING))

    def submit(self, function: Callable[..., R], *args: Any) -> "Future[R]":
        """Run function(*args) in a thread, soon."""
        self._room.acquire()
        try:
            future = self._pool.submit(function, *args)
        except BaseException:
            self._room.release()
            raise
        future.add_done_callback(lambda _: self._room.release())
        return future

    def __enter__(self) -> "BoundedPool":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._pool.shutdown(wait=True, cancel_futures=error is not None)


def ahead(function: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[R]:
    """function(item) for every item, in order, made by threads while the caller works on earlier results.

    `items` is read lazily; no more than (1 + WAITING) results per thread exist at a time. What `function` raises is
    raised here. 0 workers: no threads, each result is made when it is asked for.
    """
    if workers < 1:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(workers) as pool:
        results: deque[Future[R]] = deque()
        try:
            for item in items:
                if len(results) >= workers * (1 + WAITING):
                    yield results.popleft().result()
                results.append(pool.submit(function, item))
            while results:
                yield results.popleft().result()
        finally:
            for result in results:
                result.cancel()


def in_processes(function: Callable[[int], R], count: int, workers: int, label: str) -> list[R]:
    """function(i) for i from 0 to count − 1, in order, computed by `workers` processes under a progress bar."""
    with ProcessPoolExecutor(workers) as pool:
        return list(tqdm(pool.map(function, range(count), chunksize=16), label, count, unit="image"))


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items, the last one shorter; `items` is read no further than needed."""
    items = iter(items)
    while batch := list(islice(items, size)):
        yield batch
