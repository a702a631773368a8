"""A photograph that has been inverted, in memory and as a file."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from models.faces.alignment import paste_back
from models.inference import Method
from models.inversion_file import Photograph, SavedInversion, load_inversion, save_inversion
from models.sfe import Inversion
from utils.errors import UserError
from utils.images import load_image


@dataclass
class InvertedPhoto:
    """An inverted photograph, from `SimpleRunner.invert`; accepted wherever a photograph's path is."""

    photograph: Photograph  # the file
    crop: Image.Image  # what was inverted: size×size of the generator
    inversion: Inversion
    method: Method  # that inverted it
    quad: np.ndarray | None = None  # 4×2, the crop's corners in the photograph, if it was cut out of one
    whole: Image.Image | None = None  # the photograph that the quad refers to, once it is read; see `original`
    background: Tensor | None = None  # size×size, its probability in the crop, from the first edit that needs it

    @property
    def path(self) -> Path:
        return self.photograph.path

    def original(self) -> Image.Image | None:
        """The whole photograph, if the crop was cut out of it; else None.

        After `load` it is read here, from the path in the inversion file, and must have the same sum. Raises UserError
        if it has been removed or changed.
        """
        if self.quad is not None and self.whole is None:
            if not self.photograph.is_still(self.path):
                raise UserError(
                    f"{str(self.path)!r} has been removed, or is not the photograph that was inverted; put it back, "
                    "or invert it again"
                )
            self.whole = load_image(self.path)
        return self.whole

    def put_back(self, edited: Image.Image) -> Image.Image:
        """The photograph with the edited crop in it; the crop itself, if it was not cut out. Raises UserError."""
        original = self.original()
        return edited if original is None or self.quad is None else paste_back(original, edited, self.quad)

    def save(self, path: str | Path) -> None:
        """Write an inversion file (.safetensors), whole or not at all: 12 MB for a face of 1024 px.

        It holds w, F, e4e's w, the crop, the photograph's path, and the sums of the weights. Raises UserError.
        """
        inversion = self.method.complete(self.inversion)
        crop = np.asarray(self.crop.convert("RGB"))
        save_inversion(SavedInversion(self.photograph, crop, inversion, self.quad, self.method.origin), path)

    @classmethod
    def load(cls, path: str | Path, method: Method) -> "InvertedPhoto":
        """Read what `save` wrote, for the method of a runner (`runner.method`); no network runs.

        Raises UserError if the file is damaged, or was made with other weights than the method's.
        """
        saved = load_inversion(path, method.domain, method.origin)
        parts = {name: getattr(saved.inversion, name) for name in ("image", "w", "features", "w_e4e")}
        moved = {name: part.to(method.device) for name, part in parts.items() if part is not None}
        inversion = replace(saved.inversion, **moved)
        return cls(saved.photograph, Image.fromarray(saved.crop), inversion, method, saved.quad)


def path_of(photo: str | Path | InvertedPhoto) -> Path:
    """The file of a photograph, however it was given."""
    return photo.path if isinstance(photo, InvertedPhoto) else Path(photo)
