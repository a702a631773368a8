"""scripts/animate.py on a small domain of random weights: animations of a photograph, and edited videos with sound."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from small_domain import SmallDomain
from video_files import read_sound, write_video
from warm_python import WarmPython

from runners.animation_runner import AnimationRunner, timeline
from runners.simple_runner import SimpleRunner
from utils.errors import UserError
from utils.images import load_image
from utils.video import probe, read_frames

ROOT = Path(__file__).resolve().parents[2]
SIZE, RATE = 256, 8


@pytest.fixture(scope="module")
def runner(small: SmallDomain) -> SimpleRunner:
    return SimpleRunner(small.editor, small.config)


@pytest.fixture(scope="module")
def python() -> Iterator[WarmPython]:
    warm = WarmPython("runners.simple_runner", "dlib", "cv2", "av")
    yield warm
    warm.close()


@pytest.fixture(scope="module")
def photo(photo_path: Path) -> Image.Image:
    """The face of the photograph and what is about it."""
    return load_image(photo_path).crop((60, 0, 380, 320)).resize((SIZE + 32, SIZE + 32))


def walk(photo: Image.Image, count: int) -> list[Image.Image]:
    """The face moves by a pixel from frame to frame, to and fro."""
    steps = [min(i % 48, 48 - i % 48) for i in range(count)]
    return [photo.crop((step, step // 2, step + SIZE, step // 2 + SIZE)) for step in steps]


@pytest.fixture(scope="module")
def clip(photo: Image.Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds with sound."""
    return write_video(tmp_path_factory.mktemp("clip") / "in.mp4", walk(photo, 3 * RATE), RATE)


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"), dtype=np.int64)


def difference(a: Image.Image, b: Image.Image) -> float:
    return float(np.abs(pixels(a) - pixels(b)).mean())


# ---- Photographs ----


def test_the_powers_of_every_frame() -> None:
    assert timeline([("age", [-4, 4])], 8) == [(p,) for p in (-4, -2, 0, 2, 4, 2, 0, -2)]
    chain = timeline([("age", [4]), ("glasses", [-2])], 5)
    assert chain == [(0, 0), (2, 0), (4, 0), (4, -1), (4, -2)]
    assert len(timeline([("age", [-1, 1])], 7)) == 7
    for edits in ([], [("age", [1, 2]), ("glasses", [3])], [("age", [1, 2, 3])]):
        with pytest.raises(UserError, match="range"):
            timeline(edits, 4)
    with pytest.raises(UserError, match="frames is 1"):
        timeline([("age", [1])], 1)


def test_a_sweep_goes_there_and_back(
    python: WarmPython, runner: SimpleRunner, small: SmallDomain, photo_path: Path, tmp_path: Path
) -> None:
    code = python.run(
        "animate.py", "--orig_img_pth", photo_path, "--edits", "age=0..8", "--frames", 10, "--fps", 5,
        "--save_pth", tmp_path / "new" / "a.gif", "--simple_config_pth", small.config, log=tmp_path / "log",
    )  # fmt: skip
    assert code == 0, (tmp_path / "log").read_text()
    inverted = runner.invert(photo_path)
    with Image.open(tmp_path / "new" / "a.gif") as gif:
        assert (gif.n_frames, gif.info["loop"], gif.info["duration"]) == (10, 0, 200)
        frames = []
        for number in range(10):
            gif.seek(number)
            frames.append(gif.convert("RGB"))
    inversion = runner.reconstruct(inverted)
    furthest = runner.edit(inverted, "age", 8)
    far = difference(inversion, furthest)  # the images are noise, of which 256 colours cost some
    assert difference(frames[0], inversion) < far / 2 < difference(frames[5], inversion)
    assert difference(frames[5], furthest) < far / 2 < difference(frames[0], furthest)
    for number in range(1, 5):
        assert difference(frames[number], frames[10 - number]) == 0


