"""Which face of a photograph is edited: by number, all of them, or by own landmarks."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_domain import SmallDomain

from models.faces.alignment import align
from models.faces.landmarks import find_faces, find_landmarks, read_landmarks
from runners.simple_runner import SimpleRunner
from utils.errors import UserError
from utils.images import load_image

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def runner(small: SmallDomain) -> SimpleRunner:
    return SimpleRunner(small.editor, small.config)


@pytest.fixture(scope="module")
def group(photo_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three faces side by side; the middle one is the largest."""
    face = load_image(photo_path).crop((120, 0, 330, 256))
    whole = Image.new("RGB", (820, 340), "gray")
    whole.paste(face, (20, 60))
    whole.paste(face.resize((273, 333)), (270, 5))
    whole.paste(face, (580, 30))
    path = tmp_path_factory.mktemp("group") / "group.png"
    whole.save(path)
    return path


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image, dtype=np.int64)


def test_faces_are_counted_from_the_left(runner: SimpleRunner, group: Path) -> None:
    faces, main = find_faces(load_image(group))
    assert [round(points[:, 0].mean() / 280) for points in faces] == [0, 1, 2]
    assert main == 1 and np.array_equal(faces[main], find_landmarks(load_image(group)))  # the largest
    for number, points in enumerate(faces, 1):
        photo = runner.invert(group, align=True, face=number)
        assert np.array_equal(pixels(photo.crop), pixels(align(load_image(group), 64, points).image))
    with pytest.raises(UserError, match=r"group\.png: shows 3 faces, counted from left to right; face is 4"):
        runner.invert(group, align=True, face=4)


def test_every_face_is_edited_and_nothing_else(runner: SimpleRunner, group: Path, tmp_path: Path) -> None:
    whole = runner.edit_faces(group, [("age", 5)], tmp_path / "all.png")
    assert np.array_equal(pixels(Image.open(tmp_path / "all.png")), pixels(whole))
    changed = np.abs(pixels(whole) - pixels(load_image(group))).max(axis=2)
    places = [points[30].round().astype(int) for points in find_faces(load_image(group))[0]]  # the noses
    for x, y in places:
        assert changed[y - 10 : y + 10, x - 10 : x + 10].mean() > 5
    assert changed[-3:, :5].max() == 0
    alone = runner.edit(group, edits=[("age", 5)], align=True, face=1, save_pth=tmp_path / "one.png")
    assert alone.size == (64, 64)
    one = np.abs(pixels(Image.open(tmp_path / "one_unaligned.jpg")) - pixels(load_image(group))).max(axis=2)
    assert one[places[0][1], places[0][0]] > 5 and one[:, 500:].mean() < 5  # JPEG's loss


def test_own_landmarks_in_every_format(runner: SimpleRunner, photo_path: Path, tmp_path: Path) -> None:
    """In an image in which dlib finds no face."""
    points = find_landmarks(load_image(photo_path))
    covered = Image.linear_gradient("L").resize((512, 512)).convert("RGB")
    covered.save(tmp_path / "covered.png")
    with pytest.raises(UserError, match="no face was found"):
        runner.invert(tmp_path / "covered.png", align=True)
    np.save(tmp_path / "a.npy", points)
    (tmp_path / "b.json").write_text(json.dumps(points.tolist()))
    (tmp_path / "c.txt").write_text("".join(f"{x!r} {y!r}\n" for x, y in points.tolist()))
    (tmp_path / "d.txt").write_text("\n".join(f"{x!r}, {y!r}" for x, y in points.tolist()))
    wanted = align(covered, 64, points)
    for name in ("a.npy", "b.json", "c.txt", "d.txt"):
        assert np.array_equal(read_landmarks(tmp_path / name), points)
        photo = runner.invert(tmp_path / "covered.png", align=True, landmarks=tmp_path / name)
        assert np.array_equal(pixels(photo.crop), pixels(wanted.image)) and np.array_equal(photo.quad, wanted.quad)


