"""Masks of the part of an image to leave unedited: from FaRL, estimated from landmarks, or drawn by the user.

A mask is H×W float32 in [0, 1]; 1 (white) is background, which an edit leaves unedited.
"""

import logging
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from models.faces.landmarks import find_landmarks
from utils.errors import UserError
from utils.images import open_image, save_image, to_image, to_tensor

logger = logging.getLogger(__name__)

MASK_PARTS = ("mask", "back", "face")  # what `save_mask_images` writes

_LEAST_FACE_SCORE = 0.01
_TRACE = 0.02  # what JPEG makes of black


def background_probability(
    image: Image.Image | torch.Tensor,
    device: torch.device,
    farl_path: str | Path,
    detector_path: str | Path,
    predictor: str | Path | None = None,
) -> torch.Tensor:
    """How probably each pixel is background, on `device`: the sigmoid of the class-0 logit of FaRL's LaPa parser.

    FaRL (https://github.com/FacePerceiver/FaRL) runs through the package pyfacer, which would download its weights; it
    is only given local files. If one of them is missing, or RetinaFace finds no face, the mask is estimated from dlib's
    landmarks instead, with hair as background, and a warning is logged.

    Args:
        image: an aligned crop; a tensor is 3×H×W, RGB in [-1, 1].
        farl_path: face_parsing.farl.lapa.main_ema_136500_jit191.pt.
        detector_path: mobilenet0.25_Final.pth.
        predictor: for the estimate, see `models.faces.landmarks.find_landmarks`.

    Raises:
        UserError: a weight file is damaged, pyfacer cannot be imported, or no face was found by either.
    """
    image = to_image(image) if isinstance(image, torch.Tensor) else image.convert("RGB")
    missing = [str(path) for path in (farl_path, detector_path) if not Path(path).is_file()]
    if missing:
        _warn_once(f"{' and '.join(missing)} missing: the mask is estimated from landmarks, with hair as background")
        return _estimate(image, device, predictor)
    detector, parser = _networks(Path(farl_path), Path(detector_path), device)
    pixels = to_tensor(image).add(1).div(2)[None].to(device)  # 1×3×H×W in [0, 1]
    with torch.inference_mode():
        # The published code lowers the threshold from 0.8 until there is a face. Faces come sorted by their score, so
        # the lowest threshold alone gives the same first one.
        faces = detector(pixels * 255)
        if len(faces["scores"]) == 0:
            logger.warning("RetinaFace finds no face in the image: the mask is estimated from landmarks")
            return _estimate(image, device, predictor)
        logits = parser(pixels, {name: values[:1] for name, values in faces.items()})["seg"]["logits"]  # 1×11×H×W
    return logits[0, 0].float().sigmoid()


def read_mask(path: str | Path, size: int | None = None) -> torch.Tensor:
    """Read a mask of any size and mode: its first channel, H×W, or scaled bilinearly to size×size.

    In a mask with no values but 0 and 1, 1 is white. Raises UserError if the file is missing or not an image.
    """
    levels = np.array(open_image(path).convert("RGB"))[..., 0]
    if levels.max() == 1:  # open_image does the same for more than 8 bits
        logger.warning("%s: has no values but 0 and 1; 1 is read as white", path)
        levels *= 255
    mask = torch.from_numpy(levels).float().div(255)[None, None]  # 1×1×H×W in [0, 1]
    if size is not None:
        mask = F.interpolate(mask, size=(size, size), mode="bilinear", align_corners=False)
    return mask[0, 0]


def extent_note(mask: torch.Tensor, name: str) -> str:
    """A message about a mask that is all black or all white; "" for others. `name`: of the mask, in the message."""
    if mask.max() <= _TRACE:
        return f"{name} is black: the whole image is edited, as without it; white stays unedited"
    if mask.min() >= 1 - _TRACE:
        return f"{name} is white: the whole image is left unedited; black may be edited"
    return ""


