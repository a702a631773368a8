"""How PyTorch's threads wait for each other."""

import os


def sleep_while_waiting() -> None:
    """Have threads that wait for others sleep, unless the environment's OMP_WAIT_POLICY says otherwise.

    By default they spin, which takes the processor from other programs and from each other: next to one other busy
    process an edit takes five times as long. Sleeping costs nothing measurable on a quiet machine. Call it before
    torch is imported: OpenMP reads the variable when it is loaded.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
