"""Which network of the method a weight file holds. Does not import torch."""

from collections.abc import Iterable
from enum import Enum


class WeightKind(Enum):
    """A kind of weight file, as errors call it."""

    FEATURE_EDITOR = "a Feature Editor"
    INVERTER = "an Inverter"
    E4E = "an e4e encoder"
    OTHER = "no StyleFeatureEditor network"


# How tensors of each kind begin. A Feature Editor's file holds its Inverter too, so it comes first.
_PREFIXES = {
    WeightKind.FEATURE_EDITOR: "inverter.fs_backbone.",
    WeightKind.INVERTER: "encoder.fs_backbone.",
    WeightKind.E4E: "encoder.latlayer1.",
}


def kind_of(names: Iterable[str]) -> WeightKind:
    """The kind of a file, from the names of its tensors."""
    names = list(names)
    kinds = (kind for kind, prefix in _PREFIXES.items() if any(name.startswith(prefix) for name in names))
    return next(kinds, WeightKind.OTHER)
