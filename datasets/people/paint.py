"""What light meets at points of a surface, and the paint of things that people wear."""

from dataclasses import dataclass

import numpy as np

from datasets.people.fields import Array, noise, noise_tile, step
from datasets.people.mesh import Mesh


@dataclass
class Paint:
    """The surface at N points; float32."""

    colour: Array  # N×3, linear light
    gloss: Array  # N, strength of the highlight
    sharpness: Array  # N, exponent of the highlight
    height: Array  # N, metres of relief, for shading only
    scatter: Array  # N, 1 where light spreads below the surface
    detail: Array  # N, 1 where a detail covers it
    cover: Array  # N, metres of hair above it


def mix(base: Array, colour: Array, share: Array) -> Array:
    """From `base` N×3 to `colour` by the share, N in [0, 1]."""
    return base + (colour - base) * share[:, None]


def plain(colour: Array, gloss: float, sharpness: float, height: Array | None = None, scatter: float = 0) -> Paint:
    """Paint that is alike at all points of `colour` N×3."""
    flat = np.zeros(len(colour), np.float32)
    height = flat if height is None else height.astype(np.float32)
    return Paint(colour.astype(np.float32), flat + gloss, flat + sharpness, height, flat + scatter, flat, flat)


def paint_wear(mesh: Mesh, values: Array) -> Paint:
    """Paint of a mesh that is neither head nor hair, at points with interpolated `values` N×C."""
    colour: Array = np.broadcast_to(mesh.colour, (len(values), 3)).astype(np.float32)
    return _WEAR[mesh.material](colour, values)


def _teeth(colour: Array, values: Array) -> Paint:
    """values: angle along the arch, radians, and 0 at the gums to 1."""
    gap = np.abs((values[:, 0] * 7.2) % 1 - 0.5) * 2
    colour = colour * (1 - 0.35 * step(0.86, 1.0, gap) - 0.35 * step(0.35, 0.0, values[:, 1]))[:, None]
    colour = colour * (1 - 0.55 * step(0.45, 1.1, np.abs(values[:, 0])))[:, None]
    return plain(colour, 0.5, 60, scatter=0.5)


def _frame(colour: Array, values: Array) -> Paint:
    return plain(colour, 0.7, 50)


def _knit(colour: Array, values: Array) -> Paint:
    """values: turns round the head, and 0 at the edge to 1 at the top."""
    rib = np.sin(values[:, 0] * 2 * np.pi * 46)
    fold = step(0.24, 0.26, values[:, 1]) * step(0.30, 0.28, values[:, 1])
    wool = noise(noise_tile(13, 40, 120), values[:, 0] * 6, values[:, 1] * 2)
    colour = colour * (1 + 0.10 * rib - 0.35 * fold)[:, None] * (1 + 0.05 * wool)[:, None]
    return plain(colour, 0.02, 8, 0.0010 * rib)


def _cap(colour: Array, values: Array) -> Paint:
    """values: turns round the head, and 0 at the edge to 1 at the top; -1 on the peak, which has no seams."""
    seams = np.abs((values[:, 0] * 6) % 1 - 0.5) * 2
    stitched = step(0.965, 1.0, seams) * (values[:, 1] >= 0)
    weave = noise(noise_tile(14, 80, 200), values[:, 0] * 6, values[:, 1] * 2)
    colour = colour * (1 - 0.25 * stitched)[:, None] * (1 + 0.03 * weave)[:, None]
    return plain(colour, 0.05, 12, -0.0006 * stitched)


_WEAR = {"teeth": _teeth, "frame": _frame, "knit": _knit, "cap": _cap}
