import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from models.faces.alignment import align, paste_back, turned_note
from models.faces.landmarks import find_landmarks
from models.faces.masks import landmark_mask
from utils.errors import UserError
from utils.images import load_image

ASTRONAUT = Path(__file__).parents[3] / "assets" / "astronaut.png"


@pytest.fixture(scope="module")
def photo():
    return load_image(ASTRONAUT)


@pytest.fixture(scope="module")
def crop(photo):
    return align(photo, 1024)


def upright_face(centre=(128, 124), radius=72.0) -> np.ndarray:
    """Landmarks for which the rule gives the square of this centre and half side: 68×2."""
    x, y = centre
    unit = radius / 72
    landmarks = np.full((68, 2), np.nan)  # points that the rule does not read
    landmarks[36:42] = (x - 18 * unit, y - 4 * unit)
    landmarks[42:48] = (x + 18 * unit, y - 4 * unit)
    landmarks[48] = (x - 10 * unit, y + 36 * unit)
    landmarks[54] = (x + 10 * unit, y + 36 * unit)
    return landmarks


def coordinates() -> Image.Image:
    """256×256 image of which red is x and green is y."""
    y, x = np.mgrid[:256, :256]
    return Image.fromarray(np.stack([x, y, np.zeros_like(x)], axis=2).astype(np.uint8))


@pytest.fixture(scope="module")
def landmarks(photo):
    return find_landmarks(photo)


def psnr(a, b, where) -> float:
    error = np.asarray(a, dtype=np.float64)[where] - np.asarray(b)[where]
    return float(10 * np.log10(255**2 / (error**2).mean()))


def inside(quad, size) -> np.ndarray:
    """Pixels that may belong to the quad: H×W bool."""
    mask = np.zeros((size[1], size[0]), np.uint8)
    return cv2.fillConvexPoly(mask, np.rint(quad).astype(int), 1).astype(bool)


def ffhq_padded_crop(pixels, quad, size):
    """The padding steps of FFHQ's rule for a quad near the image's edges, as details.md's line 27 tells them."""
    side = np.hypot(*(quad[3] - quad[0]))
    border = max(int(np.rint(side * 0.1)), 3)
    low, high = np.floor(quad.min(0)).astype(int), np.ceil(quad.max(0)).astype(int)
    height, width = pixels.shape[:2]
    x0, y0 = np.maximum(low - border, 0)
    x1, y1 = np.minimum(high + border, (width, height))
    pixels, quad = pixels[y0:y1, x0:x1], quad - (x0, y0)
    low, high = np.floor(quad.min(0)).astype(int), np.ceil(quad.max(0)).astype(int)
    pads = np.maximum([*(border - low), *(high - (x1 - x0, y1 - y0) + border)], 0)
    assert pads.max() > border - 4
    left, top, right, bottom = np.maximum(pads, int(np.rint(side * 0.3)))
    out = np.pad(np.float32(pixels), ((top, bottom), (left, right), (0, 0)), "reflect")
    height, width = out.shape[:2]
    y, x = np.ogrid[:height, :width]
    mask = np.maximum(
        1.0 - np.minimum(np.float32(x) / left, np.float32(width - 1 - x) / right),
        1.0 - np.minimum(np.float32(y) / top, np.float32(height - 1 - y) / bottom),
    )[..., None]
    blur = side * 0.02
    out += (gaussian_filter(out, [blur, blur, 0]) - out) * np.clip(mask * 3 + 1, 0, 1)
    out += (np.median(out, axis=(0, 1)) - out) * np.clip(mask, 0, 1)
    out = Image.fromarray(np.uint8(np.clip(np.rint(out), 0, 255)))
    corners = (quad + (left, top) + 0.5).flatten()
    return out.transform((size, size), Image.Transform.QUAD, corners, Image.Resampling.BILINEAR)


def test_the_rule_by_hand():
    crop = align(coordinates(), 72, upright_face())
    assert crop.quad.tolist() == [[56, 52], [56, 196], [200, 196], [200, 52]]
    y, x = np.mgrid[:72, :72]
    # A crop pixel is two wide; the middle of the first is one right of the quad's corner.
    assert np.array_equal(np.asarray(crop.image)[..., 0], 57 + 2 * x)
    assert np.array_equal(np.asarray(crop.image)[..., 1], 53 + 2 * y)


def test_a_turned_face_is_upright_in_the_crop():
    upright = upright_face()
    turned = np.stack([255 - upright[:, 1], upright[:, 0]], axis=1)  # a quarter turn clockwise
    crop = align(coordinates().transpose(Image.Transpose.ROTATE_270), 72, turned)
    assert crop.quad.tolist() == [[203, 56], [59, 56], [59, 200], [203, 200]]
    assert crop.image.tobytes() == align(coordinates(), 72, upright).image.tobytes()


