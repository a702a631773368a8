"""Drawn avatars with a label for everything in them: the images of the domain `avatars`.

The drawings are Avataaars by Pablo Stanley (https://avataaars.com), "free for personal and commercial use", in
DiceBear's edition (dicebear-styles, remixed by DiceBear); dicebear-core puts an avatar together as SVG and resvg-py
draws it. All have the same position in the image, so nothing has to be aligned. An avatar is a value: change one
attribute with `dataclasses.replace`, and nothing else changes in the drawing: this gives the true image of an edit,
which no photograph has.
"""

import difflib
import functools
import importlib.resources
import io
import json
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image

from datasets.labels import HIDDEN
from utils.errors import UserError
from utils.images import to_tensor

SPLITS = ("train", "validation", "test", "unseen")  # unseen: each has a graphic or a hat that no other split has
NONE = "none"

SKINS = {
    "pale": "ffdbb4", "light": "edb98a", "tanned": "fd9841", "yellow": "f8d25c", "brown": "d08b5b",
    "dark_brown": "ae5d29", "black": "614335",
}  # fmt: skip
HAIR_COLORS = {
    "auburn": "a55728", "black": "2c1b18", "blonde": "b58143", "golden": "d6b370", "brown": "724133",
    "dark_brown": "4a312c", "pink": "f59797", "platinum": "ecdcbf", "red": "c93305", "silver": "e8e1e1",
}  # fmt: skip
CLOTH_COLORS = {  # dark enough for the white graphics
    "black": "262e33", "sky": "65c9ff", "blue": "5199e4", "navy": "25557c", "grey": "929598", "heather": "3c4f5c",
    "pink": "ff488e", "red": "ff5c5c",
}  # fmt: skip
GLASSES_COLORS = {"black": "262e33", "navy": "25557c", "red": "ff5c5c", "white": "ffffff"}
BACKGROUNDS = {
    "white": "f5f5f5", "blue": "b6e3f4", "violet": "c0aede", "lilac": "d1d4f9", "rose": "ffd5dc", "green": "c8e6c9",
}  # fmt: skip

LONG_HAIR = (
    "bigHair", "bob", "curly", "curvy", "dreads", "longButNotTooLong", "miaWallace", "shavedSides", "straight01",
    "straight02", "straightAndStrand",
)  # fmt: skip
SHORT_HAIR = (
    "bun", "dreads01", "dreads02", "frida", "frizzle", "fro", "froBand", "shaggy", "shaggyMullet", "shortCurly",
    "shortFlat", "shortRound", "shortWaved", "sides", "theCaesar", "theCaesarAndSidePart",
)  # fmt: skip
OPAQUE_GLASSES = "kurt"  # the eyes can be seen through all others
GRAPHIC_SHIRT = "graphicShirt"


def _even(*names: str) -> dict[str, float]:
    return dict.fromkeys(names, 1.0)


