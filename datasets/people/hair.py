"""Hair of the head: strands that grow from fixed roots, lie on the head and fall."""

from dataclasses import dataclass

import numpy as np

from datasets.people.factors import Factors
from datasets.people.fields import Array, normalise, step
from datasets.people.head import EARS, HeadModel
from datasets.people.radial import CENTRE, RadialMap
from datasets.people.strands import Strands, along_surface, roots

ROOTS = 5500
CROWN = np.array([0.0, 0.13, 0.105], np.float32)  # where hair parts into all directions
_GRAVITY = np.array([0, 0.0, -1.0], np.float32)
_CUT_FRINGE = 0.25  # from this factor on, hair falls on the forehead and is cut above the brows
_COMBED_UP = 0.1  # metres: longer hair rises from the forehead, and covers the ears


def hairline(template: Array, hairline: float) -> Array:
    """Metres inside the hair's border (negative outside it) on template coordinates N×3."""
    x, y, z = np.abs(template[:, 0]), template[:, 1], template[:, 2]
    corners = max(hairline, 0) * 0.03 * np.exp(-np.square((x - 0.038) / 0.018)) - 0.006 * np.exp(-np.square(x / 0.02))
    front = 0.062 + 0.022 * hairline + corners
    # It falls from the temples to before the ears and to the nape.
    border = front - 0.10 * step(0.022, 0.060, y) - 0.055 * step(0.085, 0.12, y)
    burns = 0.016 * np.exp(-np.square((y - 0.058) / 0.010))
    return z - border + burns


def _on_scalp(centre: Array, masks: Array) -> Array:
    """Where any hair grows, with the lowest hairline."""
    return (hairline(centre, -0.3) > -0.004) & (masks[..., EARS].max(axis=1) < 0.3) & (centre[:, 2] > -0.075)


def strand_length(factors: Factors) -> float:
    """Metres of the longest strands."""
    return float(np.interp(factors.hair_length, [0, 0.03, 0.15, 0.4, 0.6, 1], [0, 0.006, 0.022, 0.07, 0.20, 0.40]))


@dataclass(frozen=True)
class _Growth:
    """What N strands of one head grow by."""

    factors: Factors
    longest: float  # metres
    surface: RadialMap
    root: Array  # N×3
    normal: Array  # N×3
    random: Array  # N×4
    border: Array  # N, metres inside the hair's border
    front: Array  # N, 1 above the forehead
    top: Array  # N, 1 on top of the head, 0 at its sides

    @property
    def falls_free(self) -> bool:
        """Whether hair is long enough to fall beside the face, and no fringe keeps it before."""
        return self.longest > _COMBED_UP and self.factors.fringe < 0.4


def scalp_hair(model: HeadModel, vertices: Array, normals: Array, factors: Factors) -> Strands | None:
    """Strands on the head that looks straight ahead (vertices and normals V×3); None for a bald one."""
    longest = strand_length(factors)
    if longest == 0:
        return None
    grown = roots(ROOTS, 1, _on_scalp)
    template = grown.at(model.template)
    border = hairline(template, factors.hairline)
    thin = 0.6 * max(factors.hairline, 0) * np.exp(-np.square((template - CROWN)[:, :2] / 0.05).sum(axis=1))
    kept = (border > 0.002 * (grown.random[:, 0] - 0.5)) & (grown.random[:, 1] > thin)
    grown, template, border = grown.where(kept), template[kept], border[kept]
    growth = _Growth(
        factors, longest, RadialMap(vertices, ears=longest > _COMBED_UP), grown.at(vertices),
        normalise(grown.at(normals)), grown.random, border,
        front=step(0.09, 0.0, template[:, 1]) * step(0.03, 0.08, template[:, 2]), top=step(0.0, 0.09, template[:, 2]),
    )  # fmt: skip
    lengths = _lengths(growth)
    line = _grown(growth, lengths, _combed(growth, template))
    if factors.curl > 0:
        line = _curled(line, lengths, grown.random, factors.curl)
    width = (0.0015 + 0.0011 * grown.random[:, 0]) * float(np.interp(longest, [0.02, 0.10], [0.75, 1.25]))
    return Strands(line.astype(np.float32), width, grown.random)


def _lengths(g: _Growth) -> Array:
    """N, metres. The fringe and the sides of short hair are shorter than the top."""
    chin = g.factors.hair_length >= 0.5
    short = 1 - 0.55 * (1 - g.top) * (not chin) - 0.35 * g.front * chin
    return g.longest * short * (1 - (0.25 + 0.35 * g.front) * g.random[:, 3])


