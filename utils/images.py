"""Images: file ↔ PIL ↔ tensor.

An image in memory is a PIL image of mode RGB, in sRGB; a tensor of one is 3×H×W, float32, RGB in [-1, 1]. Torch is
imported by what makes tensors, so that processes which only read and write images start fast.
"""

from __future__ import annotations

import logging
import stat
import warnings
from functools import cache
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps

from utils.colour import SRGB, to_srgb
from utils.errors import UserError
from utils.files import HEIF_SUFFIXES, SAVED_SUFFIXES, atomic_path, check_writable

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

MAX_PIXELS = 100_000_000  # decoded and as a float tensor this takes 1.2 GB already
MIN_SIDE = 8  # px; nothing smaller can be a photograph

# Pillow's other plugins are left out: none holds photographs, and some start programs (EPS runs Ghostscript).
_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "PPM", "GIF", "JPEG2000", "AVIF")
_PNG_TEXT, _PNG_PROFILE = (b"tEXt", b"zTXt", b"iTXt"), (b"iCCP",)  # chunks of a PNG beside the image
_SQUARE = 1.02  # longer side : shorter side, up to which an image counts as square


def load_image(path: str | Path, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Read any image as an upright sRGB image of 8 bits a channel.

    The EXIF rotation is applied, colours of another profile are converted, transparent parts show white, 16-bit and
    float images are scaled to 8 bits.

    Raises:
        UserError: the file is missing, not an image, damaged, or smaller than MIN_SIDE; or its header names more than
            `max_pixels` pixels, which is checked before anything is decoded.
    """
    image = open_image(path, max_pixels)
    if min(image.size) < MIN_SIDE:
        width, height = image.size
        raise UserError(f"{path}: has only {width}×{height} pixels; give an image of at least {MIN_SIDE}×{MIN_SIDE}")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def open_image(path: str | Path, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode an image of any size and channels: upright, 8 bits a channel, in the mode the file has.

    Only the first frame of an animation is read. Colours of another profile than sRGB become RGB or RGBA. Raises
    UserError as `load_image` does, except for too small a size.
    """
    path = Path(path)
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot be read ({reason}); give the path of an image") from error
    if stat.S_ISDIR(status.st_mode):
        raise UserError(f"{path}: is a folder; give the path of an image")
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{path}: is not a regular file; give the path of an image")
    if status.st_size == 0:
        raise UserError(f"{path}: is empty (0 bytes); give a whole image")

    limit = f"the limit of {max_pixels / 1e6:g} megapixels; shrink the image first"
    try:
        return _decode(path, max_pixels)
    except Image.DecompressionBombError as error:
        raise UserError(f"{path}: is over {limit}") from error
    except _TooLargeError as error:
        raise UserError(f"{path}: has {error} pixels, which is over {limit}") from error
    except Image.UnidentifiedImageError as error:
        if path.suffix.lower() in HEIF_SUFFIXES and not find_spec("pillow_heif"):
            raise UserError(f"{path}: HEIC images need one more package: pip install pillow-heif") from error
        raise UserError(f"{path}: is not an image that can be read; give a {', '.join(_FORMATS)} file") from error
    except Exception as error:  # Pillow's decoders raise almost anything on a damaged file
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path}: cannot be decoded ({reason}); the file may be damaged, get it again") from error


class _TooLargeError(Exception):
    """The header names more pixels than are allowed; the text says how many."""


def _decode(path: Path, max_pixels: int) -> Image.Image:
    """The image. Pillow's limits on a PNG's text and profile do not make the image unreadable: these are left out."""
    dropped: tuple[bytes, ...] = ()
    while True:
        try:
            return _open(path, max_pixels, dropped)
        except ValueError as error:
            if "MAX_TEXT" not in str(error) or _PNG_PROFILE[0] in dropped:
                raise
            logger.info("%s: holds more text than is read (%s); only the image is taken", path, error)
            dropped = _PNG_TEXT + _PNG_PROFILE if dropped else _PNG_TEXT


def _open(path: Path, max_pixels: int, dropped: tuple[bytes, ...]) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit decides
        with Image.open(_without_chunks(path, dropped) if dropped else path, formats=_formats()) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise _TooLargeError(f"{width}×{height}")
            image.load()
            profile = image.info.get("icc_profile")
            return to_srgb(_to_8_bits(_upright(image, path), image.format), profile, path)


@cache
def _formats() -> tuple[str, ...]:
    if not find_spec("pillow_heif"):
        return _FORMATS
    import pillow_heif

    pillow_heif.register_heif_opener()
    return (*_FORMATS, "HEIF")


def _without_chunks(path: Path, dropped: tuple[bytes, ...]) -> BytesIO:
    """A PNG without its chunks of these kinds (https://www.w3.org/TR/png/#5Chunk-layout)."""
    kept = BytesIO()
    with path.open("rb") as file:
        kept.write(file.read(8))
        while len(head := file.read(8)) == 8:
            size = int.from_bytes(head[:4], "big") + 4  # with the checksum
            if head[4:] in dropped:
                file.seek(size, 1)
            else:
                kept.write(head + file.read(size))
    kept.seek(0)
    return kept


