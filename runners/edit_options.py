"""Checks of what SimpleRunner and AnimationRunner are asked for, before anything is read."""

from collections.abc import Sequence
from pathlib import Path

from utils.errors import UserError


def check_mask_options(use_mask: bool, mask_trashold: float, mask_path: str | Path | None) -> None:
    """Raise UserError for values that are impossible or have no effect."""
    if not 0 <= mask_trashold <= 1:
        raise UserError(f"mask_trashold is {mask_trashold:g}; wanted a probability, 0 to 1")
    if mask_path and not use_mask:
        raise UserError(f"mask_path is {mask_path}, but has an effect only with use_mask; add that, or leave it out")


def check_face_options(align: bool, face: int | None, landmarks: str | Path | None, inverted: bool) -> None:
    """Raise UserError for values that are impossible or have no effect."""
    if face is None and not landmarks:
        return
    given = f"face is {face}" if face is not None else f"landmarks is {landmarks}"
    if face is not None and landmarks:
        raise UserError(f"face is {face} and landmarks is {landmarks}; give one of them")
    if inverted:
        raise UserError(f"{given}, but the face of an inverted photograph is cut out already; leave it out")
    if not align:
        raise UserError(f"{given}, but has an effect only with align; add that, or leave it out")
    if face is not None and face < 1:
        raise UserError(f"face is {face}; wanted 1 (the leftmost) or more")


def edit_pairs(
    editing_name: str | None, edited_power: float | None, edits: Sequence[tuple[str, float]] | None
) -> list[tuple[str, float]]:
    """The edits, from either of the two ways to give them."""
    if editing_name is not None and edited_power is not None and edits is None:
        edits = [(editing_name, edited_power)]
    elif edits is None or editing_name is not None or edited_power is not None:
        raise UserError(
            f"wanted either editing_name with edited_power, or edits; given: editing_name={editing_name!r}, "
            f"edited_power={edited_power!r}, edits={edits!r}"
        )
    try:
        pairs = [(str(name), float(power)) for name, power in edits]
    except (TypeError, ValueError):
        pairs = []
    if not pairs:
        raise UserError(f"edits is {edits!r}; wanted pairs of name and power, as in [('age', 5), ('smile', 2)]")
    return pairs


def edit_steps(edits: Sequence[tuple[str, float]]) -> list[tuple[str, list[float]]]:
    """The edits, all applied together, in the form of `Method.edit`."""
    return [(name, [power]) for name, power in edits]
