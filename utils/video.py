"""Videos, read frame by frame, and MP4s and GIFs, written.

Videos go through PyAV, whose wheels include FFmpeg's libraries; it is imported when the first video is opened.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from utils.errors import UserError
from utils.files import atomic_path, check_writable
from utils.video_colour import BT601, BT709, HD, HDR, SCALING, UNKNOWN, ToRGB, converter, is_wide, matrix_of

logger = logging.getLogger(__name__)

MAX_FRAME_PIXELS = 4096 * 2304  # 4K; the encoder holds about fifty frames
QUALITY = {"crf": "17", "preset": "fast"}  # of H.264: hardly distinguishable from the original

_MP4_SOUND = {"aac", "ac3", "alac", "eac3", "flac", "mp3", "opus"}  # what players expect in an MP4
_SOUND_RATE = 48_000  # Hz, of sound that has to be encoded again
_STILL_FORMATS = ("image2", "_pipe")  # FFmpeg's names of formats that hold one image


@dataclass(frozen=True)
class VideoInfo:
    """What is needed to write another video like this one."""

    size: tuple[int, int]  # of the upright images
    rate: Fraction  # images a second, on average
    time_base: Fraction  # seconds; the unit of Frame.pts
    count: int | None = None  # of frames; None if the file does not say
    aspect: Fraction = Fraction(1)  # a pixel's width : height
    matrix: int = BT601
    primaries: int = UNKNOWN
    transfer: int = UNKNOWN


@dataclass(frozen=True)
class Frame:
    image: Image.Image  # RGB, upright
    pts: int  # when it is shown, in units of VideoInfo.time_base
    duration: int  # in the same unit


def check_movie_path(path: str | Path, suffixes: Sequence[str]) -> None:
    """Fail before any work if nothing could be written at `path`, or its extension is not one of `suffixes`."""
    suffix = Path(path).suffix
    if suffix.lower() not in suffixes:
        ending = f"the extension {suffix}" if suffix else "no extension"
        raise UserError(f"{path}: has {ending}; use {' or '.join(suffixes)}")
    check_writable(path)
    if suffix.lower() != ".gif":
        _av()


def probe(path: str | Path) -> VideoInfo:
    """Look at a video and its first frame.

    Raises UserError if it is missing, not a video, damaged, or has more than MAX_FRAME_PIXELS per frame, which is
    checked before anything is decoded.
    """
    path = Path(path)
    with _opened(path) as container, _user_errors(path, "cannot be decoded"):
        stream = _video_stream(path, container)
        frame = next(container.decode(stream), None)
        if frame is None:
            raise UserError(f"{path}: holds no image that can be decoded; get the video again")
        _check_size(path, frame.width, frame.height)
        aspect = stream.sample_aspect_ratio or Fraction(1)
        rate = _rate(stream)
        seconds = container.duration / 1e6 if container.duration else None
        converted = is_wide(frame)
        if converted:
            logger.info("%s: its colours (%s) are mapped to BT.709", path, HDR.get(frame.color_trc, "wide gamut"))
        return VideoInfo(
            size=(frame.height, frame.width) if round(frame.rotation / 90) % 2 else (frame.width, frame.height),
            rate=rate,
            time_base=stream.time_base,
            count=stream.frames or (round(seconds * rate) if seconds else None),
            aspect=1 / aspect if frame.rotation % 180 else aspect,
            matrix=BT709 if converted else matrix_of(frame),
            primaries=BT709 if converted else stream.codec_context.color_primaries,
            transfer=BT709 if converted else stream.codec_context.color_trc,
        )


def read_frames(path: str | Path) -> Iterator[Frame]:
    """Every frame, one at a time; rotated as a player would show them.

    All have the size of the first one. Colours of HDR or of a wide gamut are mapped to BT.709. `pts` always rises, and
    0 is when the video begins. Raises UserError as `probe` does.
    """
    path, last, size = Path(path), -1, None
    with _opened(path) as container, _user_errors(path, "cannot be decoded"):
        stream = _video_stream(path, container)
        start = round(_start(container) / stream.time_base)
        usual = max(round(1 / (_rate(stream) * stream.time_base)), 1)
        to_rgb = ToRGB(stream)
        for frame in container.decode(stream):
            size = size or (frame.width, frame.height)
            pts = last + usual if frame.pts is None else frame.pts - start
            last = max(pts, last + 1)  # where a clock is broken
            yield Frame(_upright(frame, to_rgb(frame, size)), last, frame.duration or usual)


@contextmanager
def mp4_writer(path: str | Path, info: VideoInfo, sound: str | Path | None = None) -> Iterator[Callable[[Frame], None]]:
    """Yield a function that appends a frame to an MP4 (H.264). The file is there once the block has ended well.

    Args:
        info: size, time base and colours of the frames. H.264 has no odd sizes: the last row or column
            of such frames is left out.
        sound: a video whose sound is added: copied unchanged, or, where players do not expect its format in an MP4,
            as AAC of one or two channels.

    Raises UserError if the file cannot be written.
    """
    av = _av()
    size = info.size[0] // 2 * 2, info.size[1] // 2 * 2
    options = {"movflags": "+faststart"}  # the index first: the video can be watched while it is fetched
    with (
        atomic_path(path) as temporary,
        _user_errors(Path(path), "cannot be written"),
        av.open(str(temporary), "w", container_options=options) as output,
    ):
        stream = output.add_stream("libx264", rate=info.rate, options=dict(QUALITY))
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.sample_aspect_ratio = info.aspect
        stream.time_base = stream.codec_context.time_base = info.time_base
        stream.codec_context.colorspace, stream.codec_context.color_range = info.matrix, 1
        stream.codec_context.color_primaries, stream.codec_context.color_trc = info.primaries, info.transfer
        with _Sound(sound, output) as track:

            def write(frame: Frame) -> None:
                pixels = np.ascontiguousarray(np.asarray(frame.image.convert("RGB"))[: size[1], : size[0]])
                encoded = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(
                    format="yuv420p", dst_colorspace=converter(info.matrix), dst_color_range=1,
                    interpolation=SCALING,
                )  # fmt: skip
                encoded.pts, encoded.duration, encoded.time_base = frame.pts, frame.duration, info.time_base
                output.mux(stream.encode(encoded))
                track.copy(float(frame.pts * info.time_base))

            yield write
            output.mux(stream.encode(None))
            track.copy()


def save_mp4(images: Sequence[Image.Image], path: str | Path, fps: int) -> None:
    """Write images of one size as an MP4. Raises UserError."""
    size = images[0].size
    matrix = BT709 if size[1] >= HD else BT601
    with mp4_writer(path, VideoInfo(size, Fraction(fps), Fraction(1, fps), matrix=matrix)) as write:
        for number, image in enumerate(images):
            write(Frame(image, number, 1))


def save_gif(images: Sequence[Image.Image], path: str | Path, fps: int) -> None:
    """Write images of one size as an endless GIF, all in the same 256 colours. Raises UserError.

    A GIF counts in hundredths of a second, so `fps` is approximated.
    """
    shown = [image.resize((128, 128)) for image in images[:: max(len(images) // 8, 1)]]
    strip = Image.fromarray(np.concatenate([np.asarray(image.convert("RGB")) for image in shown], axis=1))
    palette = strip.quantize(256, Image.Quantize.MEDIANCUT)
    first, *others = (image.convert("RGB").quantize(palette=palette) for image in images)
    try:
        with atomic_path(path) as temporary:
            duration = 10 * max(round(100 / fps), 2)  # ms; browsers show less than two hundredths as ten
            first.save(temporary, save_all=True, append_images=others, duration=duration, loop=0, disposal=1)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be written ({error}); choose another place") from error


class _Sound:
    """Copies the sound of the video `source` into `output`; None is silence."""

    def __init__(self, source: str | Path | None, output: Any) -> None:
        self._source, self._output = source, output

    def __enter__(self) -> "_Sound":
        self._container = _input(Path(self._source)) if self._source else None
        streams = list(self._container.streams.audio) if self._container else []
        self._targets = {stream.index: self._target(stream) for stream in streams}
        self._packets = self._container.demux(*streams) if self._container and streams else iter(())
        self._next = next(self._packets, None)
        self._start = _start(self._container) if self._container else Fraction(0)
        return self

    def __exit__(self, *_: object) -> None:
        if self._container:
            self._container.close()

    def copy(self, until: float = float("inf")) -> None:
        """Copy the sound up to this second."""
        while self._next is not None:
            packet = self._next
            if packet.dts is not None and packet.dts * packet.time_base - self._start > until:
                return
            target, encode = self._targets[packet.stream.index]
            if encode:
                for frame in packet.decode():
                    if frame.pts is not None:
                        frame.pts -= round(self._start / frame.time_base)
                    self._output.mux(target.encode(frame))
                if packet.dts is None:  # the last one
                    self._output.mux(target.encode(None))
            elif packet.dts is not None:
                offset = round(self._start / packet.time_base)
                packet.pts = (packet.dts if packet.pts is None else packet.pts) - offset
                packet.dts, packet.stream = packet.dts - offset, target
                self._output.mux(packet)
            self._next = next(self._packets, None)

    def _target(self, stream: Any) -> tuple[Any, bool]:
        """The stream in the output, and whether it has to be encoded."""
        if stream.codec_context.codec.canonical_name in _MP4_SOUND:
            return self._output.add_stream_from_template(stream), False
        target = self._output.add_stream("aac", rate=_SOUND_RATE)
        target.layout = "mono" if stream.layout.nb_channels == 1 else "stereo"
        return target, True


def _av() -> Any:
    """PyAV. Raises UserError if it is not installed."""
    try:
        import av  # here, since few commands need it
    except ImportError as error:
        raise UserError(f"videos need PyAV ({error}); install it with: pip install -e '.[video]'") from None
    return av


def _input(path: Path) -> Any:
    if not path.is_file():
        raise UserError(f"{path}: does not exist or is not a file; give the path of a video")
    with _user_errors(path, "is not a video that can be read"):
        # Playlists may name other files, but nothing in the network.
        options = {"protocol_whitelist": "file"}
        return _av().open(str(path.absolute()), container_options=options, metadata_errors="ignore")


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    with _input(path) as container:
        yield container


@contextmanager
def _user_errors(path: Path, what: str) -> Iterator[None]:
    """Turn FFmpeg's errors into UserError."""
    av = _av()
    try:
        yield
    except (av.FFmpegError, OSError) as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise UserError(f"{path}: {what} ({reason})") from error