def _upright(image: Image.Image, path: Path) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception as error:  # broken EXIF data is common, and not a reason to refuse an intact image
        logger.warning("%s: its EXIF data cannot be read (%s), so no rotation is applied", path, error)
        return image


def _to_8_bits(image: Image.Image, file_format: str | None) -> Image.Image:
    """Scale 16-bit, 32-bit and float greyscale, which Pillow itself would clip, to mode L; pass others through.

    Such files do not say which number is white. PNG and PPM mean 65535; elsewhere it is the smallest usual white that
    the brightest pixel does not exceed (floats may exceed it by half a stop or so, as after sharpening). Where no value
    is above 1, white is 1: the file is a mask.
    """
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return image
    values = np.nan_to_num(np.asarray(image, dtype=np.float32), posinf=0.0, neginf=0.0)
    brightest = values.max()
    if image.mode == "F":
        white = next((white for white in (1, 255, 65535) if brightest <= 1.5 * white), brightest)
    elif brightest <= 1:
        white = 1
    elif image.mode == "I" and file_format not in ("PNG", "PPM"):
        white = next(white for white in (255, 65535, 2**31 - 1) if brightest <= white)
    else:
        white = 65535
    return Image.fromarray(np.rint(np.clip(values / white, 0, 1) * 255).astype(np.uint8))


def check_save_path(path: str | Path) -> None:
    """Fail before any work if an image could not be saved at `path`; creates nothing. Raises UserError."""
    suffix = Path(path).suffix
    if suffix.lower() not in SAVED_SUFFIXES:
        ending = f"the extension {suffix}" if suffix else "no extension"
        wanted = ", ".join(sorted(SAVED_SUFFIXES))
        raise UserError(f"{path}: has {ending}, which names no format that is written; use one of {wanted}")
    check_writable(path)


def save_image(image: Image.Image, path: str | Path, quality: int = 95, compression: int = 6) -> None:
    """Write an image in the format its extension names, whole or not at all; missing folders are made.

    Colours are tagged as sRGB where the format has tags. `quality` (1 to 100) counts for JPEG, which is written 4:4:4,
    and WebP, `compression` (0 to 9) for PNG. Raises UserError if it cannot be written.
    """
    check_save_path(path)
    if image.mode not in ("RGB", "L"):
        image = image.convert("RGB")
    jpeg: dict[str, Any] = {"quality": quality, "subsampling": 0}
    options = {".jpg": jpeg, ".jpeg": jpeg, ".webp": {"quality": quality}, ".png": {"compress_level": compression}}
    tag: dict[str, Any] = {"icc_profile": SRGB} if image.mode == "RGB" else {}
    try:
        with atomic_path(path) as temporary:
            image.save(temporary, **options.get(temporary.suffix.lower(), {}), **tag)
    except (OSError, ValueError) as error:  # a full disk, or more pixels than the format can hold
        raise UserError(f"{path}: cannot be written ({error}); choose another place or format") from error


def to_tensor(image: Image.Image) -> torch.Tensor:
    """PIL image -> 3×H×W float32, RGB in [-1, 1]."""
    return normalize(to_pixels(image)).contiguous()


def to_pixels(image: Image.Image) -> torch.Tensor:
    """PIL image -> 3×H×W uint8, RGB."""
    import torch

    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def normalize(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 of any shape and device -> float32 in [-1, 1]."""
    return pixels.float().div_(127.5).sub_(1)


def to_image(tensor: torch.Tensor) -> Image.Image:
    """3×H×W of any float dtype and device, RGB in [-1, 1] -> PIL image; clipped, and rounded to 8 bits."""
    if tensor.ndim != 3 or tensor.shape[0] != 3:
        raise ValueError(f"expected a 3×H×W tensor, got one of shape {tuple(tensor.shape)}")
    pixels = tensor.detach().float().clamp(-1, 1).add(1).mul(127.5).round().byte()
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().cpu().numpy())


def resize(image: Image.Image, size: int) -> Image.Image:
    """Scale to size×size, bilinear with antialiasing; the proportions may change."""
    return image if image.size == (size, size) else image.resize((size, size), Image.Resampling.BILINEAR)


def load_square(path: str | Path, size: int) -> Image.Image:
    """`load_image`, scaled to size×size. Warns of the first image of each folder that this squashes."""
    image = load_image(path)
    note = squash_note(path, image)
    if note and Path(path).parent not in _warned:
        _warned.add(Path(path).parent)
        logger.warning("%s; others of its folder may be, too", note)
    return resize(image, size)


_warned: set[Path] = set()  # folders


def squash_note(path: str | Path, image: Image.Image) -> str:
    """A line on an image whose proportions would change if it were scaled to a square; "" for others."""
    width, height = image.size
    if max(width, height) <= _SQUARE * min(width, height):
        return ""
    return (
        f"{path}: has {width}×{height} pixels and is squashed to a square; crop it, or where it shows a face use "
        "--align (for a folder: scripts/align_all_parallel.py)"
    )