# Attribute -> its values and how often they are drawn, independently of all other attributes: a predictor or a
# direction for one of them cannot lean on another. The names of shapes are those of the style.
CHOICES: dict[str, dict[str, float]] = {
    "skin": {**_even(*SKINS), "tanned": 0.5, "yellow": 0.5},
    "hair": _even(*LONG_HAIR, *SHORT_HAIR),
    "hair_color": _even(*HAIR_COLORS),
    "hat": {NONE: 15.0, **_even("hijab", "turban", "winterHat02", "winterHat03", "winterHat1")},
    "hat_color": _even(*CLOTH_COLORS),
    "eyes": {
        "default": 3.0, "happy": 1.5, **_even("closed", "side", "squint", "surprised", "wink"), "eyeRoll": 0.5,
    },
    "brows": {
        "default": 2.0, "defaultNatural": 2.0,
        **_even(
            "angry", "angryNatural", "flatNatural", "frownNatural", "raisedExcited", "raisedExcitedNatural",
            "sadConcerned", "sadConcernedNatural", "upDown", "upDownNatural",
        ),
    },
    "mouth": {
        "smile": 4.0, "twinkle": 3.0, "default": 2.0, "tongue": 1.0, "serious": 4.0, "sad": 2.0,
        **_even("concerned", "disbelief", "grimace", "screamOpen"),
    },
    "facial_hair": {
        NONE: 12.0, **_even("beardLight", "beardMajestic", "beardMedium", "moustacheFancy", "moustacheMagnum"),
    },
    "glasses": {
        NONE: 13.0, **dict.fromkeys(("prescription01", "prescription02", "round"), 1.6),
        "wayfarers": 0.8, "sunglasses": 0.8, OPAQUE_GLASSES: 0.6,
    },
    "glasses_color": {**_even(*GLASSES_COLORS), "black": 4.0},
    "clothing": {
        GRAPHIC_SHIRT: 4.5,
        **_even(
            "blazerAndShirt", "blazerAndSweater", "collarAndSweater", "hoodie", "overall", "shirtCrewNeck",
            "shirtScoopNeck", "shirtVNeck",
        ),
    },
    "clothing_color": _even(*CLOTH_COLORS),
    "graphic": _even("bat", "bear", "cumbia", "diamond", "hola", "skull", "skullOutline"),
    "background": _even(*BACKGROUNDS),
}  # fmt: skip

# Never in the splits train, validation and test.
HELD_OUT = {"hat": ("hat", "winterHat04"), "graphic": ("deer", "pizza", "resist")}

VALUES: dict[str, tuple[str, ...]] = {k: (*v, *HELD_OUT.get(k, ())) for k, v in CHOICES.items()}  # labels count these


@dataclass(frozen=True)
class Avatar:
    """One avatar: a value of `VALUES` for each attribute, also for those that it does not show.

    A hat covers the hair, which is there all the same: take the hat off, and it shows. Facial hair has the hair's
    colour. Raises UserError for a value that does not exist.
    """

    skin: str
    hair: str
    hair_color: str
    hat: str
    hat_color: str
    eyes: str
    brows: str
    mouth: str
    facial_hair: str
    glasses: str
    glasses_color: str
    clothing: str
    clothing_color: str
    graphic: str
    background: str

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value not in VALUES[name]:
                nearest = difflib.get_close_matches(str(value), VALUES[name], n=3, cutoff=0.5) or VALUES[name]
                raise UserError(f"avatar attribute {name} is '{value}'; nearest: {', '.join(nearest)}")

    def shows(self, name: str) -> bool:
        """Whether the image depends on this attribute."""
        if name in ("hair", "hair_color") and self.hat != NONE:
            return name == "hair_color" and self.facial_hair != NONE
        if name in ("hat_color", "glasses_color"):
            return getattr(self, name.removesuffix("_color")) != NONE
        if name == "eyes":
            return self.glasses != OPAQUE_GLASSES
        return name != "graphic" or self.clothing == GRAPHIC_SHIRT

    def shown(self) -> dict[str, str | None]:
        """Attribute -> its value, or None where the image does not show it."""
        return {k: v if self.shows(k) else None for k, v in asdict(self).items()}

    def labels(self) -> dict[str, int]:
        """Attribute -> index into its `VALUES`, or HIDDEN."""
        return {k: HIDDEN if v is None else VALUES[k].index(v) for k, v in self.shown().items()}


