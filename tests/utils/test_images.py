import logging
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from utils.colour import SRGB
from utils.errors import UserError
from utils.images import check_save_path, load_image, load_square, open_image, resize, save_image, to_image, to_tensor

ASTRONAUT = Path(__file__).parents[2] / "assets" / "astronaut.png"


@pytest.fixture
def ramp():
    """16×16 RGB gradient, every pixel of another colour."""
    y, x = np.mgrid[:16, :16]
    return Image.fromarray(np.stack([x * 17, y * 17, 255 - x * 8 - y * 8], axis=2).astype(np.uint8))


def png_header(width: int, height: int) -> bytes:
    """The start of a PNG that claims a size and has hardly any data."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


def bad_file(kind: str, folder: Path) -> Path:
    path = folder / f"{kind}.jpg"
    if kind == "folder":
        path.mkdir()
    elif kind == "text":
        path.write_text("this is no image\n" * 100)
    elif kind == "truncated":
        Image.open(ASTRONAUT).save(path)
        path.write_bytes(path.read_bytes()[:5000])
    elif kind == "truncated_png":
        path.write_bytes(ASTRONAUT.read_bytes()[:5000])
    elif kind == "empty":
        path.touch()
    elif kind == "tiny":
        Image.new("RGB", (1, 1)).save(path)
    elif kind == "thin":
        Image.new("RGB", (1000, 2)).save(path)
    elif kind == "no_size":
        path.write_bytes(png_header(0, 0))
    elif kind == "postscript":
        path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n")
    elif kind == "bomb":
        path.write_bytes(png_header(20000, 15000))
    elif kind == "large":
        path.write_bytes(png_header(12000, 10000))
    return path


@pytest.mark.parametrize(
    "kind, words",
    {
        "missing": "No such file",
        "folder": "is a folder",
        "text": "not an image",
        "truncated": "cannot be decoded",
        "truncated_png": "cannot be decoded",
        "empty": "is empty",
        "tiny": "1×1",
        "thin": "1000×2",
        "no_size": "not an image",
        "postscript": "not an image",
        "bomb": "100 megapixels",
        "large": "12000×10000",
    }.items(),
)
def test_a_bad_image_gives_one_line_that_names_it(kind, words, tmp_path):
    path = bad_file(kind, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserError) as error:
            load_image(path)
    message = str(error.value)
    assert str(path) in message
    assert words in message
    assert "\n" not in message


def test_a_strange_name_is_no_crash(tmp_path):
    for name in ("a\0b.png", "n" * 300 + ".png"):
        with pytest.raises(UserError):
            load_image(tmp_path / name)


def test_the_limit_is_the_callers(tmp_path, ramp):
    path = tmp_path / "a.png"
    ramp.save(path)
    assert load_image(path, max_pixels=256).size == (16, 16)
    with pytest.raises(UserError, match="16×16"):
        load_image(path, max_pixels=255)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".ppm", ".tif", ".TIFF"])
def test_lossless_files_come_back_exactly(suffix, tmp_path, ramp):
    path = tmp_path / "new" / f"a{suffix}"
    save_image(ramp, path)
    loaded = load_image(path)
    assert loaded.mode == "RGB"
    assert loaded.tobytes() == ramp.tobytes()
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".webp"])
def test_lossy_files_come_back_nearly(suffix, tmp_path):
    photo = load_image(ASTRONAUT)
    save_image(photo, tmp_path / f"a{suffix}")
    loaded = load_image(tmp_path / f"a{suffix}")
    error = np.asarray(loaded, dtype=float) - np.asarray(photo)
    assert 0 < np.sqrt((error**2).mean()) < 4


def test_jpeg_is_written_at_quality_95_without_subsampling(tmp_path, ramp):
    save_image(ramp, tmp_path / "a.jpg")
    ramp.save(tmp_path / "b.jpg", quality=95, subsampling=0, icc_profile=SRGB)
    assert (tmp_path / "a.jpg").read_bytes() == (tmp_path / "b.jpg").read_bytes()


def test_cmyk(tmp_path):
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=100)
    red, green, blue = load_image(tmp_path / "a.jpg").getpixel((8, 8))
    assert (red > 250, green < 5, blue < 5) == (True, True, True)


def test_greyscale_and_bilevel(tmp_path):
    Image.new("L", (16, 16), 77).save(tmp_path / "l.png")
    Image.new("1", (16, 16), 1).save(tmp_path / "1.png")
    assert load_image(tmp_path / "l.png").getpixel((3, 3)) == (77, 77, 77)
    assert load_image(tmp_path / "1.png").getpixel((3, 3)) == (255, 255, 255)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".ppm"])
def test_16_bits_are_scaled_and_not_clipped(suffix, tmp_path):
    levels = np.arange(256, dtype=np.uint16).reshape(16, 16)
    path = tmp_path / f"a{suffix}"
    if suffix == ".ppm":
        path.write_bytes(b"P5 16 16 65535\n" + (levels * 257).astype(">u2").tobytes())
    else:
        Image.fromarray(levels * 257).save(path)
    with Image.open(path) as file:
        assert file.mode in ("I", "I;16")
    assert np.array_equal(np.asarray(load_image(path))[..., 1], levels)


def test_a_dark_16_bit_image_stays_dark(tmp_path):
    Image.fromarray(np.full((16, 16), 200, np.uint16)).save(tmp_path / "a.png")
    assert load_image(tmp_path / "a.png").getpixel((0, 0)) == (1, 1, 1)


@pytest.mark.parametrize("white, dtype", [(255, "int32"), (65535, "int32"), (1, "float32"), (255, "float32")])
def test_integer_and_float_tiff(white, dtype, tmp_path):
    levels = np.arange(256).reshape(16, 16)
    Image.fromarray((levels / 255 * white).astype(dtype)).save(tmp_path / "a.tif")
    assert np.array_equal(np.asarray(load_image(tmp_path / "a.tif"))[..., 0], levels)


def test_float_tiff_with_overshoot_and_holes(tmp_path):
    values = np.full((16, 16), 0.5, np.float32)
    values[0, :4] = (1.2, -0.3, np.nan, np.inf)
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert np.asarray(load_image(tmp_path / "a.tif"))[0, :5, 0].tolist() == [255, 0, 0, 0, 128]


def test_transparency_shows_white(tmp_path):
    rgba = Image.new("RGBA", (16, 16), (255, 0, 0, 0))
    rgba.putpixel((1, 0), (255, 0, 0, 255))
    rgba.putpixel((2, 0), (0, 0, 0, 127))
    palette = Image.new("P", (16, 16), 0)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    palette.putpixel((1, 0), 1)
    rgba.save(tmp_path / "rgba.png")
    rgba.save(tmp_path / "rgba.webp", lossless=True)
    rgba.convert("LA").save(tmp_path / "la.png")
    palette.save(tmp_path / "p.png", transparency=0)
    palette.save(tmp_path / "p.gif", transparency=0)
    Image.new("RGB", (16, 16), (9, 9, 9)).save(tmp_path / "rgb.png", transparency=(9, 9, 9))
    for path in tmp_path.iterdir():
        assert load_image(path).getpixel((0, 0)) == (255, 255, 255), path
    for name in ("rgba.png", "rgba.webp", "p.png", "p.gif"):
        assert load_image(tmp_path / name).getpixel((1, 0)) == (255, 0, 0), name
    assert load_image(tmp_path / "rgba.png").getpixel((2, 0)) == (128, 128, 128)


def test_palette_without_transparency(tmp_path, ramp):
    ramp.quantize(256).save(tmp_path / "a.png")
    assert np.abs(np.asarray(load_image(tmp_path / "a.png"), dtype=int) - np.asarray(ramp)).max() < 40


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(orientation, tmp_path):
    upright = Image.new("L", (32, 16), 0)
    upright.paste(255, (0, 0, 8, 8))  # white mark, top left
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[274] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    assert load_image(tmp_path / "a.png").convert("L").tobytes() == upright.tobytes()


def test_broken_exif_is_no_reason_to_refuse(tmp_path, ramp):
    ramp.save(tmp_path / "a.png", exif=b"Exif\0\0garbage that is no TIFF header")
    assert load_image(tmp_path / "a.png").tobytes() == ramp.tobytes()


def png_with_text(path: Path, image: Image.Image, megabytes: int, kind: bytes = b"zTXt", late: bool = False) -> None:
    """A PNG that carries compressed text, before the image or after it."""
    image.save(path)
    content = path.read_bytes()
    text = zlib.compress(b"a" * (megabytes << 20))
    data = {b"zTXt": b"prompt\0\0" + text, b"iTXt": b"prompt\0\1\0\0\0" + text, b"iCCP": b"p\0\0" + text}[kind]
    chunk = struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    at = content.index(b"IEND") - 4 if late else 33  # after IHDR
    path.write_bytes(content[:at] + chunk + content[at:])


@pytest.mark.parametrize(("kind", "late"), [(b"zTXt", False), (b"zTXt", True), (b"iTXt", False), (b"iCCP", False)])
def test_limits_on_text_do_not_limit_the_image(kind, late, tmp_path, ramp):
    for megabytes in (3, 100):
        png_with_text(tmp_path / "a.png", ramp, megabytes, kind, late)
        assert load_image(tmp_path / "a.png").tobytes() == ramp.tobytes()
    broken = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(broken[: broken.index(b"IDAT") + 20])
    with pytest.raises(UserError, match="cannot be decoded"):
        load_image(tmp_path / "a.png")


def test_formats_that_are_read_but_not_written(tmp_path, ramp):
    photo = load_image(ASTRONAUT).resize((64, 64))
    for suffix in (".gif", ".jfif", ".jp2", ".avif"):
        photo.save(tmp_path / f"a{suffix}")
        error = np.asarray(load_image(tmp_path / f"a{suffix}"), dtype=float) - np.asarray(photo)
        assert np.sqrt((error**2).mean()) < 12, suffix
        with pytest.raises(UserError, match=r"use one of \.bmp"):
            save_image(photo, tmp_path / f"b{suffix}")


def test_heic_is_read_where_its_package_is_installed(tmp_path, monkeypatch):
    pillow_heif = pytest.importorskip("pillow_heif")
    photo = load_image(ASTRONAUT).resize((64, 64))
    pillow_heif.from_pillow(photo).save(tmp_path / "a.heic", quality=95)
    error = np.asarray(load_image(tmp_path / "a.heic"), dtype=float) - np.asarray(photo)
    assert np.sqrt((error**2).mean()) < 12
    code = "import sys; sys.modules['pillow_heif'] = None; import importlib.util as u; f = u.find_spec\n"
    code += "u.find_spec = lambda name, *a: None if name == 'pillow_heif' else f(name, *a)\n"  # as if it were not there
    code += "from utils.images import load_image; load_image(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "a.heic"], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1].endswith("a.heic: HEIC images need one more package: pip install pillow-heif")


def test_squashed_images_are_warned_of_once_a_folder(tmp_path, caplog):
    for name, size in (("a.png", (300, 100)), ("b.png", (100, 300)), ("c.png", (101, 100))):
        Image.new("RGB", size).save(tmp_path / name)
    with caplog.at_level(logging.WARNING):
        for name in ("c.png", "a.png", "b.png"):
            assert load_square(tmp_path / name, 32).size == (32, 32)
    (warning,) = caplog.messages
    assert "a.png: has 300×100 pixels and is squashed" in warning and "--align" in warning


def test_open_image_keeps_mode_and_takes_one_pixel(tmp_path):
    Image.new("RGBA", (1, 1), (1, 2, 3, 4)).save(tmp_path / "a.png")
    assert open_image(tmp_path / "a.png").getpixel((0, 0)) == (1, 2, 3, 4)


def test_check_save_path_fails_before_any_work(tmp_path):
    check_save_path(tmp_path / "new" / "a.JPG")
    for name in ("a.xyz", "a", "a.gif", "a.jpg.txt"):
        with pytest.raises(UserError, match=r"\.jpg"):
            check_save_path(tmp_path / name)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="not a folder"):
        check_save_path(tmp_path / "file" / "a.jpg")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_failed_save_leaves_the_old_image(tmp_path, ramp):
    path = tmp_path / "a.webp"
    save_image(ramp, path)
    old = path.read_bytes()
    with pytest.raises(UserError, match="cannot be written"):
        save_image(Image.new("L", (20000, 8)), path)  # WebP ends at 16383 px
    assert path.read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == ["a.webp"]


def test_other_modes_are_saved_too(tmp_path):
    save_image(Image.new("RGBA", (16, 16), (10, 20, 30, 255)), tmp_path / "a.jpg")
    save_image(Image.new("L", (16, 16), 9), tmp_path / "b.ppm")
    assert load_image(tmp_path / "b.ppm").getpixel((0, 0)) == (9, 9, 9)


def test_tensor_round_trip_is_exact(ramp):
    tensor = to_tensor(ramp)
    assert tensor.shape == (3, 16, 16) and tensor.dtype == torch.float32
    assert tensor[0, 0, 15] == 1 and tensor[0, 0, 0] == -1  # red grows with x
    assert to_image(tensor).tobytes() == ramp.tobytes()


def test_to_image_clips_and_rounds():
    values = torch.tensor([-9.0, -1.0, 10.7 / 127.5 - 1, 11.4 / 127.5 - 1, 1.0, 9.0])
    image = to_image(values.expand(3, 2, 6).requires_grad_())
    assert np.asarray(image)[0, :, 0].tolist() == [0, 0, 11, 11, 255, 255]
    assert image.size == (6, 2)
    with pytest.raises(ValueError, match="3×H×W"):
        to_image(torch.zeros(1, 3, 4, 4))


def test_resize_antialiases():
    stripes = Image.fromarray(np.tile(np.array([0, 255], np.uint8), (64, 32)))
    assert resize(stripes, 64) is stripes
    small = np.asarray(resize(stripes, 8))
    assert small.shape == (8, 8)
    assert np.abs(small.astype(int) - 127).max() < 20
