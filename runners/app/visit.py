"""One visitor's image: inverted once, edited many times; all its files are in one folder."""

import json
import re
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import rmtree
from typing import Any

from PIL import Image

from runners.animation_runner import AnimationRunner
from runners.app.picture import Picture
from runners.app.settings import AUTOMATIC, NO_MASK, History, Settings
from runners.simple_runner import SimpleRunner
from utils.drawing import image_strip
from utils.errors import UserError
from utils.files import INVERSION_SUFFIX, atomic_path
from utils.images import resize, save_image
from utils.video import save_gif

FRAMES = 13  # of an edit's GIF, one way
_STRIP_STEP = 3  # the strip shows every third frame
_GIF_SIDES, _GIF_FPS = (256, 384), 11  # least and most px
_KEPT = 3  # results whose files are kept, as the page may still be loading them

DOWNLOADS = {
    "picture": "Picture", "photograph": "Photograph", "strip": "Strip", "gif": "GIF", "settings": "Settings",
    "inversion": "Inversion file", "mask": "Mask",
}  # fmt: skip

Progress = Callable[[float, str], None]  # the fraction done, 0 to 1, and what is being done


@dataclass(frozen=True)
class Result:
    """An edit's or a mixture's images, and how long it took.

    before, after: files of the crop.
    seconds: of computing and writing.
    photograph: file of the whole photograph with the edited crop, if there is one.
    """

    before: Path
    after: Path
    seconds: float
    photograph: Path | None = None


