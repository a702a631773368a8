"""The web page's logic: visitors, their images, and limits on both."""

import logging
import os
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from shutil import rmtree

import torch
from PIL import Image, ImageChops

from arguments.loader import read_yaml
from configs.paths import ROOT, weight_file
from runners.app.picture import Picture
from runners.app.settings import PAINTED, UPLOADED, Settings
from runners.app.sliders import sliders
from runners.app.visit import Progress, Visit
from runners.simple_runner import CONFIG, SimpleRunner
from utils.errors import UserError
from utils.files import list_images
from utils.images import open_image

logger = logging.getLogger(__name__)

# The page's config is the first of these whose weights are there; those of the last are shipped.
CONFIGS = (
    CONFIG, ROOT / "configs" / "people_simple_inference.yaml", ROOT / "configs" / "avatars_simple_inference.yaml"
)  # fmt: skip
MAX_BYTES = 20 * 2**20  # of an uploaded file
MAX_VISITS = 8  # a visit holds a decoded photograph and its features
MAX_IDLE = 3600.0  # s
MAX_WAIT = 60.0  # s, for others' images
_SAMPLES = 8


class Studio:
    """Opens images of visitors and edits them, one computation at a time.

    Args:
        config: YAML with domain and method.
        device: None takes that of the config.
        folder: uploads are read only from it; visits have their files in it.
    """

    def __init__(self, config: Path, device: str | None, folder: Path) -> None:
        self.config, self.folder = config, folder.resolve()
        self.runner = SimpleRunner(None, config, device)
        self.domain = self.runner.method.domain
        self.text_families = self.runner.latent_editor.text_families()
        families = self.runner.available_editings()
        self.sliders = sliders({name: families[name] for name in families if name not in self.text_families})
        self.samples = _samples(self.domain.name, self.domain.alignment is not None)
        self._opened_samples: dict[tuple[int, bool], Picture] = {}  # with or without alignment
        self._visits: OrderedDict[str, tuple[float, Visit]] = OrderedDict()  # by visitor, with the time of last use
        self._opening = threading.Lock()
        self._computing = threading.Lock()

    def text_problem(self, family: str) -> str:
        """Why a family of text edits cannot be used; "" if it can."""
        missing = [path for path in self.text_families[family].files() if not path.exists()]
        if not missing:
            return ""
        return f"{' and '.join(_short(path) for path in missing)} missing; scripts/download_weights.py fetches them"

    def clamped(self, name: str, power: float) -> float:
        """The power, within the useful ones of a direction. Raises UserError for an unknown name."""
        low, high = self.runner.latent_editor.useful_range(name)
        return min(max(power, min(low, 0)), max(high, 0))

    def memory(self) -> int:
        """Bytes in use: of the GPU, if it computes there, else of this process."""
        device = self.runner.method.device
        if device.type == "cuda":
            return torch.cuda.memory_allocated(device)
        status = Path("/proc/self/statm")
        return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if status.exists() else 0

    def open(self, visitor: str, upload: Path, name: str, align: bool, settings: Settings, progress: Progress) -> Visit:
        """Check and invert an uploaded image, to which the settings then apply; its file is removed.

        Raises UserError for a bad file, one outside of `folder`, or while another is being opened.
        """
        self._check_upload(upload, name)
        try:
            with self._one_opening(align, progress):
                return self._visit(visitor, lambda folder: self._keep(folder, upload, name, align), settings)
        finally:
            _remove(upload)

    def open_sample(self, visitor: str, index: int, align: bool, settings: Settings, progress: Progress) -> Visit:
        """As `open`, for a sample; the page opens with one, so it waits for images that others open."""
        with self._one_opening(align, progress, MAX_WAIT):
            return self._visit(visitor, lambda _: self._sample(index, align), settings)

    def reopen(self, visitor: str, align: bool, settings: Settings, progress: Progress) -> Visit:
        """The visitor's image once more, with or without alignment."""
        picture = self.visit(visitor).picture

        def again(folder: Path) -> Picture:
            if picture.source in self.samples:
                return self._sample(self.samples.index(picture.source), align)
            return self._keep(folder, picture.source, picture.name, align)

        with self._one_opening(align, progress):
            return self._visit(visitor, again, settings)

    def choose_face(self, visitor: str, number: int, settings: Settings, progress: Progress) -> Visit:
        """The visitor's photograph with another of its faces cut out; from 1, left to right. Raises UserError."""
        picture = self.visit(visitor).picture

        def chosen(folder: Path) -> Picture:
            source = folder / picture.source.name
            source.write_bytes(picture.source.read_bytes())
            return replace(picture.with_face(self.runner, number), source=source)

        with self._one_opening(True, progress):
            return self._visit(visitor, chosen, settings)

    def open_second(self, visitor: str, chosen: int | tuple[Path, str], align: bool, progress: Progress) -> None:
        """The picture that is mixed into the visitor's: a sample, or an upload with its name. Raises as `open` does."""
        try:
            if not isinstance(chosen, int):
                self._check_upload(*chosen)
            with self._one_opening(align, progress):
                visit = self.visit(visitor)
                if isinstance(chosen, int):
                    visit.second = self._sample(chosen, align)
                else:
                    visit.second = Picture.open(self.runner, *chosen, align)
        finally:
            if not isinstance(chosen, int) and chosen[0].resolve().is_relative_to(self.folder):
                _remove(chosen[0])

    def _check_upload(self, upload: Path, name: str) -> None:
        if not upload.resolve().is_relative_to(self.folder) or not upload.is_file():
            raise UserError(f"{name}: was not uploaded here; upload it first")
        size = upload.stat().st_size
        if size > MAX_BYTES:
            _remove(upload)
            raise UserError(f"{name}: has {size / 2**20:.1f} MB; the limit is {MAX_BYTES >> 20} MB, shrink it first")

    @contextmanager
    def _one_opening(self, align: bool, progress: Progress, wait: float = 0) -> Iterator[None]:
        """While nobody else computes. Raises UserError if for `wait` seconds another image is being opened."""
        if not self._opening.acquire(timeout=wait):
            raise UserError("another image is being opened; try again when it is open")
        try:
            progress(0.1, "waiting for the edits of others")
            with self._computing:
                progress(0.3, "finding the face and inverting" if align else "inverting")
                yield
            progress(1.0, "ready")
        finally:
            self._opening.release()

    def _visit(self, visitor: str, open_picture: Callable[[Path], Picture], settings: Settings) -> Visit:
        """A visit of the picture that is opened for a new folder, in place of the one that the visitor has."""
        folder = self.folder / f"visit_{secrets.token_hex(16)}"
        folder.mkdir()
        try:
            facts = {"domain": self.domain.name, "config": _short(self.config)}
            visit = Visit(self.runner, folder, open_picture(folder), facts, settings)
        except BaseException:
            rmtree(folder, ignore_errors=True)
            raise
        self._drop(visitor)
        self._visits[visitor] = time.monotonic(), visit
        self._drop_old()
        return visit

    def _keep(self, folder: Path, source: Path, name: str, align: bool) -> Picture:
        """A copy of the file, opened."""
        kept = folder / f"original{source.suffix if source.suffix.isascii() else ''}"
        kept.write_bytes(source.read_bytes())
        return Picture.open(self.runner, kept, name, align)

    def _sample(self, index: int, align: bool) -> Picture:
        """A sample, opened; it is inverted once for all visitors."""
        if not 0 <= index < len(self.samples):
            raise UserError(f"there is no sample {index}; there are {len(self.samples)}")
        if (index, align) not in self._opened_samples:
            sample = self.samples[index]
            self._opened_samples[index, align] = Picture.open(self.runner, sample, _short(sample), align)
        return self._opened_samples[index, align]

    def visit(self, visitor: str) -> Visit:
        """Raises UserError if the visitor has no image open."""
        if visitor not in self._visits:
            raise UserError("no image is open; upload or choose one (an hour without edits closes it)")
        visit = self._visits[visitor][1]
        self._visits[visitor] = time.monotonic(), visit
        self._visits.move_to_end(visitor)
        return visit

    def has_visit(self, visitor: str) -> bool:
        return visitor in self._visits

    @contextmanager
    def using(self, visitor: str) -> Iterator[Visit]:
        """The visitor's image, while nobody else computes. Raises UserError if there is none."""
        with self._computing:
            yield self.visit(visitor)

    def paint(self, visitor: str, layers: list[Image.Image]) -> None:
        """Set the painted mask: what is painted on any layer (RGBA) stays unedited. Raises UserError if nothing is."""
        strokes = [layer.getchannel("A") for layer in layers if layer.getbbox()]
        if not strokes:
            raise UserError("nothing is painted yet; paint over what should stay unedited")
        mask = strokes[0]
        for stroke in strokes[1:]:
            mask = ImageChops.lighter(mask, stroke)
        with self.using(visitor) as visit:
            visit.set_mask(PAINTED, mask)

    def upload_mask(self, visitor: str, upload: Path, name: str) -> None:
        """A mask from a file. Raises UserError for a bad file, or one that was not uploaded here."""
        self._check_upload(upload, name)
        try:
            mask = open_image(upload)
        except UserError as error:
            raise UserError(str(error).replace(str(upload), name)) from None
        finally:
            _remove(upload)
        with self.using(visitor) as visit:
            visit.set_mask(UPLOADED, mask)

    def close(self, visitor: str) -> None:
        """Remove everything of a visitor who has left."""
        with self._computing:
            self._drop(visitor)

    def _drop(self, visitor: str) -> None:
        if visitor in self._visits:
            self._visits.pop(visitor)[1].close()

    def _drop_old(self) -> None:
        now = time.monotonic()
        for visitor in list(self._visits):  # the longest unused first
            if len(self._visits) > MAX_VISITS or now - self._visits[visitor][0] > MAX_IDLE:
                self._drop(visitor)


def default_config() -> Path:
    """The first of CONFIGS whose weights are there."""
    for config in CONFIGS[:-1]:
        checkpoint = weight_file(read_yaml(config).model.checkpoint_path)
        if checkpoint.exists():
            return config
        logger.info("%s does not exist, so the page does not use %s", checkpoint, _short(config))
    return CONFIGS[-1]


def _samples(domain: str, faces: bool) -> list[Path]:
    folder = ROOT / "assets" / domain
    if folder.is_dir():
        return list_images(folder)[:_SAMPLES]
    return [ROOT / "assets" / "astronaut.png"] if faces else []


def _remove(upload: Path) -> None:
    """Remove the file, and the folder that gradio made for it."""
    upload.unlink(missing_ok=True)
    with suppress(OSError):  # not empty: somebody else uploads the same file
        upload.parent.rmdir()


def _short(path: Path) -> str:
    """The path relative to the project's folder, if it is in it."""
    path = path.absolute()
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)
