"""Videos and GIFs through the real encoders and decoders."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, ImageDraw
from video_files import read_sound, write_hdr_video, write_video

from utils.errors import UserError
from utils.video import Frame, check_movie_path, mp4_writer, probe, read_frames, save_gif, save_mp4


def moving_bar(count: int, size: tuple[int, int] = (96, 64)) -> list[Image.Image]:
    """A red corner at the top left, and a white bar that walks to the right."""
    images = []
    for number in range(count):
        image = Image.new("RGB", size, (40, 90, 120))
        draw = ImageDraw.Draw(image)
        draw.rectangle((0, 0, 23, 15), fill=(200, 30, 60))
        draw.rectangle((4 * number, 32, 4 * number + 7, 47), fill="white")
        images.append(image)
    return images


def copy(source: Path, target: Path) -> list[Frame]:
    with mp4_writer(target, probe(source), source) as write:
        for frame in read_frames(source):
            write(frame)
    return list(read_frames(target))


def difference(a: Image.Image, b: Image.Image) -> float:
    return float(np.abs(np.asarray(a, dtype=int) - np.asarray(b, dtype=int)).mean())


def test_a_copy_keeps_everything(tmp_path: Path) -> None:
    source = write_video(tmp_path / "in.mp4", moving_bar(16))
    info, frames = probe(source), list(read_frames(source))
    assert (info.size, info.rate, info.count) == ((96, 64), 8, 16) and len(frames) == 16
    assert difference(frames[3].image, moving_bar(16)[3]) < 3
    copied = copy(source, tmp_path / "out.mp4")
    new = probe(tmp_path / "out.mp4")
    assert (new.size, new.rate, new.count) == (info.size, info.rate, info.count)
    assert [f.pts * new.time_base for f in copied] == [f.pts * info.time_base for f in frames]
    assert max(difference(a.image, b.image) for a, b in zip(frames, copied, strict=True)) < 1.5
    assert np.array_equal(read_sound(tmp_path / "out.mp4"), read_sound(source))
    with av.open(str(source)) as old, av.open(str(tmp_path / "out.mp4")) as made:
        assert made.duration == old.duration
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["in.mp4", "out.mp4"]


def test_uneven_times_are_kept(tmp_path: Path) -> None:
    times = [0, 75, 100, 175, 400, 403, 700, 1000]
    source = write_video(tmp_path / "in.mp4", moving_bar(8), pts=times, sound=None)
    copied = copy(source, tmp_path / "out.mp4")
    assert [frame.pts * probe(tmp_path / "out.mp4").time_base for frame in copied] == [Fraction(t, 600) for t in times]


@pytest.mark.parametrize("sound", ["aac", "mp2"])
def test_a_clock_that_does_not_begin_at_zero(sound: str, tmp_path: Path) -> None:
    """As in recordings of broadcasts. The second sound has to be encoded."""
    source = write_video(tmp_path / "in.ts", moving_bar(16), sound=sound, late=100)
    with av.open(str(source)) as video:
        assert video.start_time > 99e6
    copied, base = copy(source, tmp_path / "out.mp4"), probe(tmp_path / "out.mp4").time_base
    first = float(copied[0].pts * base)
    assert first < 0.15
    assert [float(frame.pts * base) - first for frame in copied] == pytest.approx([i / 8 for i in range(16)])
    with av.open(str(tmp_path / "out.mp4")) as video:
        (track,) = video.streams.audio
        assert abs(video.duration / 1e6 - 2) < 0.2 and abs(float(track.start_time * track.time_base)) < 0.15


def test_a_phones_turn_is_made_and_sizes_become_even(tmp_path: Path) -> None:
    sideways = [image.transpose(Image.Transpose.ROTATE_270) for image in moving_bar(4, (96, 64))]
    source = write_video(tmp_path / "in.mp4", sideways, turned=90)
    assert probe(source).size == (96, 64)
    (first, *_) = copy(source, tmp_path / "out.mp4")
    assert difference(first.image, moving_bar(1)[0]) < 3
    odd = [image.crop((0, 0, 95, 63)) for image in moving_bar(4)]
    (first, *_) = copy(write_video(tmp_path / "odd.mkv", odd, codec="ffv1"), tmp_path / "out.mp4")
    assert difference(first.image, odd[0].crop((0, 0, 94, 62))) < 3


@pytest.mark.parametrize("transfer", [16, 18])
def test_hdr_is_mapped_to_bt709(transfer: int, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Greys keep their order, nothing below 1000 nits is clipped, colours keep their hue, and the result is tagged."""
    nits = np.zeros((64, 128, 3))
    greys = [0.0, 10, 50, 100, 203, 500, 900, 999]
    for number, value in enumerate(greys):
        nits[:32, 16 * number : 16 * number + 16] = value
    nits[32:, :64], nits[32:, 64:] = (120, 60, 40), (20, 60, 120)  # of skin, and of jeans
    source = write_hdr_video(tmp_path / "in.mp4", nits, transfer)
    with caplog.at_level("INFO"):
        info = probe(source)
    assert "in.mp4: its colours" in caplog.text and "mapped to BT.709" in caplog.text
    copied = copy(source, tmp_path / "out.mp4")
    assert len(copied) == 4 and (info.matrix, info.primaries, info.transfer) == (1, 1, 1)
    with av.open(str(tmp_path / "out.mp4")) as made:
        context = made.streams.video[0].codec_context
        assert (context.colorspace, context.color_primaries, context.color_trc) == (1, 1, 1)
    shown = np.asarray(copied[2].image, dtype=float)
    levels = shown[16, 8::16]
    assert np.ptp(levels, axis=1).max() <= 3  # grey stays grey
    assert (np.diff(levels[:, 1]) > 0).all() and levels[0, 1] < 20
    assert 90 < levels[3, 1] < 200  # a grey of 100 nits is a middle one
    for x, light in ((32, (120, 60, 40)), (96, (20, 60, 120))):
        linear = (shown[48, x] / 255) ** 2.2
        assert np.abs(linear / linear.sum() - np.divide(light, sum(light))).max() < 0.06
    unread = write_video(tmp_path / "sdr.mp4", moving_bar(2))
    assert (probe(unread).primaries, probe(unread).transfer) == (2, 2)


