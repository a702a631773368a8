"""Curves of a run's numbers."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from utils.files import atomic_path


def plot_curves(rows: Sequence[Mapping[str, float]], path: Path) -> None:
    """One panel for each number over the steps, as PNG."""
    from matplotlib.figure import Figure  # without pyplot: no window, no global state

    names = list(dict.fromkeys(name for row in rows for name in row if name not in ("step", "time")))
    if not names:
        return
    columns = min(4, len(names))
    lines = -(-len(names) // columns)
    figure = Figure(figsize=(4 * columns, 3 * lines), layout="constrained")
    for i, name in enumerate(names):
        axes = figure.add_subplot(lines, columns, i + 1)
        points = [(row["step"], row[name]) for row in rows if name in row]
        axes.plot(*zip(*points, strict=True), marker="." if len(points) < 50 else "")
        axes.set_title(name)
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
    with atomic_path(path) as temporary:
        figure.savefig(temporary)
