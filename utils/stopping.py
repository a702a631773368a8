"""Stopping a long run between two steps."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def sigterm_asks() -> Iterator[Callable[[], bool]]:
    """Keep SIGTERM from ending the process; the function that is yielded returns whether one was received.

    For the main thread only, like all handling of signals.
    """
    asked = False

    def note(*_: object) -> None:
        nonlocal asked
        asked = True

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGTERM, before)