def _video_stream(path: Path, container: Any) -> Any:
    """The video stream."""
    if container.format.name.endswith(_STILL_FORMATS):
        raise UserError(f"{path}: is an image, not a video; give it as --orig_img_pth")
    covers = _av().stream.Disposition.attached_pic
    for stream in container.streams.video:
        if not stream.disposition & covers:  # the cover of a song
            _check_size(path, stream.width, stream.height)
            return stream
    raise UserError(f"{path}: has no video stream; give a video")


def _rate(stream: Any) -> Fraction:
    return stream.average_rate or stream.guessed_rate or Fraction(25)


def _start(container: Any) -> Fraction:
    """The time of the video's first frame in seconds: recordings of broadcasts do not begin at 0."""
    return Fraction(max(container.start_time or 0, 0), 1_000_000)


def _check_size(path: Path, width: int, height: int) -> None:
    if width * height > MAX_FRAME_PIXELS:
        raise UserError(
            f"{path}: has {width}×{height} pixels a frame; {MAX_FRAME_PIXELS / 1e6:.1f} megapixels are the limit, "
            "shrink the video first"
        )


def _upright(frame: Any, rgb: Any) -> Image.Image:
    """Rotated as a player would rotate `frame`: by quarter turns, counter-clockwise."""
    pixels = np.rot90(rgb.to_ndarray(), round(frame.rotation / 90) % 4)
    return Image.fromarray(np.ascontiguousarray(pixels))