def test_a_chain_ends_at_the_stacked_edit(runner: SimpleRunner, photo_path: Path, tmp_path: Path) -> None:
    edits = [("age", [6.0]), ("glasses", [-5.0])]
    mask = tmp_path / "mask.png"
    Image.new("L", (8, 8), 128).save(mask)
    AnimationRunner(runner).photo(
        photo_path, edits, tmp_path / "a.mp4", frames=9, fps=6, align=True, use_mask=True, mask_path=mask
    )
    assert (probe(tmp_path / "a.mp4").rate, probe(tmp_path / "a.mp4").size) == (6, (64, 64))
    frames = [frame.image for frame in read_frames(tmp_path / "a.mp4")]
    face = runner.invert(photo_path, align=True)
    assert len(frames) == 9
    options = {"align": True, "use_mask": True, "mask_path": mask}
    inversion = runner.reconstruct(face)
    older = runner.edit(face, "age", 6, **options)
    stacked = runner.edit(face, edits=[("age", 6), ("glasses", -5)], **options)
    wanted = [inversion, older, stacked]
    for number, edited in zip((0, 4, 8), wanted, strict=True):
        nearest = min(wanted, key=lambda image: difference(image, frames[number]))
        assert nearest is edited and difference(edited, frames[number]) < 8  # H.264 costs a little


def test_the_image_is_inverted_once(runner: SimpleRunner, photo_path: Path, tmp_path: Path) -> None:
    calls = []
    hook = runner.method.inverter.fs_backbone.register_forward_hook(lambda *_: calls.append(1))
    AnimationRunner(runner).photo(photo_path, [("age", [-3, 3])], tmp_path / "a.gif", frames=12)
    hook.remove()
    assert len(calls) == 1


# ---- Videos ----

MEASURED = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
"""


def edit_video(small: SmallDomain, source: Path, target: Path) -> int:
    """A run of the script in a process of its own. Returns its peak memory in KiB."""
    command = [sys.executable, "-c", MEASURED, str(ROOT / "scripts" / "animate.py"), "--video", str(source)]
    command += ["--edits", "age=6", "glasses=3", "--save_pth", str(target), "--simple_config_pth", str(small.config)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.fixture(scope="module")
def edited(small: SmallDomain, clip: Path) -> tuple[Path, int]:
    """The clip's edit, and the peak memory that it took."""
    return clip.with_name("out.mp4"), edit_video(small, clip, clip.with_name("out.mp4"))


def seconds(path: Path) -> float:
    with av.open(str(path)) as video:
        return video.duration / 1e6


def times(path: Path) -> list[float]:
    return [float(frame.pts * probe(path).time_base) for frame in read_frames(path)]


def test_a_video_keeps_length_rate_count_and_sound(clip: Path, edited: tuple[Path, int]) -> None:
    target, _ = edited
    assert seconds(target) == seconds(clip) and abs(seconds(target) - 3) < 0.01
    assert (probe(target).rate, probe(target).size) == (RATE, (SIZE, SIZE))
    assert times(target) == times(clip) and len(times(target)) == 3 * RATE
    assert np.array_equal(read_sound(target), read_sound(clip))
    for old, new in zip(read_frames(clip), read_frames(target), strict=True):
        changed = np.abs(pixels(old.image) - pixels(new.image)).mean(axis=2)
        assert changed.max() > 60  # in the face
        assert changed[-10:, :10].mean() < 6  # in a corner that no crop reaches; H.264 costs a little


def test_memory_does_not_grow_with_length(
    small: SmallDomain, edited: tuple[Path, int], photo: Image.Image, tmp_path: Path
) -> None:
    longer = write_video(tmp_path / "in.mp4", walk(photo, 12 * RATE), RATE)
    _, peak = edited
    # The encoder holds some frames more; all 72 more would take 14 MB.
    assert edit_video(small, longer, tmp_path / "out.mp4") < peak + 10 * 1024


def test_a_missed_face_is_between_its_neighbours(runner: SimpleRunner, photo: Image.Image, tmp_path: Path) -> None:
    """The middle frame is grey. It is edited at the place that the frames about it tell; others stay as they are."""
    grey = Image.new("RGB", (SIZE, SIZE), "gray")
    images = walk(photo, 20)
    images[1] = grey
    images[6:] = [grey] * 14
    clip = write_video(tmp_path / "in.mp4", images, RATE, sound=None)
    AnimationRunner(runner).video(clip, [("age", [6])], tmp_path / "out.mp4")
    changed = [
        difference(new.image, image) for new, image in zip(read_frames(tmp_path / "out.mp4"), images, strict=True)
    ]
    reach = 5 + RATE // 2  # half a second after the last face
    assert min(changed[: reach + 1]) > 5 and max(changed[reach + 1 :]) < 1