def _combed(g: _Growth, template: Array) -> Array:
    """The directions in which strands leave the skin, N×3: from the crown on, by parting and fringe."""
    f = g.factors
    parting = template[:, 0] - 0.03 * f.hair_part
    side = np.sign(parting + 1e-4) * step(0.0, 0.012, np.abs(parting))
    flow = normalise(template - CROWN)
    flow[:, 1] += g.front * (0.4 - 1.3 * f.fringe + 1.2 * g.falls_free)
    flow[:, 0] += side * g.front * (0.9 - 0.6 * abs(f.fringe)) * (0.4 + 0.6 * (f.hair_length > 0.35))
    flow[:, 2] -= 0.5 * (1 - g.top)
    flow[:, 2] += 1.1 * g.front * g.falls_free
    flow += 0.12 * (g.random[:, 1:4] - 0.5)
    flow = along_surface(flow, g.normal)
    lift = float(np.interp(g.longest, [0.02, 0.05, 0.15], [0.5, 0.35, 0.15]))  # short hair stands
    return normalise(flow * (1 - 0.5 * lift) + g.normal * lift * (0.4 + f.hair_volume))


def _grown(g: _Growth, lengths: Array, direction: Array) -> Array:
    """Strands as lines N×(S+1)×3: segment by segment they leave the head, keep off face and skull, and fall."""
    length = g.longest
    segments = 4 if length < 0.03 else 6 if length < 0.1 else 10
    growth = 1.0 if length < 0.1 else 1.25  # long hair bends most near its root
    parts = growth ** np.arange(segments)
    ends = np.cumsum(parts) / parts.sum()
    volume = (0.003 + 0.015 * g.factors.hair_volume) * min(1.0, 0.3 + length / 0.08)
    layer = g.random[:, 2] ** 0.7
    edge = step(0.0, 0.02, g.border)
    offset = 0.0015 + volume * (0.3 + 0.7 * layer) * (0.35 + 0.65 * edge) * (0.55 + 0.45 * g.top)
    points = [g.root]
    for k in range(segments):
        p = points[-1] + (lengths * parts[k] / parts.sum())[:, None] * direction
        reach, radius = g.surface(p)
        low = reach + offset * min(1.0, (k + 1) * 3 / segments) * (1 - 0.6 * g.front * ends[k])
        p = p + normalise(p - CENTRE) * np.maximum(low - radius, 0)[:, None]
        p = _off_the_face(g, p, points[-1])
        new = normalise(p - points[-1])
        fall = step(0.015, 0.10, np.full(len(p), length * ends[k]))[:, None]
        # Hair keeps near the head and the neck.
        loose = step(0.0, 0.03, radius - low)[:, None] * fall * normalise(p - CENTRE)
        loose[:, 2] = 0
        upward = normalise(p - CENTRE)
        lying = step(0.012, 0.0, radius - low)[:, None] * (length > 0.05)
        new = new - lying * np.maximum((new * upward).sum(axis=1, keepdims=True), 0) * upward
        direction = normalise(new - 0.5 * loose + _GRAVITY * (0.12 + 0.9 * fall) * (0.5 + 0.3 * (1 - layer[:, None])))
        points.append(p)
    return np.stack(points, axis=1)


def _off_the_face(g: _Growth, p: Array, before: Array) -> Array:
    """Ends of segments N×3, none of them before the face below the brows; `before` N×3: where the segments began."""
    fringe = g.factors.fringe
    brow = 0.030 + 0.006 * (fringe < _CUT_FRINGE) * (g.longest > _COMBED_UP)
    ahead = step(0.06, 0.02, p[:, 1]) * step(brow + 0.02, brow, p[:, 2])
    half = 0.070 - 0.010 * max(fringe, 0) + 0.014 * (g.random[:, 1] - 0.3) - 0.008 * step(0.0, -0.07, p[:, 2])
    if fringe >= _CUT_FRINGE:
        cut = (ahead > 0.3) & (np.abs(p[:, 0]) < half)
        p = np.where(cut[:, None], before + 0.02 * (p - before), p)
    aside = np.maximum(half - np.abs(p[:, 0]), 0) * ahead * (fringe < _CUT_FRINGE)
    p[:, 0] += np.where(p[:, 0] >= 0, aside, -aside)
    return p


def _curled(line: Array, lengths: Array, random: Array, curl: float) -> Array:
    """Turn every strand round its path; locks of near strands turn together."""
    along = np.linspace(0, 1, line.shape[1])[None] * lengths[:, None]
    phase = 2 * np.pi * (along / (0.055 - 0.03 * curl)) + 2 * np.pi * np.floor(random[:, :1] * 7) / 7
    size = (0.010 * curl * step(0.0, 0.02, along))[..., None]
    axis = normalise(np.gradient(line, axis=1))
    across = normalise(np.cross(axis, [0.0, 0.0, 1.0]) + 1e-4)
    other = np.cross(axis, across)
    return line + size * (np.cos(phase)[..., None] * across + np.sin(phase)[..., None] * other)