@pytest.mark.parametrize("size", [(60, 900), (900, 60), (64, 64), (513, 211)])
def test_any_shape_of_image_is_aligned(runner: SimpleRunner, size: tuple[int, int], tmp_path: Path) -> None:
    Image.effect_noise(size, 90).convert("RGB").save(tmp_path / "odd.png")
    centre = np.array(size) / 2
    angle = np.arange(68) * 2 * np.pi / 68
    points = centre + 20 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    for part, place in ((slice(36, 42), [-8, -6]), (slice(42, 48), [8, -6]), (slice(48, 60), [0, 10])):
        points[part] = centre + np.array(place)
    np.save(tmp_path / "points.npy", points)
    out = tmp_path / "out.png"
    result = runner.edit(tmp_path / "odd.png", "age", 3, out, align=True, landmarks=tmp_path / "points.npy")
    assert result.size == (64, 64)
    assert Image.open(tmp_path / "out_unaligned.jpg").size == size


class Attack:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("attacked"),))


def test_bad_landmarks_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    good = np.random.default_rng(1).uniform(0, 100, (68, 2))
    np.save("pickle.npy", np.array([Attack()]), allow_pickle=True)
    np.save("short.npy", good[:67])
    np.save("nan.npy", np.where(good == good[5], np.nan, good))
    np.save("one_place.npy", np.zeros((68, 2)))
    np.save("far.npy", good * 1e9)
    whole = Path("short.npy").read_bytes()
    Path("truncated.npy").write_bytes(whole[:200])
    Path("petabytes.npy").write_bytes(whole.replace(b"(67, 2)", b"(9**9,)"[:7]).replace(b"67", b"99999999999999"))
    Path("text.txt").write_text("one two\n" * 68)
    Path("ragged.json").write_text("[[1, 2], [3]]")
    Path("deep.json").write_text("[" * 100_000)
    Path("words.json").write_text('{"landmarks": "none"}')
    Path("binary.txt").write_bytes(bytes(range(256)))
    Path("huge.txt").write_text("1 2\n" * 300_000)
    Path("face.pts").write_text("1 2\n" * 68)
    Path("folder.txt").mkdir()
    files = sorted(path for path in tmp_path.iterdir())
    assert len(files) == 15
    for path in [*files, tmp_path / "missing.npy"]:
        with pytest.raises(UserError) as error:
            read_landmarks(path)
        assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value), path
    assert not Path("attacked").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"face": 1}, "face is 1, but has an effect only with align"),
        ({"landmarks": "x.npy"}, "landmarks is x.npy, but has an effect only with align"),
        ({"align": True, "face": 0}, "face is 0; wanted 1"),
        ({"align": True, "face": 1, "landmarks": "x.npy"}, "give one of them"),
    ],
)
def test_options_that_do_not_fit(runner: SimpleRunner, photo_path: Path, options: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        runner.edit(photo_path, "age", 1, **options)
    with pytest.raises(UserError, match="cut out already"):
        runner.edit(runner.invert(photo_path), "age", 1, face=1)


def test_script(small: SmallDomain, runner: SimpleRunner, group: Path, tmp_path: Path) -> None:
    def script(*flags: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, ROOT / "scripts" / "simple_inference.py", "--orig_img_pth", group, "--align"]
        command += ["--editor_ckpt_pth", small.editor, "--simple_config_pth", small.config, "--edits", "age=5", *flags]
        return subprocess.run([str(part) for part in command], capture_output=True, text=True)

    done = script("--face", "all", "--save_pth", tmp_path / "all.png")
    assert done.returncode == 0, done.stderr
    assert np.array_equal(pixels(Image.open(tmp_path / "all.png")), pixels(runner.edit_faces(group, [("age", 5)])))
    done = script("--face", "zero", "--save_pth", tmp_path / "no.png")
    assert done.returncode == 2 and "wanted a whole number, 1 or more" in done.stderr
