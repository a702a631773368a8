"""Locks on open files, which the system takes back when a process ends."""

from typing import IO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def lock(file: int | IO[bytes], wait: bool = True) -> bool:
    """Lock an open file for this process alone; False on a system that has no such locks.

    Raises OSError if the file system has none, or if another has the lock and we do not `wait`.
    """
    if fcntl is None:
        return False
    fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    return True
