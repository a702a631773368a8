"""Pictures of a run: curves of its numbers, and grids of its results."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from utils.files import atomic_path
from utils.images import resize

_TILE = 256  # px
_CAPTION = 18  # px


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


def picture_grid(rows: Sequence[tuple[str, Sequence[Image.Image]]]) -> Image.Image:
    """Captioned rows of pictures, each scaled to 256 px."""
    width = max(len(images) for _, images in rows) * _TILE
    grid = Image.new("RGB", (width, len(rows) * (_TILE + _CAPTION)), "white")
    draw = ImageDraw.Draw(grid)
    for i, (caption, images) in enumerate(rows):
        top = i * (_TILE + _CAPTION)
        draw.text((4, top + 3), caption, fill="black")
        for j, image in enumerate(images):
            grid.paste(resize(image, _TILE), (j * _TILE, top + _CAPTION))
    return grid