@pytest.mark.parametrize("codec", ["libmp3lame", "mp2", "pcm_u8"])
def test_sound_of_other_formats_is_kept(codec: str, tmp_path: Path) -> None:
    """Copied or encoded again: the tone stays the same."""
    source = write_video(tmp_path / "in.mkv", moving_bar(16), sound=codec)
    copy(source, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as made:
        stream = made.streams.audio[0]
        seconds, rate = float(stream.duration * stream.time_base), stream.rate
    assert abs(seconds - 2) < 0.1
    sound = read_sound(tmp_path / "out.mp4")[0][rate // 2 : rate * 3 // 2]  # a second of it
    spectrum = np.abs(np.fft.rfft(sound))
    assert abs(int(spectrum.argmax()) - 440) <= 1 and spectrum.max() / len(sound) > 0.1


def test_gif_and_mp4_of_images(tmp_path: Path) -> None:
    save_gif(moving_bar(12), tmp_path / "a.gif", 10)
    with Image.open(tmp_path / "a.gif") as gif:
        assert (gif.n_frames, gif.info["loop"], gif.info["duration"]) == (12, 0, 100)
        for number, image in enumerate(moving_bar(12)):
            gif.seek(number)
            assert difference(gif.convert("RGB"), image) < 4
    save_mp4(moving_bar(12), tmp_path / "a.mp4", 10)
    assert (probe(tmp_path / "a.mp4").rate, probe(tmp_path / "a.mp4").count) == (10, 12)
    assert difference(list(read_frames(tmp_path / "a.mp4"))[-1].image, moving_bar(12)[-1]) < 3


def bad_files(folder: Path) -> dict[str, Path]:
    files = {name: folder / f"{name}.mp4" for name in ("missing", "folder", "text", "empty", "truncated", "huge")}
    files["folder"].mkdir()
    files["text"].write_text("no video at all, just words\n" * 50)
    files["empty"].touch()
    whole = write_video(folder / "whole.mp4", moving_bar(16)).read_bytes()
    files["truncated"].write_bytes(whole[: len(whole) // 2])
    write_video(files["huge"], [Image.new("RGB", (4096, 2400))], sound=None)
    with av.open(str(folder / "sound.mp4"), "w") as output:
        track = output.add_stream("aac", rate=16_000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 2048), np.int16), "s16", "mono")
        silence.sample_rate = 16_000
        output.mux(track.encode(silence))
        output.mux(track.encode(None))
    Image.new("RGB", (64, 64)).save(folder / "picture.png")
    return {**files, "sound": folder / "sound.mp4", "picture": folder / "picture.png"}


def test_bad_videos_give_one_line(tmp_path: Path) -> None:
    words = {"huge": "megapixels", "sound": "no video stream", "picture": "not a video", "missing": "does not exist"}
    for name, path in bad_files(tmp_path).items():
        for read in (probe, lambda path: list(read_frames(path))):
            with pytest.raises(UserError) as error:
                read(path)
            assert str(path) in str(error.value) and "\n" not in str(error.value), name
            assert words.get(name, "") in str(error.value)


def test_an_error_leaves_the_old_file(tmp_path: Path) -> None:
    source, target = write_video(tmp_path / "in.mp4", moving_bar(16)), tmp_path / "out.mp4"
    target.write_bytes(b"old")
    with pytest.raises(UserError, match="stop"), mp4_writer(target, probe(source), source) as write:
        for number, frame in enumerate(read_frames(source)):
            write(frame)
            if number == 10:
                raise UserError("stop")
    assert target.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 2


def test_extensions_are_checked(tmp_path: Path) -> None:
    check_movie_path(tmp_path / "new" / "a.MP4", (".gif", ".mp4"))
    for name in ("a.avi", "a"):
        with pytest.raises(UserError, match=r"\.gif or \.mp4"):
            check_movie_path(tmp_path / name, (".gif", ".mp4"))
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="not a folder"):
        check_movie_path(tmp_path / "file" / "a.gif", (".gif",))
