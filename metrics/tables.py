"""Tables of results, as Markdown and JSON."""

import json
from collections.abc import Mapping
from pathlib import Path

from utils.files import atomic_path

# How a column is shown, by its key; others get four digits.
_FORMATS = {"kept": "{:.1%}", "done": "{:.1%}", "ms": "{:.1f}", "frechet": "{:.2f}"}


def markdown_table(rows: Mapping[str, Mapping[str, float]], columns: Mapping[str, str], corner: str) -> str:
    """A Markdown table.

    rows: title -> key of a column -> value. columns: key -> title. corner: the title of the first column.
    """
    lines = [f"| {corner} | {' | '.join(columns.values())} |"]
    lines.append("|---" * lines[0].count(" | ") + "|---|")
    for title, row in rows.items():
        lines.append(f"| {title} | {' | '.join(_cell(key, row[key]) for key in columns)} |")
    return "\n".join(lines) + "\n"


def write_report(folder: Path, content: Mapping[str, object], text: str) -> None:
    """`evaluation.json` and `evaluation.md`."""
    for name, body in (("evaluation.json", json.dumps(content, indent=1) + "\n"), ("evaluation.md", text)):
        with atomic_path(folder / name) as temporary:
            temporary.write_text(body, encoding="utf-8")


def _cell(key: str, value: float) -> str:
    return _FORMATS.get(key, "{:.4f}").format(value).replace("%", " %")
