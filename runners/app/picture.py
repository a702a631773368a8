"""An opened image: inverted, and the photograph around it with its faces outlined."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from models.faces.alignment import face_quad, paste_back
from models.inversion_file import Photograph, is_inversion_file
from runners.photo import InvertedPhoto
from runners.simple_runner import SimpleRunner
from utils.errors import UserError
from utils.images import load_image

_SIDE = 800  # px, the longer side of a photograph as the page shows it
_CHOSEN, _OTHER, _AROUND = "#818cf8", "#ffffff", "#0f172a"


@dataclass(frozen=True)
class Picture:
    """An image that has been inverted.

    source, name: its file, and the visitor's name of it.
    align: whether a face was cut out.
    faces: K×68×2, the landmarks of the photograph's upright faces from left to right; none if it was not searched.
    face: which of them was cut out, from 1; None if there are not several.
    """

    source: Path
    name: str
    align: bool
    photo: InvertedPhoto
    faces: tuple[np.ndarray, ...] = ()
    face: int | None = None

    @classmethod
    def open(cls, runner: SimpleRunner, source: Path, name: str, align: bool) -> "Picture":
        """Read a photograph or an inversion file and invert it; with `align`, the largest face. Raises UserError."""
        try:
            if align and not is_inversion_file(source):
                return cls._aligned(runner, source, name)
            photo = runner.invert(source)
            # The photograph that an inversion file names would be a file of this machine.
            return cls(source, name, False, replace(photo, quad=None, whole=None))
        except UserError as error:
            raise UserError(str(error).replace(str(source), name)) from None

    @classmethod
    def _aligned(cls, runner: SimpleRunner, source: Path, name: str) -> "Picture":
        whole = load_image(source)
        try:
            faces, main = runner.faces(whole, source)
        except UserError:  # none is upright
            return cls(source, name, True, runner.aligned(whole, Photograph.of(source), None))
        photo = runner.aligned(whole, Photograph.of(source), faces[main])
        return cls(source, name, True, photo, tuple(faces), main + 1 if len(faces) > 1 else None)

    def with_face(self, runner: SimpleRunner, number: int) -> "Picture":
        """The same photograph with another face cut out. Raises UserError if there is no such face."""
        if not 1 <= number <= len(self.faces) or self.photo.whole is None:
            raise UserError(f"there is no face {number}; the photograph shows {len(self.faces)}")
        photo = runner.aligned(self.photo.whole, self.photo.photograph, self.faces[number - 1])
        return replace(self, photo=photo, face=number)

    def face_at(self, x: float, y: float) -> int:
        """The number of the face nearest to a place in what `shown` returns."""
        place = np.array([x, y]) / self._scale
        distances = [float(np.hypot(*(face.mean(axis=0) - place))) for face in self.faces]
        return distances.index(min(distances)) + 1

    def shown(self, edited: Image.Image) -> Image.Image | None:
        """The photograph, at most 800 px, with the edited crop in it and its faces outlined; None if there is none."""
        if self._preview is None or self.photo.quad is None:
            return None
        image = paste_back(self._preview, edited, self._scaled(self.photo.quad))
        draw, width = ImageDraw.Draw(image), max(image.width, image.height) // 200
        for i, landmarks in enumerate(self.faces):
            if i + 1 != self.face and len(self.faces) > 1:
                _outline(draw, self._scaled(face_quad(landmarks)), _OTHER, width)
        _outline(draw, self._scaled(self.photo.quad), _CHOSEN, width + 1)
        return image

    @property
    def _scale(self) -> float:
        return min(_SIDE / max(self.photo.whole.size), 1.0) if self.photo.whole else 1.0

    @cached_property
    def _preview(self) -> Image.Image | None:
        whole = self.photo.whole
        if whole is None:
            return None
        size = [max(round(side * self._scale), 1) for side in whole.size]
        return whole.convert("RGB").resize((size[0], size[1]), Image.Resampling.LANCZOS)

    def _scaled(self, points: np.ndarray) -> np.ndarray:
        return (np.asarray(points) + 0.5) * self._scale - 0.5


def _outline(draw: ImageDraw.ImageDraw, quad: np.ndarray, colour: str, width: int) -> None:
    corners = [(float(x), float(y)) for x, y in (*quad, quad[0], quad[1])]
    draw.line(corners, _AROUND, width + 2, "curve")
    draw.line(corners, colour, width, "curve")