def save_mask_images(stem: str, folder: str | Path, image: Image.Image | torch.Tensor, mask: torch.Tensor) -> None:
    """Write {stem}_mask.jpg, {stem}_back.jpg (what stays) and {stem}_face.jpg (what is edited) into `folder`.

    Args:
        image: the crop that the mask is of; a tensor is 3×H×W, RGB in [-1, 1].
        mask: h×w or 1×1×h×w in [0, 1], scaled to the image where it is smaller or larger.
    """
    pixels = image.detach().cpu().float() if isinstance(image, torch.Tensor) else to_tensor(image)
    weight = mask.detach().cpu().float().reshape(1, 1, *mask.shape[-2:])
    weight = F.interpolate(weight, size=pixels.shape[1:], mode="bilinear", align_corners=False)[0]  # 1×H×W
    positive = pixels.add(1)  # black is 0
    shown = ((2 * weight).expand(3, -1, -1), positive * weight, positive * (1 - weight))
    for part, tensor in zip(MASK_PARTS, shown, strict=True):
        save_image(to_image(tensor - 1), Path(folder) / f"{stem}_{part}.jpg")


def landmark_mask(landmarks: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The background, estimated from the landmarks: H×W float32 in [0, 1], 0 in the face and 1 outside it.

    The landmarks end at the brows. The forehead is added by the rule of thirds: it is as high as the distance from the
    brows to the nose's base. The edge is feathered. Hair counts as background, since landmarks do not show it.

    Args:
        landmarks: 68×2 in pixels of the image.
        size: width and height of the image.
    """
    jaw, brows, nose_base = landmarks[:17], landmarks[17:27], landmarks[33]
    up = brows.mean(axis=0) - nose_base
    arch = 0.7 + 0.3 * np.sin(np.linspace(0, np.pi, len(brows)))[:, None]
    outline = cv2.convexHull(np.concatenate([jaw, brows + arch * up]).astype(np.float32))
    face = np.zeros((size[1], size[0]), np.float32)
    cv2.fillConvexPoly(face, np.rint(outline).astype(np.int32), 1.0)
    return 1 - cv2.GaussianBlur(face, (0, 0), max(0.04 * float(np.hypot(*(jaw[16] - jaw[0]))), 0.5))


def _estimate(image: Image.Image, device: torch.device, predictor: str | Path | None) -> torch.Tensor:
    return torch.from_numpy(landmark_mask(find_landmarks(image, predictor), image.size)).to(device)


@cache
def _networks(farl_path: Path, detector_path: Path, device: torch.device) -> tuple[Any, Any]:
    """The RetinaFace detector and the FaRL parser, loaded once for a device."""
    try:
        import facer  # here, since it takes seconds and is needed with use_mask only
    except ImportError as error:
        raise UserError(f"pyfacer cannot be imported ({error}); run env_install.sh again or go without FaRL") from error
    benchmark = torch.backends.cudnn.benchmark
    try:
        # facer reads this file by torch.load, which runs no code in it (weights_only is the default since torch 2.6).
        detector = facer.face_detector(
            "retinaface/mobilenet", device=device, model_path=str(detector_path), threshold=_LEAST_FACE_SCORE
        )
    except Exception as error:
        raise UserError(f"{detector_path}: is damaged or no RetinaFace mobilenet0.25 file; get it again") from error
    finally:
        torch.backends.cudnn.benchmark = benchmark  # facer turns it on for the whole process
    try:
        # FaRL is published as TorchScript only, which torch.jit.load reads. Such a file does hold code, but in
        # TorchScript's restricted language: tensor operations, no imports and no calls of Python.
        parser = facer.face_parser("farl/lapa/448", device=device, model_path=str(farl_path))
    except Exception as error:
        raise UserError(f"{farl_path}: is damaged or no TorchScript file of FaRL; get it again") from error
    return detector.requires_grad_(False), parser.requires_grad_(False)


@cache
def _warn_once(message: str) -> None:
    logger.warning(message)