class Visit:
    """Edits of one image.

    Args:
        runner: inverts and edits; the caller must let only one thread use it at a time.
        folder: for all files; exists, and is removed by `close`.
        facts: facts for the settings file, such as the config.
        settings: what is set at first. A mask of another image is left out.
    """

    def __init__(
        self, runner: SimpleRunner, folder: Path, picture: Picture, facts: dict[str, Any], settings: Settings
    ) -> None:
        self.runner, self.folder, self.picture, self.facts = runner, folder, picture, facts
        self.stem = re.sub(r"[^\w-]+", "_", Path(picture.name).stem)[:60].strip("_") or "picture"
        self.photo = picture.photo
        self.unedited = runner.reconstruct(self.photo)
        self.before = self._write("before.png", self.photo.crop)
        self.second: Picture | None = None  # what is mixed in
        self.history = History(settings if settings.mask == AUTOMATIC else replace(settings, mask=NO_MASK))
        self._made = 0  # folders of results
        self._last: tuple[Settings, Result] | None = None

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

    def edit(self, settings: Settings) -> Result:
        """The image for the settings, which costs one edit unless they are those of the last one. Raises UserError."""
        if self._last is not None and self._last[0] == settings:
            return self._last[1]
        start, edited = time.monotonic(), self._edited(settings)
        folder = self._new_folder("edit", _KEPT)
        after = self._write(f"{folder.name}/{self.stem}_edited.png", edited)
        shown = self.picture.shown(edited)
        whole = self._write(f"{folder.name}/photograph.jpg", shown) if shown else None
        result = Result(self.before, after, time.monotonic() - start, whole)
        self._last = settings, result
        return result

    def mix(self, share: float, layers: str) -> Result:
        """An image between this one and the second; see `SimpleRunner.mix`. Raises UserError."""
        start = time.monotonic()
        mixed = self.runner.mix(self.photo, self._second().photo, layers, share)
        folder = self._new_folder("mix", _KEPT)
        after = self._write(f"{folder.name}/{self.stem}_mixed.png", mixed)
        return Result(self.before, after, time.monotonic() - start)

    def morph(self, layers: str) -> Path:
        """A GIF from this image to the second one and back. Raises UserError."""
        gif = self._file("morph", ".gif")
        AnimationRunner(self.runner).morph(self.photo, self._second().photo, gif, layers, fps=_GIF_FPS)
        return gif

    def _second(self) -> Picture:
        if self.second is None:
            raise UserError("there is no second picture yet; upload or choose one")
        return self.second

    def download(self, kind: str, settings: Settings, progress: Progress) -> Path:
        """A file of the kinds in DOWNLOADS, for the settings. Raises UserError if there is none."""
        if kind == "picture":
            return self.edit(settings).after
        if kind == "photograph":
            if self.photo.quad is None:
                raise UserError("no face was cut out of a photograph; download the picture instead")
            path = self._file("photograph", ".jpg")
            save_image(self.photo.put_back(self._edited(settings)), path)
            return path
        if kind == "settings":
            return self._settings_file(settings)
        if kind == "inversion":
            path = self._file("inversion", INVERSION_SUFFIX)
            self.photo.save(path)
            return path
        if kind == "mask":
            mask = self._mask(settings)
            if mask is None:
                raise UserError("there is no mask of your own; paint or upload one")
            path = self._file("mask", ".png")
            path.write_bytes(mask.read_bytes())
            return path
        return self._animation(kind, settings, progress)

    def _animation(self, kind: str, settings: Settings, progress: Progress) -> Path:
        """The crop from no edit to the whole one: a strip, or a GIF that comes back."""
        if not settings.edits:
            raise UserError("nothing is edited yet; move a slider first")
        step = _STRIP_STEP if kind == "strip" else 1
        frames = []
        for i in range(0, FRAMES, step):
            progress(i / FRAMES, f"{i} of {FRAMES}")
            part = i / (FRAMES - 1)
            edits = {name: power * part for name, power in settings.edits.items() if part}
            frames.append((f"{part:.0%}", self._edited(replace(settings, edits=edits))))
        if kind == "strip":
            path = self._file("strip", ".jpg")
            save_image(image_strip(frames), path)
            return path
        side = min(max(self.photo.crop.width, _GIF_SIDES[0]), _GIF_SIDES[1])
        small = [resize(image, side) for _, image in frames]
        path = self._file("edit", ".gif")
        save_gif(small + small[-2:0:-1], path, _GIF_FPS)
        return path

    def _file(self, what: str, suffix: str) -> Path:
        """A place for a file to download, which replaces the one before."""
        folder = self._new_folder(f"download_{suffix[1:]}", 1)
        folder.mkdir()
        return folder / f"{self.stem}_{what}{suffix}"

    def _new_folder(self, kind: str, kept: int) -> Path:
        """A folder for a result's files, with a new name, which no browser has cached; keeps `kept` − 1 old ones."""
        old = sorted(self.folder.glob(f"{kind}_*"))
        for folder in old[: max(0, len(old) - kept + 1)]:
            rmtree(folder, ignore_errors=True)
        self._made += 1
        return self.folder / f"{kind}_{self._made:06}"

    def _edited(self, settings: Settings) -> Image.Image:
        mask = self._mask(settings)
        if not settings.edits:
            return self.unedited
        return self.runner.edit(
            self.photo, edits=list(settings.edits.items()), use_mask=settings.mask != NO_MASK,
            mask_trashold=settings.threshold, mask_path=mask,
        )  # fmt: skip

    def _mask(self, settings: Settings) -> Path | None:
        """The file of the visitor's mask; None if the settings use none."""
        if not self.has_mask(settings.mask):
            raise UserError(f"there is no {settings.mask} mask yet; paint or upload one, or choose another kind")
        return None if settings.mask in (NO_MASK, AUTOMATIC) else self._mask_file(settings.mask)

    def _settings_file(self, settings: Settings) -> Path:
        """Enough to make the image again by scripts/simple_inference.py."""
        picture, edits, mask = self.picture, dict(settings.edits), self._mask(settings)
        mask_name = f"{self.stem}_mask.png" if mask else None
        command = ["python", "scripts/simple_inference.py", f"--orig_img_pth={picture.name}"]
        command += ["--simple_config_pth", str(self.facts["config"]), "--save_pth", f"{self.stem}_edited.png"]
        command += ["--align"] * picture.align + ["--edits", *(f"{name}={power}" for name, power in edits.items())]
        command += ["--face", str(picture.face)] if picture.face else []
        if settings.mask != NO_MASK:
            command += ["--use_mask", "--mask_trashold", str(settings.threshold)]
        command += ["--mask_path", mask_name] if mask_name else []
        facts = {
            "picture": picture.name, **self.facts, "align": picture.align, "face": picture.face, "edits": edits,
            "mask": settings.mask, "mask_threshold": settings.threshold if settings.mask == AUTOMATIC else None,
            "mask_file": mask_name, "link": settings.query(), "command": shlex.join(command) if edits else None,
        }  # fmt: skip
        path = self._file("settings", ".json")
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
        return path

    def _write(self, name: str, image: Image.Image) -> Path:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        image.save(path, compress_level=1, quality=90)  # not synced to disk: a visitor waits for it
        return path