def test_a_domain_without_alignment_edits_square_frames_whole(small: SmallDomain, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "domain.yaml").write_text(small.path.read_text().replace("alignment: ffhq", "alignment: null"))
    config = small.config.read_text().replace(str(small.path), str(tmp_path / "domain.yaml"))
    (tmp_path / "config.yaml").write_text(config)
    runner = SimpleRunner(small.editor, tmp_path / "config.yaml")
    AnimationRunner(runner).video(clip, [("age", [6])], tmp_path / "out.mp4")
    frame, result = next(read_frames(clip)), next(read_frames(tmp_path / "out.mp4"))
    frame.image.save(tmp_path / "frame.png")
    single = runner.edit(tmp_path / "frame.png", "age", 6).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    assert difference(result.image, single) < 4
    wide = write_video(tmp_path / "wide.mp4", [Image.new("RGB", (96, 64))] * 4)
    with pytest.raises(UserError, match=r"wide\.mp4: its frames are 96×64"):
        AnimationRunner(runner).video(wide, [("age", [6])], tmp_path / "out.mp4")


def test_masks_are_made_for_every_frame(runner: SimpleRunner, clip: Path, tmp_path: Path) -> None:
    """White everywhere: delta is 0, as the formula with the mask of a single image says."""
    Image.new("L", (9, 9), 255).save(tmp_path / "white.png")
    videos = AnimationRunner(runner)
    videos.video(clip, [("age", [6])], tmp_path / "masked.mp4", use_mask=True, mask_path=tmp_path / "white.png")
    videos.video(clip, [("age", [6])], tmp_path / "guessed.mp4", use_mask=True)
    videos.video(clip, [("age", [6])], tmp_path / "plain.mp4")
    masked, guessed, plain = (list(read_frames(tmp_path / f"{name}.mp4")) for name in ("masked", "guessed", "plain"))
    for a, b, c in zip(masked, guessed, plain, strict=True):
        assert 0.5 < difference(b.image, c.image) < difference(a.image, c.image)


# ---- What goes wrong ----


