"""Colour profiles: images of any profile to sRGB, by littleCMS."""

import logging
from functools import lru_cache
from io import BytesIO

import numpy as np
from PIL import Image, ImageCms

logger = logging.getLogger(__name__)

_LEVELS = 1  # of 255; a profile that moves no colour further is sRGB itself
_CREATED = slice(24, 36)  # bytes of a profile that hold the time it was made


def _srgb_bytes() -> bytes:
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[_CREATED] = bytes(12)  # equal images are equal files
    return bytes(profile)


SRGB = _srgb_bytes()  # the profile that written images are tagged with


def to_srgb(image: Image.Image, profile: bytes | None, name: object) -> Image.Image:
    """The image in sRGB; unchanged if it has no profile, that of sRGB, or one that does not fit or is damaged.

    `name` is the file's, for the warning about a damaged profile. Where colours change, the mode becomes RGB or, with
    transparency, RGBA.
    """
    if not profile:
        return image
    if image.mode in ("P", "PA") or "transparency" in image.info:
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    alpha = image.getchannel("A") if image.mode in ("RGBA", "LA") else None
    colours = image.convert({"RGBA": "RGB", "LA": "L", "1": "L"}.get(image.mode, image.mode))
    try:
        if colours.mode == "L" and _space(profile) == "RGB":  # a grey image with the profile of a coloured one
            colours = colours.convert("RGB")
        transform = _transform(profile, colours.mode)
        if transform is None:
            return image
        converted = ImageCms.applyTransform(colours, transform)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        logger.warning("%s: its colour profile cannot be used (%s), so it is read as sRGB", name, error)
        return image
    assert converted is not None  # it is for transforms in place only
    if alpha is not None:
        converted.putalpha(alpha)
    return converted


def _opened(profile: bytes) -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(BytesIO(profile))


def _space(profile: bytes) -> str:
    return _opened(profile).profile.xcolor_space.strip()


@lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From the profile to sRGB; None where that changes nothing."""
    transform = ImageCms.buildTransform(
        _opened(profile), _opened(SRGB), mode, "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC,
        ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )  # fmt: skip
    if mode not in ("RGB", "L"):
        return transform
    steps = np.linspace(0, 255, 256 if mode == "L" else 9).round().astype(np.uint8)
    samples = steps[None] if mode == "L" else np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3)
    before = Image.fromarray(samples)
    after = ImageCms.applyTransform(before, transform)
    assert after is not None
    moved = np.asarray(after, dtype=int) - np.asarray(before.convert("RGB"), dtype=int)
    return None if np.abs(moved).max() <= _LEVELS else transform
