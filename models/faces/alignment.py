"""Face crops by FFHQ's rule, and pasting them back into the photograph.

Coordinates are (x, y) in pixels; whole numbers are pixel centres, as in dlib and OpenCV. The rule is that of the FFHQ
data set (https://github.com/NVlabs/ffhq-dataset), so that crops are aligned like the images that the networks were
trained on.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from models.faces.landmarks import find_turned_landmarks
from utils.errors import UserError

FEATHER = 0.08  # width of the seam, as a part of the crop's side

_PASTE_ROWS = 256  # rows pasted at a time: bounds the memory that a large photograph takes


@dataclass(frozen=True)
class Crop:
    """A face cut out of a photograph.

    image: the crop, size×size.
    quad: 4×2 float64, the crop's corners TL, BL, BR, TR in the photograph; they may be outside of it.
    turned: by how many degrees clockwise the photograph was turned to find the face: 0, 90, 180 or 270. The crop is
        upright in any case.
    """

    image: Image.Image
    quad: np.ndarray
    turned: int = 0


@dataclass(frozen=True)
class _Frame:
    """What FFHQ's rule cuts out around a quad: a box of the image (left, top, right, bottom), then padded."""

    box: tuple[int, int, int, int]
    padding: tuple[int, int, int, int]  # 0 0 0 0: the box needs none

    @classmethod
    def around(cls, quad: np.ndarray, size: tuple[int, int]) -> "_Frame":
        side = _side(quad)
        border = max(round(side * 0.1), 3)
        left, top = (math.floor(v) for v in quad.min(axis=0))
        right, bottom = (math.ceil(v) for v in quad.max(axis=0))
        outer = (left - border, top - border, right + border, bottom + border)
        box = (max(outer[0], 0), max(outer[1], 0), min(outer[2], size[0]), min(outer[3], size[1]))
        missing = (box[0] - outer[0], box[1] - outer[1], outer[2] - box[2], outer[3] - box[3])
        if max(missing) <= border - 4:  # the quad itself is inside
            return cls(box, (0, 0, 0, 0))
        least = round(side * 0.3)
        return cls(box, tuple(max(pad, least) for pad in missing))  # type: ignore[arg-type]