def test_a_killed_run_leaves_the_old_file(python: WarmPython, small: SmallDomain, clip: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    target.write_bytes(b"old")
    pid = python.start(
        "animate.py", "--video", clip, "--edits", "age=6", "--save_pth", target, "--simple_config_pth", small.config,
        log=tmp_path / "log",
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not any(path.suffix == ".mp4" and path.stat().st_size for path in tmp_path.glob(".*")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    assert python.wait(pid) == -signal.SIGKILL
    assert target.read_bytes() == b"old"
    assert {path.name for path in tmp_path.iterdir() if path.name[0] != "."} == {"out.mp4", "log"}


def bad_inputs(folder: Path, clip: Path, photo_path: Path) -> list[tuple[list[object], str]]:
    (folder / "text.mp4").write_text("no video\n" * 100)
    (folder / "file").touch()
    write_video(folder / "grey.mp4", [Image.new("RGB", (128, 128), "gray")] * 4)
    video, photo = ["--video", clip], ["--orig_img_pth", photo_path]
    edit, save = ["--edits", "age=5"], ["--save_pth", folder / "old.mp4"]
    return [
        (["--video", folder / "nowhere.mp4", *edit, *save], "nowhere.mp4"),
        (["--video", folder / "text.mp4", *edit, *save], "text.mp4"),
        (["--video", folder / "grey.mp4", *edit, *save], "no face was found in any of its 4 frames"),
        ([*video, "--edits", "age=1..5", *save], "one power"),
        ([*video, "--edits", "agee=5", *save], "'age'"),
        ([*video, *edit, "--save_pth", folder / "old.gif"], "use .mp4"),
        ([*video, *edit, "--save_pth", folder / "file" / "new.mp4"], "not a folder"),
        ([*video, *edit, *save, "--use_mask", "--mask_path", folder / "mask.png"], "mask.png"),
        ([*photo, *edit, "--save_pth", folder / "old.avi"], "use .gif or .mp4"),
        ([*photo, "--edits", "age=1..5", "glasses=2", *save], "range"),
        ([*photo, "--edits", "age=nan..5", *save], "nan"),
        (["--orig_img_pth", folder / "text.mp4", *edit, *save], "text.mp4"),
        ([*video, *edit, *save, "--fps", 5], "keeps its frames"),
        ([*photo, "--edits", "age", *save], "name=from..to"),
        ([*photo, *video, *edit, *save], "not allowed with"),
    ]


def test_bad_input_gives_one_line_and_leaves_old_results(
    python: WarmPython, small: SmallDomain, clip: Path, photo_path: Path, tmp_path: Path
) -> None:
    old = [tmp_path / f"old.{suffix}" for suffix in ("mp4", "gif", "avi")]
    for path in old:
        path.write_bytes(b"old")
    for arguments, words in bad_inputs(tmp_path, clip, photo_path):
        names = {path.name for path in tmp_path.iterdir()} | {"log"}
        config = ["--simple_config_pth", small.config]
        assert python.run("animate.py", *arguments, *config, log=tmp_path / "log") == 2, words
        *_, last = (tmp_path / "log").read_text().splitlines()
        assert words in last and "Traceback" not in (tmp_path / "log").read_text()
        assert {path.name for path in tmp_path.iterdir()} == names
    assert [path.read_bytes() for path in old] == [b"old"] * 3


@pytest.mark.parametrize(
    ("gone", "wanted"),
    [
        ("editor", "weight file {gone} does not exist; scripts/download_weights.py fetches the published ones"),
        ("generator", "weight file {gone} does not exist; scripts/download_weights.py fetches the published ones"),
        ("e4e", "weight file {gone} does not exist; scripts/download_weights.py fetches the published ones"),
        ("age", "{gone} (editing 'age') does not exist"),
    ],
)
def test_a_missing_weight_file_is_an_error_before_an_input_is_read(
    python: WarmPython, small: SmallDomain, tmp_path: Path, gone: str, wanted: str
) -> None:
    old = small.folder / "age.pt" if gone == "age" else getattr(small, gone)
    domain, config = tmp_path / "domain.yaml", tmp_path / "config.yaml"
    domain.write_text(small.path.read_text().replace(str(old), str(tmp_path / "gone.pt")))
    text = small.config.read_text().replace(str(small.path), str(domain))
    config.write_text(text.replace(str(old), str(tmp_path / "gone.pt")))
    for name in ("a.png", "in.mp4"):
        (tmp_path / name).write_text("neither an image nor a video")
    commands = [
        ["animate.py", "--video", "in.mp4", "--edits", "age=5", "--save_pth", "out.mp4"],
        ["animate.py", "--orig_img_pth", "a.png", "--edits", "age=5", "--save_pth", "out.gif"],
    ]
    if gone != "age":
        commands += [
            ["animate.py", "--orig_img_pth", "a.png", "--morph_to", "a.png", "--save_pth", "out.gif"],
            ["mix.py", "--orig_img_pth", "a.png", "--other_img_pth", "a.png", "--save_pth", "out.png"],
        ]
    for command in commands:
        log = tmp_path / "log"
        assert python.run(*command, "--simple_config_pth", config, log=log, cwd=tmp_path) == 2
        *_, last = log.read_text().splitlines()
        assert wanted.format(gone=tmp_path / "gone.pt") in last and "Traceback" not in log.read_text()
        assert not list(tmp_path.glob("out*"))


def test_the_result_overwrites_no_input(runner: SimpleRunner, clip: Path, photo_path: Path, tmp_path: Path) -> None:
    animation, movie, mask = AnimationRunner(runner), tmp_path / "me.mp4", tmp_path / "mask.gif"
    movie.write_bytes(clip.read_bytes())
    Image.new("L", (64, 64), "white").save(mask)
    before = {path: path.read_bytes() for path in (movie, mask)}
    with pytest.raises(UserError, match=r"me\.mp4: would be overwritten"):
        animation.video(movie, [("age", [5])], movie)
    with pytest.raises(UserError, match=r"mask\.gif: would be overwritten"):
        animation.photo(photo_path, [("age", [5])], mask, use_mask=True, mask_path=mask)
    with pytest.raises(UserError, match=r"mask_path is .*mask\.gif, but has an effect only with use_mask"):
        animation.photo(photo_path, [("age", [5])], tmp_path / "a.gif", mask_path=mask)
    with pytest.raises(UserError, match="mask_trashold is 50; wanted a probability"):
        animation.video(movie, [("age", [5])], tmp_path / "a.mp4", use_mask=True, mask_trashold=50)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_without_pyav_videos_say_what_to_install(small: SmallDomain, photo_path: Path, tmp_path: Path) -> None:
    """GIFs do without."""
    program = (
        "import sys\n"
        "sys.modules['av'] = None\n"
        "from runners.animation_runner import AnimationRunner\n"
        "from runners.simple_runner import SimpleRunner\n"
        f"runner = AnimationRunner(SimpleRunner({str(small.editor)!r}, {str(small.config)!r}))\n"
        f"runner.photo({str(photo_path)!r}, [('age', [3])], 'a.gif', 3)\n"
        f"runner.photo({str(photo_path)!r}, [('age', [3])], 'a.mp4', 3)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert "UserError: videos need PyAV" in done.stderr and "pip install -e '.[video]'" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a.gif"]
