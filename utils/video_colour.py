"""Colours of videos: frames of any colour space to RGB, in the brightness and the gamut of BT.709."""

from typing import Any

HD = 720  # rows from which on players take an untagged video for BT.709
BT709, BT601, UNKNOWN = 1, 6, 2  # FFmpeg's numbers of colour matrices, primaries and transfer functions
_MATRICES = (1, 4, 5, 6, 7, 9)  # those that the converter knows
HDR = {16: "PQ", 18: "HLG"}  # transfer functions whose brightness goes beyond that of BT.709
_WIDE = (9, 11, 12)  # primaries of BT.2020 and P3
_TO_BT709 = (  # FFmpeg's own conversion of colours; `perceptual` maps tones instead of clipping them
    "{}:{}:flags=bicubic+full_chroma_int+full_chroma_inp+accurate_rnd:"
    "out_primaries=bt709:out_transfer=bt709:out_range=pc:intent=perceptual"
)
SCALING = 0x4 | 0x2000 | 0x4000 | 0x40000  # the converter's flags: bicubic, colours at full width, exact rounding


class ToRGB:
    """Scales frames of one stream and turns them into RGB of 8 bits."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._key: tuple[Any, ...] = ()  # of the frames that the graph is for
        self._graph: Any = None

    def __call__(self, frame: Any, size: tuple[int, int]) -> Any:
        if not is_wide(frame):
            return frame.reformat(
                *size, format="rgb24", src_colorspace=converter(matrix_of(frame)), interpolation=SCALING
            )
        key = (frame.width, frame.height, frame.format.name, size)
        if key != self._key:
            self._key, self._graph = key, self._made(frame, size)
        self._graph.push(frame)
        return self._graph.pull()

    def _made(self, frame: Any, size: tuple[int, int]) -> Any:
        from av.filter import Graph  # here, since few commands need it

        graph = Graph()
        source = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=self._stream.time_base
        )
        graph.link_nodes(
            source, graph.add("scale", _TO_BT709.format(*size)), graph.add("format", "rgb24"), graph.add("buffersink")
        ).configure()
        return graph


def is_wide(frame: Any) -> bool:
    """Whether the frame's colours or brightness go beyond BT.709."""
    return frame.color_trc in HDR or frame.color_primaries in _WIDE


def matrix_of(frame: Any) -> int:
    """FFmpeg's number of the matrix between the frame's YUV and RGB."""
    if frame.colorspace in _MATRICES:
        return int(frame.colorspace)
    return BT709 if frame.height >= HD else BT601


def converter(matrix: int) -> int:
    """The converter's number of a matrix: FFmpeg's, except for one of two numbers of BT.601."""
    return 5 if matrix == BT601 else matrix