@pytest.mark.parametrize(
    ("turn", "turned"),
    [(Image.Transpose.ROTATE_90, 90), (Image.Transpose.ROTATE_180, 180), (Image.Transpose.ROTATE_270, 270)],
)
def test_a_sideways_face_is_detected_and_put_back(turn, turned, photo, crop):
    lying = photo.transpose(turn)
    result = align(lying, 256)
    assert result.turned == turned and f"{turned}° clockwise" in turned_note("a.jpg", result)
    upright = np.asarray(align(photo, 256).image, dtype=float)
    assert np.abs(np.asarray(result.image, dtype=float) - upright).mean() < 2
    pasted = np.asarray(paste_back(lying, result.image, result.quad), dtype=float)
    assert np.abs(pasted - np.asarray(lying, dtype=float)).mean() < 1
    assert turned_note("a.jpg", crop) == ""


@pytest.mark.parametrize("centre", [(80, 60), (200, 128), (128, 230), (74, 128)])
def test_a_padded_crop_follows_the_rule(centre, photo):
    photo = photo.crop((100, 0, 356, 256))
    crop = align(photo, 144, upright_face(centre))
    wanted = ffhq_padded_crop(np.asarray(photo), crop.quad, 144)
    assert np.abs(np.asarray(crop.image, dtype=int) - np.asarray(wanted)).max() <= 1  # float rounding


def test_padding_larger_than_the_image(photo):
    tiny = photo.crop((180, 80, 192, 92))
    crop = align(tiny, 64, upright_face((6, 6), radius=40))
    assert crop.image.size == (64, 64)
    assert paste_back(tiny, crop.image, crop.quad).size == tiny.size


def test_a_face_outside_the_image_is_refused(photo):
    with pytest.raises(UserError, match="outside"):
        align(photo, 64, upright_face((5000, 128)))


def test_a_shrunk_crop_knows_its_quad():
    y, x = np.mgrid[:1000, :1000]
    ramps = Image.fromarray(np.stack([x / 4, y / 4, x * 0], axis=2).astype(np.uint8))
    crop = align(ramps, 64, upright_face((500, 480), radius=400))  # shrunk by 6
    centres = crop.quad[0] + (np.arange(64)[:, None] + 0.5) / 64 * (crop.quad[2] - crop.quad[0])  # 64×(x, y)
    pixels = np.asarray(crop.image, dtype=float)
    # 8 bits round the ramp down by 0.375, Pillow's transform rounds down by 0.5; a pixel's shift would show as 0.25.
    assert np.mean(pixels[32, :, 0] - centres[:, 0] / 4) == pytest.approx(-0.875, abs=0.1)
    assert np.mean(pixels[:, 32, 1] - centres[:, 1] / 4) == pytest.approx(-0.875, abs=0.1)


def test_the_astronaut_and_not_the_badge(crop, landmarks):
    x, y = landmarks.mean(axis=0)
    assert (200 < x < 240, 100 < y < 150) == (True, True)
    assert landmarks.shape == (68, 2)
    assert crop.image.size == (1024, 1024)
    # In an aligned crop of any photograph the eyes are near these positions.
    eyes = find_landmarks(crop.image)[36:48].reshape(2, 6, 2).mean(axis=1)
    assert np.abs(eyes - [[384, 480], [640, 480]]).max() < 30


def test_the_largest_of_two_faces(photo):
    face = photo.crop((120, 0, 340, 220))
    both = Image.new("RGB", (700, 440), "grey")
    both.paste(face, (0, 0))
    both.paste(face.resize((440, 440)), (250, 0))
    assert find_landmarks(both)[:, 0].min() > 250
    smaller = find_landmarks(both.crop((0, 0, 250, both.height)))
    assert np.array_equal(find_landmarks(both, near=smaller + 10), smaller)  # the face of the frame before
    assert find_landmarks(both, near=smaller + 1000)[:, 0].min() > 250


def test_a_large_false_detection_loses(photo):
    both = Image.new("RGB", (800, 520), "grey")
    both.paste(photo.crop((110, 0, 340, 230)), (0, 0))
    both.paste(photo.crop((60, 280, 300, 512)).resize((408, 394)), (300, 20))  # dlib takes the badge for a face
    assert find_landmarks(both)[:, 0].max() < 230


def test_large_photographs_are_searched_on_a_copy(photo, landmarks):
    large = photo.resize((3000, 3000), Image.Resampling.BICUBIC)
    wanted = (landmarks + 0.5) * (3000 / 512) - 0.5
    assert np.abs(find_landmarks(large) - wanted).mean() < 10  # of a face 600 px wide


def test_small_photographs_work(photo):
    small = photo.crop((130, 0, 330, 200)).resize((100, 100), Image.Resampling.LANCZOS)
    crop = align(small, 256)
    assert psnr(small, paste_back(small, crop.image, crop.quad), np.s_[:]) > 30


def test_no_face(photo):
    for image in (Image.new("RGB", (8, 8)), photo.crop((350, 0, 512, 280))):
        with pytest.raises(UserError, match="no face was found"):
            find_landmarks(image)


