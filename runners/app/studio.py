"""The web page's logic: visitors, their images, and limits on both."""

import logging
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree

from PIL import Image, ImageChops

from arguments.loader import read_yaml
from configs.paths import ROOT, weight_file
from runners.app.visit import PAINTED, UPLOADED, EditRequest, Progress, Result, Visit
from runners.simple_runner import CONFIG, SimpleRunner
from utils.errors import UserError
from utils.files import list_images
from utils.images import open_image

logger = logging.getLogger(__name__)

AVATARS_CONFIG = ROOT / "configs" / "avatars_simple_inference.yaml"
MAX_BYTES = 20 * 2**20  # of an uploaded file
MAX_VISITS = 8  # a visit holds a decoded photograph and its features
MAX_IDLE = 3600.0  # s
_SAMPLES = 8


@dataclass(frozen=True)
class Direction:
    """A direction as the page shows it."""

    name: str
    low: float
    high: float


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
        self.families = {
            family: [Direction(name, *powers) for name, powers in directions.items()]
            for family, directions in self.runner.available_editings().items()
        }
        self.text_families = self.runner.latent_editor.text_families()
        self.samples = _samples(self.domain.name, self.domain.alignment is not None)
        self._visits: OrderedDict[str, tuple[float, Visit]] = OrderedDict()  # by visitor, with the time of last use
        self._opening = threading.Lock()
        self._computing = threading.Lock()

    def text_problem(self, family: str) -> str:
        """Why a family of text edits cannot be used; "" if it can."""
        missing = [path for path in self.text_families[family].files() if not path.exists()]
        if not missing:
            return ""
        return f"{' and '.join(_short(path) for path in missing)} missing; scripts/download_weights.py fetches them"

    def open(self, visitor: str, upload: Path, name: str, align: bool, progress: Progress) -> Visit:
        """Check and invert an uploaded image; its file is removed.

        Raises UserError for a bad file, one outside of `folder`, or while another is being opened.
        """
        self._check_upload(upload, name)
        try:
            return self._open(visitor, upload, name, align, progress)
        finally:
            _remove(upload)

    def open_sample(self, visitor: str, index: int, align: bool, progress: Progress) -> Visit:
        """As `open`, for a sample."""
        if not 0 <= index < len(self.samples):
            raise UserError(f"there is no sample {index}; there are {len(self.samples)}")
        sample = self.samples[index]
        return self._open(visitor, sample, _short(sample), align, progress)

    def reopen(self, visitor: str, align: bool, progress: Progress) -> Visit:
        """The visitor's image once more, with or without alignment."""
        visit = self.visit(visitor)
        return self._open(visitor, visit.source, visit.name, align, progress)

    def _check_upload(self, upload: Path, name: str) -> None:
        if not upload.resolve().is_relative_to(self.folder) or not upload.is_file():
            raise UserError(f"{name}: was not uploaded here; upload it first")
        size = upload.stat().st_size
        if size > MAX_BYTES:
            _remove(upload)
            raise UserError(f"{name}: has {size / 2**20:.1f} MB; the limit is {MAX_BYTES >> 20} MB, shrink it first")

    def _open(self, visitor: str, source: Path, name: str, align: bool, progress: Progress) -> Visit:
        if not self._opening.acquire(blocking=False):
            raise UserError("another image is being opened; try again when it is open")
        try:
            progress(0.1, "waiting for the edits of others")
            with self._computing:
                progress(0.3, "finding the face and inverting" if align else "inverting")
                folder = self.folder / f"visit_{secrets.token_hex(16)}"
                folder.mkdir()
                try:
                    kept = folder / f"original{source.suffix if source.suffix.isascii() else ''}"
                    kept.write_bytes(source.read_bytes())
                    facts = {"domain": self.domain.name, "config": _short(self.config)}
                    visit = Visit(self.runner, folder, kept, name, align, facts)
                except BaseException:
                    rmtree(folder, ignore_errors=True)
                    raise
                self._drop(visitor)
                self._visits[visitor] = time.monotonic(), visit
                self._drop_old()
            progress(1.0, "ready")
            return visit
        finally:
            self._opening.release()

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

    def has_mask(self, visitor: str, kind: str) -> bool:
        """See Visit.has_mask."""
        return self.visit(visitor).has_mask(kind)

    @contextmanager
    def using(self, visitor: str) -> Iterator[Visit]:
        """The visitor's image, while nobody else computes. Raises UserError if there is none."""
        with self._computing:
            yield self.visit(visitor)

    def edit(self, visitor: str, request: EditRequest) -> Result:
        """See Visit.edit."""
        with self.using(visitor) as visit:
            return visit.edit(request)

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

    def sweep(
        self, visitor: str, request: EditRequest, direction: str, powers: tuple[float, float], progress: Progress
    ) -> tuple[Path, Path]:
        """See Visit.sweep."""
        with self.using(visitor) as visit:
            return visit.sweep(request, direction, powers, progress)

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
    """configs/simple_inference.yaml if its weights are there, else that of the avatars, which are shipped."""
    checkpoint = weight_file(read_yaml(CONFIG).model.checkpoint_path)
    if checkpoint.exists():
        return CONFIG
    logger.info("%s does not exist, so the page edits avatars; scripts/download_weights.py fetches it", checkpoint)
    return AVATARS_CONFIG


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
