import logging
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models.faces.masks import background_probability, extent_note, read_mask, save_mask_images
from utils.errors import UserError
from utils.images import load_image, to_tensor

ASTRONAUT = Path(__file__).parents[3] / "assets" / "astronaut.png"
CPU = torch.device("cpu")

# FaRL's standard place of the five points in a 512 px crop.
FIVE_POINTS = torch.tensor([[196.0, 226.0], [316.0, 226.0], [256.0, 286.0], [220.0, 360.4], [292.0, 360.4]])


class BrightIsBackground(torch.nn.Module):
    """Replaces FaRL: class 0's logit grows with brightness. Returns what the published TorchScript returns."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logit = (x.mean(1, keepdim=True) - 0.5) * 20
        return torch.cat([logit, -logit.expand(-1, 10, -1, -1)], 1), logit


@pytest.fixture(scope="module")
def farl(tmp_path_factory):
    path = tmp_path_factory.mktemp("farl") / "farl.pt"
    torch.jit.script(BrightIsBackground()).save(str(path))
    return path


def retinaface_file(path: Path, score: float) -> Path:
    """A file like the published one; its network detects one face of this score that fills any 32×32 image."""
    retinaface = pytest.importorskip("facer.face_detection.retinaface", reason="pyfacer is not installed")
    torch.manual_seed(0)
    net = retinaface.RetinaFace(retinaface.cfg_mnet, phase="test")
    with torch.no_grad():
        for heads in (net.ClassHead, net.BboxHead, net.LandmarkHead):
            for head in heads:
                head.conv1x1.weight.zero_()
                head.conv1x1.bias.zero_()
        for head in net.ClassHead:
            head.conv1x1.bias.copy_(torch.tensor([20.0, 0.0, 20.0, 0.0]))  # no face
        # The coarsest map of such an image is one pixel; its second anchor is 512 px wide.
        net.ClassHead[2].conv1x1.bias.copy_(torch.tensor([20.0, 0.0, 0.0, math.log(score / (1 - score))]))
        net.LandmarkHead[2].conv1x1.bias[10:] = ((FIVE_POINTS / 512 * 32 - 16) / (0.1 * 512)).flatten()
    torch.save({f"module.{name}": value for name, value in net.state_dict().items()}, path)
    return path


@pytest.fixture
def half_white():
    image = Image.new("RGB", (32, 32), "black")
    image.paste("white", (0, 0, 16, 32))
    image.paste((140, 140, 140), (0, 16, 16, 32))
    return image


@pytest.mark.parametrize("score", [0.95, 0.02])
def test_farl_reads_local_files(score, farl, half_white, tmp_path):
    detector = retinaface_file(tmp_path / "mobilenet0.25_Final.pth", score)
    benchmark = torch.backends.cudnn.benchmark
    for image in (half_white, to_tensor(half_white)):
        mask = background_probability(image, CPU, farl, detector)
        assert mask.shape == (32, 32) and mask.dtype == torch.float32
        assert not mask.is_inference()
        assert mask[1:14, 1:14].min() > 0.99
        assert mask[:, 18:31].max() < 0.01
        grey = 1 / (1 + math.exp(-20 * (140 / 255 - 0.5)))
        assert torch.allclose(mask[19:30, 2:13], torch.tensor(grey), atol=0.02)
    assert torch.backends.cudnn.benchmark == benchmark


def test_no_face_for_retinaface_falls_back(farl, half_white, tmp_path, caplog):
    detector = retinaface_file(tmp_path / "mobilenet0.25_Final.pth", 0.001)
    with caplog.at_level(logging.WARNING), pytest.raises(UserError, match="no face was found"):
        background_probability(half_white, CPU, farl, detector)
    assert "RetinaFace finds no face" in caplog.text


def test_missing_weights_fall_back_to_landmarks_and_say_so_once(farl, tmp_path, caplog):
    image = load_image(ASTRONAUT)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            mask = background_probability(image, CPU, farl, tmp_path / "absent.pth")
    assert mask.shape == (512, 512) and mask.dtype == torch.float32
    assert mask[128, 224] < 0.01  # nose
    assert mask[0, 0] == mask[511, 511] == mask[300, 220] == 1
    assert [record.message.count("absent.pth") for record in caplog.records] == [1]


def test_damaged_weights_are_named(farl, half_white, tmp_path):
    detector = retinaface_file(tmp_path / "mobilenet0.25_Final.pth", 0.9)
    bad = tmp_path / "bad"
    bad.write_text("no weights")
    for files in ((bad, detector), (farl, bad), (detector, farl)):
        with pytest.raises(UserError, match="get it again") as error:
            background_probability(half_white, CPU, *files)
        assert "\n" not in str(error.value)


def test_read_mask_takes_the_first_channel_of_any_mode(tmp_path):
    values = np.zeros((32, 32), np.uint8)
    values[:16] = 255
    grey = Image.fromarray(values)
    red = Image.merge("RGB", [grey, Image.new("L", grey.size, 9), Image.new("L", grey.size, 200)])
    transparent = red.copy()
    transparent.putalpha(0)
    images = {
        "l.png": grey,
        "1.png": grey.convert("1"),
        "p.png": grey.convert("P"),
        "rgb.png": red,
        "rgba.png": transparent,
        "16.png": Image.fromarray(values.astype(np.uint16) * 257),
    }
    for name, image in images.items():
        image.save(tmp_path / name)
        mask = read_mask(tmp_path / name, 64)
        assert mask.shape == (64, 64) and mask.dtype == torch.float32, name
        assert torch.all(mask[:31] == 1) and torch.all(mask[33:] == 0), name
        assert torch.allclose(mask[31], torch.tensor(0.75)) and torch.allclose(mask[32], torch.tensor(0.25)), name


def test_a_mask_of_zeros_and_ones(tmp_path, caplog):
    ones = np.zeros((16, 16), np.uint8)
    ones[:, 8:] = 1
    palette = Image.fromarray(ones, "P")
    palette.putpalette([0, 0, 0, 1, 1, 1])
    masks = {"l.png": Image.fromarray(ones), "rgb.bmp": Image.fromarray(ones).convert("RGB"), "p.gif": palette}
    masks |= {"deep.png": Image.fromarray(ones.astype(np.uint16)), "wide.tif": Image.fromarray(ones.astype(np.int32))}
    for name, mask in masks.items():
        mask.save(tmp_path / name)
        with caplog.at_level(logging.WARNING):
            read = read_mask(tmp_path / name)
        assert read[:, :8].max() == 0 and read[:, 8:].min() == 1, name
    assert "l.png: has no values but 0 and 1; 1 is read as white" in caplog.text
    Image.fromarray(ones * 2).save(tmp_path / "dark.png")  # something else than a mask of two values
    assert read_mask(tmp_path / "dark.png").max() < 0.01


def test_a_mask_of_one_colour_is_logged():
    half = torch.zeros(8, 8)
    half[:4] = 1
    assert extent_note(half, "m.png") == ""
    assert extent_note(torch.full((8, 8), 0.01), "m.png").startswith("m.png is black: the whole image is edited")
    assert extent_note(torch.full((8, 8), 0.99), "m.png").startswith("m.png is white: the whole image is left")


def test_read_mask_of_one_pixel_and_not_square(tmp_path):
    Image.new("L", (1, 1), 255).save(tmp_path / "one.png")
    assert torch.all(read_mask(tmp_path / "one.png", 16) == 1)
    Image.new("L", (70, 30), 51).save(tmp_path / "wide.png")
    assert torch.allclose(read_mask(tmp_path / "wide.png", 16), torch.full((16, 16), 0.2))
    assert read_mask(tmp_path / "wide.png").shape == (30, 70)


def test_read_mask_refuses_bad_files(tmp_path):
    (tmp_path / "text.png").write_text("no image")
    for name in ("text.png", "missing.png"):
        with pytest.raises(UserError, match=name):
            read_mask(tmp_path / name, 16)


def test_save_mask_images(tmp_path):
    image = Image.new("RGB", (64, 64), (200, 100, 50))
    mask = torch.zeros(32, 32)
    mask[:, 16:] = 1
    for source, given in ((image, mask), (to_tensor(image), mask[None, None])):
        save_mask_images("a.b", tmp_path / "new", source, given)
        files = {path.name: load_image(path) for path in (tmp_path / "new").iterdir()}
        assert sorted(files) == ["a.b_back.jpg", "a.b_face.jpg", "a.b_mask.jpg"]
        for name, left, right in (
            ("mask", (0, 0, 0), (255, 255, 255)),
            ("back", (0, 0, 0), (200, 100, 50)),
            ("face", (200, 100, 50), (0, 0, 0)),
        ):
            saved = files[f"a.b_{name}.jpg"]
            assert np.abs(np.subtract(saved.getpixel((8, 32)), left)).max() <= 3, name
            assert np.abs(np.subtract(saved.getpixel((56, 32)), right)).max() <= 3, name
