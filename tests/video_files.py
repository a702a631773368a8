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
    """The pictures as a video with a tone of the same length.

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


def read_sound(path: Path) -> np.ndarray:
    """Channels×samples in [-1, 1]."""
    with av.open(str(path)) as video:
        parts = [frame.to_ndarray() for frame in video.decode(audio=0)]
    sound = np.concatenate(parts, axis=1)
    return sound / 32768 if sound.dtype == np.int16 else sound
