"""Short videos made by the real encoders, for tests."""

import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

SOUND_RATE = 16_000  # Hz


def write_video(
    path: Path, images: Sequence[Image.Image], rate: int = 8, sound: str | None = "aac", codec: str = "libx264",
    pts: Sequence[int] | None = None, turned: int = 0, late: int = 0,
) -> Path:  # fmt: skip
    """The images as a video with a tone of the same length.

    `pts`: times in 1/600 s, in place of even ones; `turned`: what a phone writes that was held sideways; `late`: the
    clock's seconds at the first frame.
    """
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream(codec, rate=rate)
        stream.width, stream.height = images[0].size
        stream.pix_fmt = "yuv420p" if codec == "libx264" else stream.pix_fmt
        stream.options = {"crf": "10", "preset": "ultrafast"} if codec == "libx264" else {}
        base = Fraction(1, 600)
        stream.time_base = stream.codec_context.time_base = base
        if turned:
            stream.set_display_rotation(turned)
        track: Any = output.add_stream(sound, rate=SOUND_RATE) if sound else None
        if track:
            track.layout = "mono"
        for number, image in enumerate(images):
            frame: Any = av.VideoFrame.from_image(image)
            frame.pts = 600 * late + (pts[number] if pts else 600 // rate * number)
            frame.time_base = base
            frame.duration = 600 // rate
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
        if track:
            time = np.arange(SOUND_RATE * len(images) // rate) / SOUND_RATE
            wave = (10_000 * np.sin(2 * math.pi * 440 * time)).astype(np.int16)
            for start in range(0, len(wave), 1000):
                part = np.ascontiguousarray(wave[None, start : start + 1000])
                heard: Any = av.AudioFrame.from_ndarray(part, format="s16", layout="mono")
                heard.sample_rate, heard.time_base = SOUND_RATE, Fraction(1, SOUND_RATE)
                heard.pts = SOUND_RATE * late + start
                output.mux(track.encode(heard))
            output.mux(track.encode(None))
    return path


def write_hdr_video(path: Path, nits: np.ndarray, transfer: int, count: int = 4) -> Path:
    """`count` equal frames of H×W×3 linear light in BT.709's gamut, as phones write HDR: BT.2020, 10 bits.

    `transfer`: FFmpeg's number, 16 for PQ, 18 for HLG (1000 nits are its white).
    """
    to_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
    light = nits @ to_2020.T
    rgb = _pq(light) if transfer == 16 else _hlg(light)
    y = rgb @ (0.2627, 0.6780, 0.0593)
    blue, red = (rgb[..., 2] - y) / 1.8814, (rgb[..., 0] - y) / 1.4746
    planes = [64 + 876 * y, 512 + 896 * blue[::2, ::2], 512 + 896 * red[::2, ::2]]
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream("libx265", rate=8)
        stream.width, stream.height, stream.pix_fmt = nits.shape[1], nits.shape[0], "yuv420p10le"
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = 9, 9, transfer, 1
        name = {16: "smpte2084", 18: "arib-std-b67"}[transfer]
        colours = f"colorprim=bt2020:transfer={name}:colormatrix=bt2020nc"
        stream.options = {"x265-params": f"log-level=error:{colours}", "crf": "4", "preset": "ultrafast"}
        for number in range(count):
            frame: Any = av.VideoFrame(nits.shape[1], nits.shape[0], "yuv420p10le")
            for plane, values in zip(frame.planes, planes, strict=True):
                rows = np.zeros((plane.height, plane.line_size // 2), "<u2")
                rows[:, : values.shape[1]] = values.round().clip(0, 1023)
                plane.update(rows.tobytes())
            frame.pts, frame.time_base = number, Fraction(1, 8)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def _pq(nits: np.ndarray) -> np.ndarray:
    """SMPTE ST 2084."""
    power = (nits / 10_000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


def _hlg(nits: np.ndarray) -> np.ndarray:
    """ARIB STD-B67, with its system gamma of 1.2 on a display of 1000 nits."""
    light = nits / 1000
    luminance = light @ (0.2627, 0.6780, 0.0593)
    scene = light * np.maximum(luminance, 1e-6)[..., None] ** (1 / 1.2 - 1)
    return np.where(
        scene <= 1 / 12, np.sqrt(3 * scene), 0.17883277 * np.log(12 * scene.clip(0.05) - 0.28466892) + 0.55991073
    )


def read_sound(path: Path) -> np.ndarray:
    """Channels×samples in [-1, 1]."""
    with av.open(str(path)) as video:
        parts = [frame.to_ndarray() for frame in video.decode(audio=0)]
    sound = np.concatenate(parts, axis=1)
    return sound / 32768 if sound.dtype == np.int16 else sound
