"""A page of results for a set of pairs: one HTML file that needs no others."""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from statistics import fmean, pstdev

from PIL import Image

from datasets.images import Pair
from utils.errors import UserError
from utils.files import atomic_path
from utils.images import load_image

SHOWN = 6  # of the worst and of the best pairs of each column
_THUMBNAIL = 200  # px
_BINS, _WIDTH, _HEIGHT = 24, 480, 130

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1320px; margin: 2em auto; padding: 0 1em; color: #222 }
table { border-collapse: collapse } th, td { padding: .25em 1em; text-align: right; border-bottom: 1px solid #ddd }
th:first-child, td:first-child { text-align: left } .pairs { display: flex; flex-wrap: wrap; gap: 12px }
figure { margin: 0 } figcaption { font-size: 13px; max-width: 400px; overflow-wrap: anywhere }
figure img { vertical-align: top } svg { background: #f7f7f7 } code { overflow-wrap: anywhere }
"""


@dataclass
class Report:
    """The content of the page.

    columns: name of each number -> whether higher is better.
    means: column -> number over the whole set.
    scores: column -> pair -> number; columns that measure only whole sets are not in it.
    pairs: pair -> its files.
    facts: lines for the head of the page, such as the folders.
    problems: what went wrong, a line each.
    """

    title: str
    columns: Mapping[str, bool]
    means: Mapping[str, float]
    scores: Mapping[str, Mapping[str, float]]
    pairs: Mapping[str, Pair]
    facts: Sequence[str] = field(default_factory=list)
    problems: Sequence[str] = field(default_factory=list)

    def write(self, path: Path) -> None:
        """Raises UserError if the file cannot be written."""
        parts = [f"<h1>{escape(self.title)}</h1>", *(f"<p>{escape(fact)}</p>" for fact in self.facts), self._table()]
        for column, scores in self.scores.items():
            parts += [f"<h2>{escape(column)}</h2>", histogram(list(scores.values())), *self._extremes(column)]
        if self.problems:
            items = "".join(f"<li><code>{escape(problem)}</code></li>" for problem in self.problems)
            parts += [f"<h2>{len(self.problems)} problems</h2><ul>{items}</ul>"]
        head = f'<meta charset="utf-8"><title>{escape(self.title)}</title><style>{_STYLE}</style>'
        page = f"<!DOCTYPE html><html lang='en'><head>{head}</head><body>{''.join(parts)}</body></html>\n"
        with atomic_path(path) as temporary:
            temporary.write_text(page, encoding="utf-8", errors="replace")

    def _table(self) -> str:
        rows = ["<tr><th>metric</th><th>mean</th><th>std</th><th>worst</th><th>best</th><th>pairs</th></tr>"]
        for column, mean in self.means.items():
            cells = [column + (" ↑" if self.columns[column] else " ↓"), f"{mean:.4g}"]
            if values := list(self.scores.get(column, {}).values()):
                low, high = f"{min(values):.4g}", f"{max(values):.4g}"
                worst_and_best = [low, high] if self.columns[column] else [high, low]
                cells += [f"{pstdev(values):.4g}", *worst_and_best, str(len(values))]
            else:
                cells += [""] * 4
            rows.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
        return f"<table>{''.join(rows)}</table>"

    def _extremes(self, column: str) -> list[str]:
        scores = self.scores[column]
        ranked = sorted(scores, key=lambda name: (scores[name], name), reverse=self.columns[column])  # best first
        shown = min(SHOWN, math.ceil(len(ranked) / 2))
        parts = []
        for title, names in (("Worst", ranked[::-1][:shown]), ("Best", ranked[:shown])):
            figures = "".join(self._figure(name, scores[name]) for name in names)
            parts.append(f"<h3>{title}</h3><div class='pairs'>{figures}</div>")
        return parts

    def _figure(self, name: str, score: float) -> str:
        pair = self.pairs[name]
        images = "".join(f"<img alt='{what}' src='{_inline(path)}'>" for what, path in _files(pair))
        return f"<figure>{images}<figcaption>{escape(name)}: {score:.4g}</figcaption></figure>"


def histogram(values: Sequence[float]) -> str:
    """Counts of the values in equal bins, as inline SVG."""
    low, high = min(values), max(values)
    step = (high - low) / _BINS or 1.0
    counts = [0] * _BINS
    for value in values:
        counts[min(int((value - low) / step), _BINS - 1)] += 1
    bar, tallest = _WIDTH / _BINS, max(counts)
    bars = "".join(
        f'<rect x="{i * bar + 1:.1f}" y="{_HEIGHT * (1 - count / tallest):.1f}" width="{bar - 2:.1f}" '
        f'height="{_HEIGHT * count / tallest:.1f}" fill="#4477aa"><title>{low + i * step:.4g} to '
        f"{low + (i + 1) * step:.4g}: {count}</title></rect>"
        for i, count in enumerate(counts)
        if count
    )
    mean = min(max((fmean(values) - low) / step * bar, 0), _WIDTH)
    line = f'<line x1="{mean:.1f}" x2="{mean:.1f}" y1="0" y2="{_HEIGHT}" stroke="#cc3311" stroke-dasharray="4"/>'
    y = _HEIGHT + 15
    labels = f'<text x="2" y="{y}">{low:.4g}</text><text x="{_WIDTH - 2}" y="{y}" text-anchor="end">{high:.4g}</text>'
    return f'<svg width="{_WIDTH}" height="{_HEIGHT + 20}" font-size="12">{bars}{line}{labels}</svg>'


def _files(pair: Pair) -> list[tuple[str, Path]]:
    return [("real", pair.real), ("fake", pair.fake)]


def _inline(path: Path) -> str:
    """A thumbnail as data URL; a grey one if the file has been removed or damaged since."""
    try:
        image = load_image(path)
    except UserError:
        image = Image.new("RGB", (_THUMBNAIL, _THUMBNAIL), "grey")
    image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
