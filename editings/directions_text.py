"""The text of available_directions.txt, from the same data that the editor reads."""

from collections.abc import Sequence

from editings.latent_editor import FAMILIES, LatentEditor
from editings.text_edit import TextFamily

_HEAD = """\
Directions for editing_name and editings_data, with the powers that look natural (-1000 to 1000 is allowed).
Written by scripts/available_directions.py from configs/domains/*.yaml; do not edit by hand.
"""


def directions_text(editors: Sequence[LatentEditor]) -> str:
    """Every direction of every editor's domain: a line with its name and useful powers, under its family.

    Domains without directions are left out.
    """
    lines = [_HEAD]
    for editor in (editor for editor in editors if editor.available()):
        lines.append(f"{editor.domain.name}\n{'=' * len(editor.domain.name)}")
        for family, directions in editor.available().items():
            lines.append(f"{family}:")
            width = max((len(name) for name in directions), default=0)
            lines += [f"    {name:<{width}}  {low:g} .. {high:g}" for name, (low, high) in directions.items()]
            kind = FAMILIES[family]
            if issubclass(kind, TextFamily):
                lines.append(f"    for example '{kind.example}'")
            lines.append("")
    return "\n".join(lines)
