"""What tests of the page's logic do without a browser: uploads, edits, and their pixels."""

from pathlib import Path

import numpy as np
from PIL import Image

from runners.app.settings import Settings
from runners.app.studio import Studio
from runners.app.visit import Result

OLDER = Settings({"age": 5})


def uploaded(studio: Studio, name: str, content: bytes) -> Path:
    path = studio.folder / "uploads" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def edited(studio: Studio, visitor: str, settings: Settings) -> Result:
    with studio.using(visitor) as visit:
        return visit.edit(settings)


def quiet(part: float, what: str) -> None:
    assert 0 <= part <= 1 and what


def pixels(path: Path | Image.Image) -> np.ndarray:
    return np.asarray(path if isinstance(path, Image.Image) else Image.open(path), dtype=int)