def align(
    image: Image.Image, size: int, landmarks: np.ndarray | None = None, predictor: str | Path | None = None
) -> Crop:
    """Cut the face out of a photograph as size×size image, by FFHQ's rule.

    Args:
        image: any RGB image.
        landmarks: 68×2, if the face has been found already; otherwise `find_turned_landmarks` finds it.
        predictor: see `models.faces.landmarks.find_landmarks`.

    Raises:
        UserError: no face was found, or it is wholly outside the image.
    """
    image, turned = image.convert("RGB"), 0
    if landmarks is None:
        landmarks, turned = find_turned_landmarks(image, predictor)
    landmarks = np.asarray(landmarks, dtype=np.float64)
    quad = face_quad(landmarks)

    # The transform below takes one sample a pixel, so a much larger face is shrunk first.
    work, scale, source = quad, np.ones(2), image
    shrink = int(_side(quad) // (2 * size))
    if shrink > 1:
        source = image.resize((round(image.width / shrink), round(image.height / shrink)), Image.Resampling.LANCZOS)
        work, scale = quad / shrink, np.divide(image.size, source.size)

    frame = _Frame.around(work, source.size)
    if frame.box[0] >= frame.box[2] or frame.box[1] >= frame.box[3]:
        raise UserError("the face is outside the image; give its landmarks in pixels of this image")
    source = source.crop(frame.box)
    if any(frame.padding):
        source = _pad(source, frame.padding, blur=_side(work) * 0.02)
    corners = work - frame.box[:2] + frame.padding[:2] + 0.5  # PIL counts from the first pixel's corner
    crop = source.transform((size, size), Image.Transform.QUAD, corners.ravel().tolist(), Image.Resampling.BILINEAR)
    # The actual corners: shrinking to whole pixels moved them a little.
    return Crop(crop, (work + 0.5) * scale - 0.5, turned)


def turned_note(path: str | Path, crop: Crop) -> str:
    """A line on a photograph whose face is not upright; "" for others."""
    if not crop.turned:
        return ""
    return f"{path}: it shows no upright face; one was found after rotating by {crop.turned}° clockwise and cut out"


def paste_back(original: Image.Image, edited: Image.Image, crop_quad: np.ndarray) -> Image.Image:
    """Put an edited crop back where it was cut out.

    Pixels outside the quad stay exactly the same. Inside, the crop fades in over FEATHER of its side; it also fades out
    towards a side of the photograph beyond which the crop was padded, since the rule blurs the crop there.

    Args:
        original: the photograph, RGB.
        edited: the crop after editing, of any size.
        crop_quad: 4×2, `Crop.quad`.
    """
    quad = np.asarray(crop_quad, dtype=np.float64)
    pixels = np.array(original.convert("RGB"))
    frame = _Frame.around(quad, original.size)
    crop = np.asarray(edited.convert("RGB"), dtype=np.float32)
    left, top = np.maximum(np.floor(quad.min(axis=0)), 0).astype(int)
    right, bottom = np.minimum(np.ceil(quad.max(axis=0)).astype(int) + 1, original.size)
    for row in range(top, bottom, _PASTE_ROWS):
        region = pixels[row : min(row + _PASTE_ROWS, bottom), left:right]  # a view
        if region.size:
            weight = _paste_weight(quad, frame, (left, row), region.shape[:2])
            blended = region + (_warp(crop, quad - (left, row), region.shape[:2]) - region) * weight
            region[:] = np.rint(np.clip(blended, 0, 255)).astype(np.uint8)
    return Image.fromarray(pixels)


def face_quad(landmarks: np.ndarray) -> np.ndarray:
    """FFHQ's square around a face, as TL, BL, BR, TR: 4×2."""
    left_eye, right_eye = landmarks[36:42].mean(axis=0), landmarks[42:48].mean(axis=0)
    eyes = (left_eye + right_eye) / 2
    eye_to_eye = right_eye - left_eye
    eye_to_mouth = (landmarks[48] + landmarks[54]) / 2 - eyes
    x = eye_to_eye - _turned(eye_to_mouth)
    x *= max(2.0 * np.hypot(*eye_to_eye), 1.8 * np.hypot(*eye_to_mouth)) / np.hypot(*x)
    y = _turned(x)
    centre = eyes + 0.1 * eye_to_mouth
    return np.stack([centre - x - y, centre - x + y, centre + x + y, centre + x - y])


def _turned(vector: np.ndarray) -> np.ndarray:
    """The vector rotated by 90° clockwise, as seen on the screen."""
    return np.array([-vector[1], vector[0]])


def _side(quad: np.ndarray) -> float:
    return float(np.hypot(*(quad[3] - quad[0])))


def _pad(image: Image.Image, padding: tuple[int, int, int, int], blur: float) -> Image.Image:
    """Pad the image by reflection, blurred more and more up to a single colour, as FFHQ's rule does."""
    left, top, right, bottom = padding
    pixels = np.pad(np.asarray(image, dtype=np.float32), ((top, bottom), (left, right), (0, 0)), "reflect")
    height, width = pixels.shape[:2]
    x, y = np.arange(width, dtype=np.float32)[None, :], np.arange(height, dtype=np.float32)[:, None]
    outside = np.maximum(  # 0 at the image's edge, 1 at the padding's
        1 - np.minimum(x / left, (width - 1 - x) / right), 1 - np.minimum(y / top, (height - 1 - y) / bottom)
    )[..., None]
    reach = 2 * int(4 * blur + 0.5) + 1  # four sigmas each way
    blurred = cv2.GaussianBlur(pixels, (reach, reach), blur, borderType=cv2.BORDER_REFLECT)
    pixels += (blurred - pixels) * np.clip(3 * outside + 1, 0, 1)
    pixels += (np.median(pixels, axis=(0, 1)) - pixels) * np.clip(outside, 0, 1)
    return Image.fromarray(np.rint(np.clip(pixels, 0, 255)).astype(np.uint8))


def _paste_weight(quad: np.ndarray, frame: _Frame, corner: tuple[int, int], shape: tuple[int, ...]) -> np.ndarray:
    """How much of the crop shows in the region of the photograph that begins at `corner`: h×w×1 float32 in [0, 1]."""
    x = corner[0] + np.arange(shape[1])[None, :]
    y = corner[1] + np.arange(shape[0])[:, None]
    # u and v are a pixel's coordinates in the crop, whose corners are (0, 0) and (1, 1).
    to_crop = cv2.invertAffineTransform(np.column_stack([quad[3] - quad[0], quad[1] - quad[0], quad[0]]))
    u, v = (a * x + b * y + c for a, b, c in to_crop)
    weight = np.minimum(np.minimum(u, 1 - u), np.minimum(v, 1 - v)) / FEATHER
    inside = (x - frame.box[0], y - frame.box[1], frame.box[2] - 1 - x, frame.box[3] - 1 - y)
    for distance, pad in zip(inside, frame.padding, strict=True):
        if pad:
            weight = np.minimum(weight, 3 * distance / pad)  # `_pad` blurs a third of the padding's width inside, too
    weight = np.clip(weight, 0, 1)
    return (weight * weight * (3 - 2 * weight))[..., None].astype(np.float32)  # smooth at both ends


def _warp(crop: np.ndarray, quad: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Warp the crop (H×W×3 float32) into a region of the photograph, the quad given in the region's pixels: h×w×3.

    A crop with more pixels than its place is warped into a finer grid first and then averaged down.
    """
    height, width = crop.shape[:2]
    finer = max(math.ceil(width / _side(quad)), 1)
    matrix = np.column_stack([(quad[3] - quad[0]) / width, (quad[1] - quad[0]) / height, quad[0]])
    matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5)  # from the centre of the crop's first pixel, not its corner
    matrix = finer * matrix
    matrix[:, 2] += (finer - 1) / 2  # to the centre of the grid's first pixel
    grid = (shape[1] * finer, shape[0] * finer)
    warped = cv2.warpAffine(crop, matrix, grid, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return warped if finer == 1 else cv2.resize(warped, (shape[1], shape[0]), interpolation=cv2.INTER_AREA)
