"""Reading ahead and writing in the background: order, bounds, errors."""

import threading
import time
from collections.abc import Iterator

import pytest

from utils.parallel import WAITING, BoundedPool, ahead, batches, in_processes


def test_ahead_keeps_order_and_works_in_parallel() -> None:
    def slow(i: int) -> int:
        time.sleep(0.02 * (i % 3))
        return i

    assert list(ahead(slow, range(20), 4)) == list(range(20)) == list(ahead(slow, range(20), 0))
    together = threading.Barrier(3, timeout=60)  # of two threads and the caller
    results = ahead(lambda i: i and together.wait(), range(3), 2)
    assert next(results) == 0
    together.wait()  # while the other two are computed
    assert len(list(results)) == 2


@pytest.mark.parametrize("workers", [1, 3])
def test_ahead_is_bounded_and_lazy(workers: int) -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        while taken < 1000:
            taken += 1
            yield taken

    results = ahead(lambda i: i, items(), workers)
    for i in range(1, 6):
        assert next(results) == i
        assert taken <= i + workers * (1 + WAITING)


def test_ahead_raises_what_the_function_raises() -> None:
    results = ahead(lambda i: 1 // i, [1, 0, 1], 2)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_pool_blocks_while_too_much_waits_and_ends_after_the_last_call() -> None:
    gate, started, done = threading.Event(), [], []

    def work(i: int) -> None:
        gate.wait()
        done.append(i)

    def fill(pool: BoundedPool) -> None:
        for i in range(10):
            pool.submit(work, i)
            started.append(i)

    with BoundedPool(2) as pool:
        filler = threading.Thread(target=fill, args=(pool,))
        filler.start()
        time.sleep(0.1)
        assert len(started) == 2 * (1 + WAITING)
        gate.set()
        filler.join()
    assert sorted(done) == list(range(10))


def test_pool_drops_what_waits_when_the_run_fails() -> None:
    done = []

    def work(i: int) -> None:
        time.sleep(0.1)
        done.append(i)

    with pytest.raises(ValueError, match="stop"), BoundedPool(1) as pool:
        for i in range(3):
            pool.submit(work, i)
        raise ValueError("stop")
    assert done == [0]


def test_batches() -> None:
    assert list(batches(iter(range(7)), 3)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(batches([], 3)) == []


def test_in_processes_keeps_order() -> None:
    assert in_processes(abs, 40, 2, "numbers") == list(range(40))