def test_a_damaged_predictor_is_named(photo, tmp_path):
    (tmp_path / "bad.dat").write_bytes(b"no predictor")
    with pytest.raises(UserError, match=r"bad\.dat"):
        find_landmarks(photo, tmp_path / "bad.dat")


def test_a_missing_predictor_means_the_packaged_one(photo, tmp_path, landmarks):
    assert np.array_equal(find_landmarks(photo, tmp_path / "missing.dat"), landmarks)


def test_heavy_imports_wait():
    code = "import sys, models.faces.alignment; sys.exit(bool({'dlib', 'face_recognition_models'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_round_trip_keeps_the_photograph(photo, crop, tmp_path, monkeypatch, landmarks):
    monkeypatch.chdir(tmp_path)
    back = paste_back(photo, crop.image, crop.quad)
    face = landmark_mask(landmarks, photo.size) < 0.5
    assert face.sum() > 5000
    assert psnr(photo, back, face) > 36.5
    outside = ~inside(crop.quad, photo.size)
    assert np.array_equal(np.asarray(back)[outside], np.asarray(photo)[outside])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size, least", [(256, 36.5), (128, 33), (2048, 36.5)])
def test_edited_crops_of_another_size(size, least, photo, crop, landmarks):
    edited = crop.image.resize((size, size), Image.Resampling.LANCZOS)
    face = landmark_mask(landmarks, photo.size) < 0.5
    assert psnr(photo, paste_back(photo, edited, crop.quad), face) > least


@pytest.mark.parametrize("shift", [0.25, -0.25])
def test_round_trip_has_no_shift(shift, photo, crop, landmarks):
    """A quarter of a pixel away from its place the crop must fit worse."""
    face = landmark_mask(landmarks, photo.size) < 0.5
    best = psnr(photo, paste_back(photo, crop.image, crop.quad), face)
    for step in ((shift, 0), (0, shift)):
        assert psnr(photo, paste_back(photo, crop.image, crop.quad + step), face) < best - 1


def test_the_edit_shows_and_its_seam_is_soft(photo, crop):
    back = np.asarray(paste_back(photo, Image.new("RGB", (64, 64), (0, 255, 0)), crop.quad))
    assert np.all(back[inside(crop.quad.mean(0) + (crop.quad - crop.quad.mean(0)) * 0.8, photo.size)] == (0, 255, 0))
    grey = Image.new("RGB", photo.size, (0, 0, 0))
    row = np.asarray(paste_back(grey, Image.new("RGB", (64, 64), (255, 255, 255)), crop.quad))[110, :230, 0].astype(int)
    assert np.all(np.diff(row) >= 0) and row[0] == 0 and row[-1] == 255
    assert np.diff(row).max() < 50


def test_fine_detail_of_a_large_crop_does_not_alias(photo, crop):
    checks = np.indices((1024, 1024)).sum(0) % 2 * 255
    checks = Image.fromarray(np.repeat(checks[..., None], 3, axis=2).astype(np.uint8))
    back = np.asarray(paste_back(photo, checks, crop.quad), dtype=int)
    middle = inside(crop.quad.mean(0) + (crop.quad - crop.quad.mean(0)) * 0.8, photo.size)
    assert np.abs(back[middle] - 127.5).max() < 16


@pytest.mark.parametrize("centre", [(80, 60), (200, 128), (128, 230)])
def test_padding_never_blurs_the_photograph(centre, photo):
    photo = photo.crop((100, 0, 356, 256))
    crop = align(photo, 1024, upright_face(centre))
    back = paste_back(photo, crop.image, crop.quad)
    edge = inside(crop.quad, photo.size)
    edge[5:-5, 5:-5] = False
    assert psnr(photo, back, edge) > 44  # less than 43 where the rule's blur is pasted, too
    tinted = np.asarray(paste_back(photo, Image.new("RGB", (9, 9), (0, 255, 0)), crop.quad))
    changed = np.any(tinted != np.asarray(photo), axis=2)
    assert not changed[~inside(crop.quad, photo.size)].any()
    assert tuple(tinted[centre[1], min(centre[0], 190)]) == (0, 255, 0)


def test_a_quad_beside_the_image_changes_nothing(photo, crop):
    for step in ((5000, 0), (0, -5000)):
        assert paste_back(photo, crop.image, crop.quad + step).tobytes() == photo.tobytes()


def test_landmark_mask(photo, landmarks):
    mask = landmark_mask(landmarks, photo.size)
    assert mask.shape == (512, 512) and mask.dtype == np.float32
    assert mask.min() >= 0 and mask.max() <= 1
    x, y = landmarks[30].astype(int)  # the nose's tip
    assert mask[y, x] < 0.01
    assert mask[y - 50, x] < 0.1  # forehead
    assert mask[0, 0] == mask[400, 170] == 1
    assert np.any((mask > 0.3) & (mask < 0.7))
