"""One visitor's image: inverted once, edited many times; all its files are in one folder."""

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import Any

from PIL import Image

from models.faces.alignment import paste_back
from runners.simple_runner import SimpleRunner
from utils.drawing import image_strip
from utils.errors import UserError
from utils.files import atomic_path
from utils.images import resize, save_image
from utils.video import save_gif

NO_MASK, AUTOMATIC, PAINTED, UPLOADED = "none", "automatic", "painted", "uploaded"
FRAMES = 13  # of a strength sweep
_STRIP_STEP = 3  # the strip shows every third frame
_GIF_SIDES, _GIF_FPS = (256, 384), 11  # least and most px
_KEPT = 3  # results whose files are kept, as the page may still be loading them

Progress = Callable[[float, str], None]  # the fraction done, 0 to 1, and what is being done


@dataclass(frozen=True)
class EditRequest:
    """The edits of an image, and how to show it.

    edits: direction -> power; power 0 means none.
    mask: one of the names above; `threshold` counts for the automatic one.
    whole: show the whole photograph with the edited crop in it, if the crop was cut out of one.
    """

    edits: dict[str, float]
    mask: str = NO_MASK
    threshold: float = 0.095
    whole: bool = False


@dataclass(frozen=True)
class Result:
    """Files: the images to compare, what is downloaded, and the visitor's mask, if there is one."""

    before: Path
    after: Path
    settings: Path
    mask: Path | None


