"""What a visitor has set: as a value, as a link, and as a history."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlencode

from arguments.flags import MASK_TRASHOLD
from utils.errors import UserError

NO_MASK, AUTOMATIC, PAINTED, UPLOADED = "none", "automatic", "painted", "uploaded"
_STEPS = 100  # of a history
_PAUSE = 1.0  # s: moves of one control that follow each other more closely are one step
_MAX_EDITS = 100  # of a link


@dataclass(frozen=True)
class Settings:
    """The edits of an image.

    edits: direction -> power, none of them 0; what is made is their sum.
    mask: one of the names above; `threshold` counts for the automatic one.
    """

    edits: Mapping[str, float] = field(default_factory=dict)
    mask: str = NO_MASK
    threshold: float = MASK_TRASHOLD

    def query(self) -> str:
        """The settings as the query of a link; masks of the visitor's own are not in it, as they are images."""
        pairs = [("edit", f"{name}:{power:g}") for name, power in self.edits.items()]
        if self.mask == AUTOMATIC:
            pairs.append(("mask", f"{self.threshold:g}"))
        return urlencode(pairs, safe=":")

    def changed(self, other: "Settings") -> set[str]:
        """The names of what differs."""
        names = {
            name for name in {*self.edits, *other.edits} if self.edits.get(name, 0.0) != other.edits.get(name, 0.0)
        }
        return names | {key for key in ("mask", "threshold") if getattr(self, key) != getattr(other, key)}


def read_query(query: str, clamp: Callable[[str, float], float]) -> tuple[Settings, list[str]]:
    """The settings of a link, and what of it cannot be used.

    clamp: a power within the range of a direction; it raises UserError for a name that there is not.
    """
    edits, problems, mask, threshold = {}, [], NO_MASK, MASK_TRASHOLD
    try:
        parts = parse_qs(query.removeprefix("?"), max_num_fields=_MAX_EDITS)
    except ValueError:
        return Settings(), ["it is too long"]
    for text in parts.get("edit", []):
        name, _, power = text.rpartition(":")
        try:
            value = clamp(name, _number(power))
        except (ValueError, UserError):
            problems.append(f"there is no edit {text[:60]!r}")
        else:
            if value:
                edits[name] = value
    for text in parts.get("mask", [])[-1:]:
        try:
            threshold, mask = min(max(_number(text), 0.0), 1.0), AUTOMATIC
        except ValueError:
            problems.append(f"there is no mask {text[:60]!r}")
    return Settings(edits, mask, threshold), problems


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


class History:
    """Settings that can be undone and redone."""

    def __init__(self, first: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._steps, self._at, self._clock, self._last = [first], 0, clock, -_PAUSE

    @property
    def current(self) -> Settings:
        return self._steps[self._at]

    @property
    def can_undo(self) -> bool:
        return self._at > 0

    @property
    def can_redo(self) -> bool:
        return self._at < len(self._steps) - 1

    def add(self, settings: Settings) -> None:
        """Make these the current ones; those that were undone are dropped."""
        changed = self.current.changed(settings)
        if changed:
            del self._steps[self._at + 1 :]
            drags = self._at > 0 and self._clock() - self._last < _PAUSE
            if drags and len(changed) == 1 and self._steps[-2].changed(self.current) == changed:
                self._steps[-1] = settings
            else:
                self._steps = [*self._steps, settings][-_STEPS:]
            self._at = len(self._steps) - 1
        self._last = self._clock()

    def move(self, by: int) -> Settings:
        """Undo (−1) or redo (1), as far as there is a step; returns the settings that are current then."""
        self._at = min(max(self._at + by, 0), len(self._steps) - 1)
        self._last = -_PAUSE
        return self.current
