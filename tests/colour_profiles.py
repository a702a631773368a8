"""ICC profiles written by hand (ICC.1:2001-04), and what they mean in numbers."""

import struct

import numpy as np

# Colorants adapted to D50, as columns for red, green and blue.
P3 = np.array([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])
SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
D50 = (0.9642, 1.0, 0.8249)


def matrix_profile(colorants: np.ndarray, gamma: float, padding: int = 0) -> bytes:
    """A display's profile; `padding` bytes of text make it large."""
    tags = {name: _xyz(colorants[:, i]) for i, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    tags |= {name: _gamma(gamma) for name in (b"rTRC", b"gTRC", b"bTRC")}
    return _profile(b"RGB ", {**tags, b"cprt": b"text" + bytes(4) + b"x" * padding + b"\0"})


def grey_profile(gamma: float) -> bytes:
    return _profile(b"GRAY", {b"kTRC": _gamma(gamma)})


def to_srgb(pixels: np.ndarray, colorants: np.ndarray, gamma: float) -> np.ndarray:
    """H×W×3 from 0 to 255 of `matrix_profile` as sRGB, in floating point."""
    linear = (pixels / 255) ** gamma @ (np.linalg.inv(SRGB) @ colorants).T
    linear = linear.clip(0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def _profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    tags = {b"desc": b"desc" + bytes(4) + struct.pack(">I", 2) + b"x\0" + bytes(78), b"wtpt": _xyz(D50), **tags}
    table, data, start = b"", b"", 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        content += bytes(-len(content) % 4)
        table += struct.pack(">4sII", name, start + len(data), len(content))
        data += content
    head = struct.pack(">I4sI4s4s4s", start + len(data), bytes(4), 0x02100000, b"mntr", space, b"XYZ ")
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", *(round(v * 65536) for v in D50))
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + data


def _xyz(values: np.ndarray | tuple[float, ...]) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(float(v) * 65536) for v in values))


def _gamma(value: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(value * 256)) + bytes(2)