class Visit:
    """Edits of one image.

    Args:
        runner: inverts and edits; the caller must let only one thread use it at a time.
        folder: for all files; made here, removed by `close`.
        source: the image's file; it must exist as long as the visit.
        name: the visitor's name of the file.
        facts: facts for the settings file, such as the config.
    """

    def __init__(
        self, runner: SimpleRunner, folder: Path, source: Path, name: str, align: bool, facts: dict[str, Any]
    ) -> None:
        self.runner, self.folder, self.source, self.name, self.align, self.facts = (
            runner, folder, source, name, align, facts
        )  # fmt: skip
        self.stem = re.sub(r"[^\w-]+", "_", Path(name).stem)[:60].strip("_") or "picture"
        try:
            self.photo = runner.invert(source, align)
        except UserError as error:
            raise UserError(str(error).replace(str(source), name)) from None
        self.unedited = runner.reconstruct(self.photo)
        self.before = self._write("before.png", self.photo.crop)
        self.before_whole = self.before
        self.original = self.photo.original()
        if self.original is not None:
            self.before_whole = self._write("photograph.jpg", self.original)
        self._made = 0  # folders of results
        self._last: tuple[EditRequest, Result] | None = None

    def close(self) -> None:
        """Remove every file."""
        rmtree(self.folder, ignore_errors=True)

    def canvas(self, side: int = 512) -> Path:
        """The crop, large enough to paint on."""
        return self._write("canvas.png", resize(self.photo.crop, max(side, self.photo.crop.width)))

    def set_mask(self, kind: str, mask: Image.Image) -> None:
        """Keep a visitor's mask of any size and mode, white where the image stays unedited."""
        first = mask.convert("RGB").getchannel(0)  # as simple_inference reads masks
        self._write(self._mask_file(kind).name, resize(first, self.photo.crop.width))
        self._last = None

    def has_mask(self, kind: str) -> bool:
        """Whether a mask of this kind can be used now."""
        return kind in (NO_MASK, AUTOMATIC) or self._mask_file(kind).exists()

    def _mask_file(self, kind: str) -> Path:
        return self.folder / f"{kind}_mask.png"

    def edit(self, request: EditRequest) -> Result:
        """The image for a request, which costs one edit unless the last request was the same. Raises UserError."""
        if self._last is not None and self._last[0] == request:
            return self._last[1]
        edits, mask = _effective(request.edits), self._mask(request)
        edited = self._edited(edits, request, mask)
        folder = self._new_folder("edit", _KEPT)
        name = f"{folder.name}/{self.stem}_edited"
        if request.whole and self.original is not None and self.photo.quad is not None:
            after = self._write(f"{name}.jpg", paste_back(self.original, edited, self.photo.quad))
        else:
            after = self._write(f"{name}.png", edited)
        if mask is not None:
            content, mask = mask.read_bytes(), folder / f"{self.stem}_mask.png"
            mask.write_bytes(content)
        settings = folder / f"{self.stem}_settings.json"
        with atomic_path(settings) as temporary:
            temporary.write_text(json.dumps(self._settings(edits, request, mask), indent=1, ensure_ascii=False) + "\n")
        result = Result(self.before_whole if after.suffix == ".jpg" else self.before, after, settings, mask)
        self._last = request, result
        return result

    def sweep(
        self, request: EditRequest, direction: str, powers: tuple[float, float], progress: Progress
    ) -> tuple[Path, Path]:
        """The crop from the lowest to the highest power of a direction, besides the other edits: strip and GIF."""
        low, high = powers
        mask, frames = self._mask(request), []
        for i in range(FRAMES):
            progress(i / FRAMES, f"{direction}: {i + 1} of {FRAMES}")
            power = low + (high - low) * i / (FRAMES - 1)
            image = self._edited(_effective({**request.edits, direction: power}), request, mask)
            frames.append((f"{direction} {power:.3g}", image))
        folder = self._new_folder("sweep", 1)
        strip = self._write(f"{folder.name}/{self.stem}_strip.jpg", image_strip(frames[::_STRIP_STEP]))
        side = min(max(self.photo.crop.width, _GIF_SIDES[0]), _GIF_SIDES[1])
        small = [resize(image, side) for _, image in frames]
        gif = folder / f"{self.stem}_sweep.gif"
        save_gif(small + small[-2:0:-1], gif, _GIF_FPS)  # there and back
        return strip, gif

    def _new_folder(self, kind: str, kept: int) -> Path:
        """A folder for a result's files, with a new name, which no browser has cached; keeps `kept` − 1 old ones."""
        old = sorted(self.folder.glob(f"{kind}_*"))
        for folder in old[: max(0, len(old) - kept + 1)]:
            rmtree(folder, ignore_errors=True)
        self._made += 1
        return self.folder / f"{kind}_{self._made:06}"

    def _edited(self, edits: dict[str, float], request: EditRequest, mask: Path | None) -> Image.Image:
        if not edits:
            return self.unedited
        return self.runner.edit(
            self.photo, edits=list(edits.items()), use_mask=request.mask != NO_MASK, mask_trashold=request.threshold,
            mask_path=mask,
        )  # fmt: skip

    def _mask(self, request: EditRequest) -> Path | None:
        """The file of the visitor's mask; None if the request uses none."""
        if not self.has_mask(request.mask):
            raise UserError(f"there is no {request.mask} mask yet; paint or upload one, or choose another kind of mask")
        return None if request.mask in (NO_MASK, AUTOMATIC) else self._mask_file(request.mask)

    def _settings(self, edits: dict[str, float], request: EditRequest, mask: Path | None) -> dict[str, Any]:
        """Enough to make the image again by scripts/simple_inference.py."""
        command = ["python", "scripts/simple_inference.py", f"--orig_img_pth={self.name}"]
        command += ["--simple_config_pth", str(self.facts["config"]), "--save_pth", f"{self.stem}_edited.png"]
        command += ["--align"] * self.align + ["--edits", *(f"{name}={power}" for name, power in edits.items())]
        if request.mask != NO_MASK:
            command += ["--use_mask", "--mask_trashold", str(request.threshold)]
        if mask is not None:
            command += ["--mask_path", mask.name]
        return {
            "picture": self.name, **self.facts, "align": self.align, "edits": edits, "mask": request.mask,
            "mask_threshold": request.threshold if request.mask == AUTOMATIC else None,
            "mask_file": mask and mask.name, "command": shlex.join(command) if edits else None,
        }  # fmt: skip

    def _write(self, name: str, image: Image.Image) -> Path:
        path = self.folder / name
        save_image(image, path, compression=1)  # a visitor waits for it
        return path


def _effective(edits: dict[str, float]) -> dict[str, float]:
    return {name: power for name, power in edits.items() if power != 0}
