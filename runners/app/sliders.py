"""The page's sliders: which directions share one, under which heading it stands, and how it is called."""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

MORE = "More"  # the heading of directions that are in no group

# Heading -> traits, in the page's order. A new direction's group is added here.
_GROUPS = {
    "Face": "age gender male face_roundness nose_length eyebrow_thickness skin_tone dark_skin makeup lipstick",
    "Expression": "smile eye_openness surprised angry displeased",
    "Hair": "long_hair bangs wavy_hair curly_hair afro bobcut bowlcut mohawk receding_hairline black_hair blond_hair "
    "grey_hair purple_hair beard facial_hair trimmed_beard goatee sideburns",
    "Pose": "rotation yaw head_angle_up pitch",
    "Accessories": "glasses hat earrings wear_suit",
}
_PLACES = {trait: (heading, i) for heading, names in _GROUPS.items() for i, trait in enumerate(names.split())}
_PREFIXES, _SUFFIXES = ("fs_", "ss"), ("_w", "_pc", "_ss")  # of names that several families would share
_OTHER_NAMES = {"smiling": "smile"}
# Families and what the page calls them. The first that has a trait moves it: the method's own directions first, those
# that mix traits last.
_FAMILIES = {
    "fs_boundaries": "FS boundary", "interfacegan": "InterfaceGAN", "stylespace": "StyleSpace",
    "styleclip_mapper": "StyleCLIP mapper", "ganspace": "GANSpace", "styleclip_global": "StyleCLIP",
    "deltaedit": "DeltaEdit",
}  # fmt: skip


@dataclass(frozen=True)
class Direction:
    """A direction as the page shows it.

    family: as the page calls it.
    low, high: the least and the greatest useful power.
    """

    name: str
    family: str
    low: float
    high: float

    @property
    def least(self) -> float:
        """The slider's lower end: no edit is always possible."""
        return min(self.low, 0)

    @property
    def most(self) -> float:
        return max(self.high, 0)

    @property
    def step(self) -> float:
        return 10 ** math.floor(math.log10((self.high - self.low) / 20))


@dataclass(frozen=True)
class Slider:
    """A trait, such as smile, and the directions that change it: one for each family, the default first."""

    trait: str
    directions: tuple[Direction, ...]

    @property
    def label(self) -> str:
        return self.trait.replace("_", " ").capitalize()


def family_name(family: str) -> str:
    """What the page calls a family of directions."""
    return _FAMILIES.get(family, family)


def trait_of(direction: str) -> str:
    """What a direction changes, whichever family it is of: `smile` for smile, fs_smiling, smiling and smile_w."""
    name = direction.replace(" ", "_")
    for prefix in _PREFIXES:
        rest = name.removeprefix(prefix)
        if rest != name and _OTHER_NAMES.get(rest, rest) in _PLACES:
            name = rest
    for suffix in _SUFFIXES:
        name = name.removesuffix(suffix)
    return _OTHER_NAMES.get(name, name)


def sliders(families: Mapping[str, Mapping[str, tuple[float, float]]]) -> dict[str, list[Slider]]:
    """Heading -> sliders, for what `SimpleRunner.available_editings` gives; text edits are to be left out."""
    shared: dict[str, list[Direction]] = defaultdict(list)
    order = list(_FAMILIES)
    for family in sorted(families, key=lambda name: order.index(name) if name in order else len(order)):
        for name, (low, high) in families[family].items():
            shared[trait_of(name)].append(Direction(name, family_name(family), low, high))
    found = sorted(shared, key=lambda trait: _PLACES.get(trait, (MORE, 0))[1])
    headings = {heading: [trait for trait in found if _PLACES.get(trait, (MORE, 0))[0] == heading]
                for heading in (*_GROUPS, MORE)}  # fmt: skip
    return {
        heading: [Slider(trait, tuple(shared[trait])) for trait in traits]
        for heading, traits in headings.items() if traits
    }  # fmt: skip