def draw(split: str, index: int) -> Avatar:
    """The avatar number `index` of a split: the same for ever, without drawing those before it.

    Raises UserError for an unknown split.
    """
    if split not in SPLITS:
        raise UserError(f"there is no split '{split}' of the avatars; wanted one of {', '.join(SPLITS)}")
    random = np.random.default_rng((SPLITS.index(split), index))
    avatar = Avatar(**{name: _pick(choices, random.random()) for name, choices in CHOICES.items()})
    if split != "unseen":
        return avatar
    name = ("hat", "graphic")[index % 2]
    held_out = {name: HELD_OUT[name][index // 2 % len(HELD_OUT[name])]}
    return replace(avatar, **held_out, **({"clothing": GRAPHIC_SHIRT} if name == "graphic" else {}))


def render(avatar: Avatar, size: int) -> Image.Image:
    """The image of an avatar, RGB, size×size. Raises UserError if the packages that draw it are missing."""
    _, _, resvg_py = _packages()
    png = resvg_py.svg_to_bytes(svg_string=svg(avatar), width=size, height=size, skip_system_fonts=True)
    return Image.open(io.BytesIO(png)).convert("RGB")


def svg(avatar: Avatar) -> str:
    """The drawing, with the artist and the licence in its metadata."""
    dicebear, style, _ = _packages()
    options = {
        "skinColor": SKINS[avatar.skin],
        "topVariant": avatar.hair if avatar.hat == NONE else avatar.hat,
        "hairColor": HAIR_COLORS[avatar.hair_color],
        "hatColor": CLOTH_COLORS[avatar.hat_color],
        "eyesVariant": avatar.eyes,
        "eyebrowsVariant": avatar.brows,
        "mouthVariant": avatar.mouth,
        **_optional("facialHair", avatar.facial_hair),
        "facialHairColor": HAIR_COLORS[avatar.hair_color],
        **_optional("accessories", avatar.glasses),
        "accessoriesColor": GLASSES_COLORS[avatar.glasses_color],
        "clothesVariant": avatar.clothing,
        "clothesColor": CLOTH_COLORS[avatar.clothing_color],
        "clothesGraphicVariant": avatar.graphic,
        "backgroundColor": BACKGROUNDS[avatar.background],
    }
    return dicebear.Avatar(style, options).to_string()


class Avatars(torch.utils.data.Dataset):
    """The first `count` avatars of a split, drawn when asked for: pairs of

    - the image, 3×size×size, float32 in [-1, 1],
    - its labels, attribute -> index into `VALUES`, or HIDDEN.

    `forced` sets attributes of all of them: `Avatars("test", 100, 128, glasses="round")` are the first hundred with
    round glasses on, and otherwise as they are without.
    """

    def __init__(self, split: str, count: int, size: int, **forced: str) -> None:
        """Raises UserError for an unknown split, attribute or value, or if the packages that draw are missing."""
        unknown = ", ".join(forced.keys() - VALUES.keys())
        if unknown:
            raise UserError(f"avatars have no attribute {unknown}; there are: {', '.join(VALUES)}")
        replace(draw(split, 0), **forced)  # raises for a wrong split or value now
        _packages()
        self.split, self.count, self.size, self.forced = split, count, size, forced

    def __len__(self) -> int:
        return self.count

    def avatar(self, index: int) -> Avatar:
        if not 0 <= index < self.count:
            raise IndexError(f"avatar {index} of {self.count}")
        return replace(draw(self.split, index), **self.forced)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, dict[str, int]]:
        avatar = self.avatar(index)
        return to_tensor(render(avatar, self.size)), avatar.labels()


def _pick(choices: dict[str, float], position: float) -> str:
    """The value at `position` in [0, 1) of the cumulated weights."""
    edges = np.cumsum(list(choices.values()))
    return list(choices)[int(np.searchsorted(edges, position * edges[-1], side="right"))]


def _optional(component: str, variant: str) -> dict[str, Any]:
    """Options of a component that may be absent; the probability is in percent."""
    if variant == NONE:
        return {f"{component}Probability": 0}
    return {f"{component}Variant": variant, f"{component}Probability": 100}


@functools.cache
def _packages() -> tuple[Any, Any, Any]:
    """dicebear, the style, resvg_py: imported when the first avatar is drawn, as only this domain needs them."""
    try:
        import dicebear
        import resvg_py

        definition = importlib.resources.files("dicebear_styles").joinpath("avataaars.json").read_text("utf-8")
    except ImportError as error:
        raise UserError(f"avatars cannot be drawn: {error}; install them with: pip install -e '.[avatars]'") from None
    return dicebear, dicebear.Style(json.loads(definition)), resvg_py
