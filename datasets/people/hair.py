"""Hair as strands: thin ribbons that grow from fixed roots, lie on the head and fall."""

from dataclasses import dataclass
from functools import cache

import numpy as np

from datasets.people.factors import Factors
from datasets.people.fields import Array, normalise, step
from datasets.people.head import HeadModel, head_model
from datasets.people.mesh import Faces, grid_faces

ROOTS = 5500
CENTRE = np.array([0.0, 0.07, 0.03], np.float32)  # of the skull, from the point between the eyes
CROWN = np.array([0.0, 0.13, 0.105], np.float32)  # where hair parts into all directions
_BINS = (48, 32)  # of the radial map: azimuth, height


@dataclass(frozen=True)
class Strands:
    """N strands of S + 1 points."""

    points: Array  # N×(S+1)×3
    width: Array  # N, metres
    random: Array  # N×4, uniform numbers of each strand


def hairline(template: Array, hairline: float) -> Array:
    """Metres inside the hair's border (negative outside it) on template coordinates N×3."""
    x, y, z = np.abs(template[:, 0]), template[:, 1], template[:, 2]
    corners = max(hairline, 0) * 0.03 * np.exp(-np.square((x - 0.038) / 0.018)) - 0.006 * np.exp(-np.square(x / 0.02))
    front = 0.062 + 0.022 * hairline + corners
    # It falls from the temples to before the ears and to the nape.
    border = front - 0.10 * step(0.022, 0.060, y) - 0.055 * step(0.085, 0.12, y)
    burns = 0.016 * np.exp(-np.square((y - 0.058) / 0.010))
    return z - border + burns


class RadialMap:
    """How far the head's surface lies from CENTRE in every direction."""

    def __init__(self, vertices: Array, ears: bool = True) -> None:
        """vertices V×3 of the head model; without `ears` the map runs below them."""
        used = vertices[:, 2] > -0.12
        if not ears:
            used &= head_model().masks[:, 2] < 0.2
        azimuth, height, radius = self._spherical(vertices[used])
        grid = np.zeros(_BINS, np.float32)
        i = (azimuth * _BINS[0]).astype(int) % _BINS[0]
        j = np.clip((height * _BINS[1]).astype(int), 0, _BINS[1] - 1)
        np.maximum.at(grid, (i, j), radius)
        for _ in range(_BINS[1]):  # directions without a vertex take their neighbours'
            empty = grid == 0
            if not empty.any():
                break
            near = np.stack([np.roll(grid, 1, 0), np.roll(grid, -1, 0), np.pad(grid, ((0, 0), (1, 0)))[:, :-1],
                             np.pad(grid, ((0, 0), (0, 1)))[:, 1:]])  # fmt: skip
            grid = np.where(empty, near.max(axis=0), grid)
        self.grid = grid

    @staticmethod
    def _spherical(points: Array) -> tuple[Array, Array, Array]:
        local = points - CENTRE
        radius = np.linalg.norm(local, axis=-1)
        azimuth = np.arctan2(local[..., 0], -local[..., 1]) / (2 * np.pi) % 1
        return azimuth, np.arccos(np.clip(local[..., 2] / np.maximum(radius, 1e-6), -1, 1)) / np.pi, radius

    def __call__(self, points: Array) -> tuple[Array, Array]:
        """Radius of the surface in the points' directions, and the points' own, of points ...×3."""
        azimuth, height, radius = self._spherical(points)
        x, y = azimuth * _BINS[0] - 0.5, np.clip(height * _BINS[1] - 0.5, 0, _BINS[1] - 1.001)
        x0, y0 = np.floor(x).astype(int), y.astype(int)
        a, b = x - x0, y - y0
        x0, x1 = x0 % _BINS[0], (x0 + 1) % _BINS[0]
        grid = self.grid
        surface = (grid[x0, y0] * (1 - a) + grid[x1, y0] * a) * (1 - b)
        return surface + (grid[x0, y0 + 1] * (1 - a) + grid[x1, y0 + 1] * a) * b, radius


@cache
def _roots(count: int, seed: int, region: str) -> tuple[Array, Array, Array]:
    """Fixed faces' corners (N×3), barycentric weights (N×3) and random numbers (N×4) of strands."""
    model = head_model()
    corners = model.template[model.faces]
    centre = corners.mean(axis=1)
    if region == "scalp":
        inside = (hairline(centre, -0.3) > -0.004) & (model.masks[model.faces, 2].max(axis=1) < 0.3)
        inside &= centre[:, 2] > -0.075
    elif region == "brow":
        x, z = np.abs(centre[:, 0]), centre[:, 2]
        inside = (x > 0.006) & (x < 0.066) & (z > 0.008) & (z < 0.038) & (centre[:, 1] < 0.04)
    else:
        inside = beard_area(centre, model.masks[model.faces].mean(axis=1)) > 0.05
    inside &= (model.parts[model.faces] == 0).all(axis=1)
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) * inside
    rng = np.random.default_rng(seed)
    chosen = np.searchsorted(np.cumsum(area) / area.sum(), (np.arange(count) + rng.random(count)) / count)
    chosen = np.minimum(chosen, len(area) - 1)
    u = rng.random((count, 2))
    u = np.where(u.sum(axis=1, keepdims=True) > 1, 1 - u, u)
    weights = np.concatenate([1 - u.sum(axis=1, keepdims=True), u], axis=1)
    return model.faces[chosen], weights.astype(np.float32), rng.random((count, 4)).astype(np.float32)


def _at(values: Array, corners: Faces, weights: Array) -> Array:
    return np.einsum("nk,nkc->nc", weights, values[corners])


def strand_length(factors: Factors) -> float:
    """Metres of the longest strands."""
    return float(np.interp(factors.hair_length, [0, 0.03, 0.15, 0.4, 0.6, 1], [0, 0.006, 0.022, 0.07, 0.20, 0.40]))


def scalp_hair(model: HeadModel, vertices: Array, normals: Array, factors: Factors) -> Strands | None:
    """Strands on the head that looks straight ahead (vertices and normals V×3); None for a bald one."""
    length = strand_length(factors)
    if length == 0:
        return None
    corners, weights, random = _roots(ROOTS, 1, "scalp")
    template = _at(model.template, corners, weights)
    border = hairline(template, factors.hairline)
    thin = 0.6 * max(factors.hairline, 0) * np.exp(-np.square((template - CROWN)[:, :2] / 0.05).sum(axis=1))
    kept = (border > 0.002 * (random[:, 0] - 0.5)) & (random[:, 1] > thin)
    corners, weights, random, template, border = (a[kept] for a in (corners, weights, random, template, border))
    root, normal = _at(vertices, corners, weights), normalise(_at(normals, corners, weights))

    x, y, z = template.T
    away = normalise(template - CROWN)
    side = np.sign(x - 0.03 * factors.hair_part + 1e-4) * step(0.0, 0.012, np.abs(x - 0.03 * factors.hair_part))
    front = step(0.09, 0.0, y) * step(0.03, 0.08, z)
    top = step(0.0, 0.09, z)
    flow = away.copy()
    flow[:, 1] += front * (0.4 - 1.3 * factors.fringe + 1.2 * (length > 0.1) * (factors.fringe < 0.4))
    flow[:, 0] += side * front * (0.9 - 0.6 * abs(factors.fringe)) * (0.4 + 0.6 * (factors.hair_length > 0.35))
    flow[:, 2] -= 0.5 * (1 - top)
    flow[:, 2] += 1.1 * front * (length > 0.1) * (factors.fringe < 0.4)
    flow += 0.25 * (random[:, 1:4] - 0.5)
    flow -= (flow * normal).sum(axis=1, keepdims=True) * normal
    flow = normalise(flow)

    volume = (0.003 + 0.015 * factors.hair_volume) * min(1.0, 0.3 + length / 0.08)
    layer = random[:, 2] ** 0.7
    # The fringe and the sides of short hair are shorter than the top.
    short = 1 - 0.55 * (1 - top) * (factors.hair_length < 0.5) - 0.35 * front * (factors.hair_length >= 0.5)
    lengths = length * short * (1 - (0.25 + 0.35 * front) * random[:, 3])
    lift = float(np.interp(length, [0.02, 0.05, 0.15], [0.5, 0.35, 0.15]))
    direction = normalise(flow * (1 - 0.5 * lift) + normal * lift * (0.4 + factors.hair_volume))
    segments = 4 if length < 0.03 else 6 if length < 0.1 else 10
    growth = 1.0 if length < 0.1 else 1.25  # long hair bends most near its root
    parts = growth ** np.arange(segments)
    ends = np.cumsum(parts) / parts.sum()
    edge = step(0.0, 0.02, border)
    offset = 0.0015 + volume * (0.3 + 0.7 * layer) * (0.35 + 0.65 * edge) * (0.55 + 0.45 * top)
    surface = RadialMap(vertices, ears=length > 0.1)
    points = [root]
    gravity = np.array([0, 0.0, -1.0], np.float32)
    face_half = 0.070 - 0.010 * max(factors.fringe, 0)
    for k in range(segments):
        p = points[-1] + (lengths * parts[k] / parts.sum())[:, None] * direction
        reach, radius = surface(p)
        low = reach + offset * min(1.0, (k + 1) * 3 / segments) * (1 - 0.6 * front * ends[k])
        out = np.maximum(low - radius, 0)
        p = p + normalise(p - CENTRE) * out[:, None]
        # No strand hangs before the face below the brows.
        brow = 0.030 + 0.006 * (factors.fringe < 0.25) * (length > 0.1)
        ahead = step(0.06, 0.02, p[:, 1]) * step(brow + 0.02, brow, p[:, 2])
        half = face_half + 0.014 * (random[:, 1] - 0.3) - 0.008 * step(0.0, -0.07, p[:, 2])
        if factors.fringe >= 0.25:  # a fringe is cut above the brows
            p = np.where(((ahead > 0.3) & (np.abs(p[:, 0]) < half))[:, None], points[-1] + 0.02 * (p - points[-1]), p)
        aside = np.maximum(half - np.abs(p[:, 0]), 0) * ahead * (factors.fringe < 0.25)
        p[:, 0] += np.where(p[:, 0] >= 0, aside, -aside)
        fall = step(0.015, 0.10, np.full(len(p), length * ends[k]))[:, None]
        new = normalise(p - points[-1])
        # Hair keeps near the head and the neck.
        loose = step(0.0, 0.03, radius - low)[:, None] * fall * normalise(p - CENTRE)
        loose[:, 2] = 0
        upward = normalise(p - CENTRE)
        lying = step(0.012, 0.0, radius - low)[:, None] * (length > 0.05)
        new = new - lying * np.maximum((new * upward).sum(axis=1, keepdims=True), 0) * upward
        direction = normalise(new - 0.5 * loose + gravity * (0.12 + 0.9 * fall) * (0.5 + 0.3 * (1 - layer[:, None])))
        points.append(p)
    line = np.stack(points, axis=1)
    if factors.curl > 0:
        line = _curled(line, lengths, random, factors.curl)
    width = (0.0015 + 0.0011 * random[:, 0]) * float(np.interp(length, [0.02, 0.10], [0.75, 1.25]))
    return Strands(line.astype(np.float32), width, random)


def _curled(line: Array, lengths: Array, random: Array, curl: float) -> Array:
    """Turn every strand round its path; locks of near strands turn together."""
    along = np.linspace(0, 1, line.shape[1])[None] * lengths[:, None]
    phase = 2 * np.pi * (along / (0.055 - 0.03 * curl)) + 2 * np.pi * np.floor(random[:, :1] * 7) / 7
    size = (0.010 * curl * step(0.0, 0.02, along))[..., None]
    axis = normalise(np.gradient(line, axis=1))
    across = normalise(np.cross(axis, [0.0, 0.0, 1.0]) + 1e-4)
    other = np.cross(axis, across)
    return line + size * (np.cos(phase)[..., None] * across + np.sin(phase)[..., None] * other)


def beard_area(template: Array, masks: Array) -> Array:
    """Where beards grow, 0 to 1, on template coordinates N×3 with masks N×5."""
    x, y, z = np.abs(template[:, 0]), template[:, 1], template[:, 2]
    upper = -0.044 - 0.022 * step(0.02, 0.058, x) + 0.050 * step(0.054, 0.068, x)
    area = step(upper + 0.005, upper - 0.009, z) * step(-0.135, -0.115, z) * step(0.078, 0.035, y)
    philtrum = step(-0.050, -0.054, z)
    return area * philtrum * (1 - np.clip(masks[:, 0] * 2, 0, 1))


def beard_share(template: Array, factors: Factors) -> Array:
    """The share of the beard's area that this beard covers: moustache, chin, cheeks; N in [0, 1]."""
    x, z = np.abs(template[:, 0]), template[:, 2]
    moustache = step(-0.072, -0.066, z) * step(0.034, 0.026, x)
    chin = step(0.032, 0.022, x) * (1 - moustache)
    cheeks = (1 - moustache) * (1 - chin)
    return moustache * factors.moustache + chin + cheeks * step(0.2, 0.6, np.full(len(x), factors.beard_cheeks))


def beard_hair(model: HeadModel, vertices: Array, normals: Array, factors: Factors) -> Strands | None:
    """Strands of a beard that is longer than stubble; else None."""
    if factors.beard < 0.25:
        return None
    corners, weights, random = _roots(2600, 2, "beard")
    template = _at(model.template, corners, weights)
    masks = _at(model.masks, corners, weights)
    share = beard_area(template, masks) * beard_share(template, factors)
    kept = random[:, 0] < share
    corners, weights, random, template = (a[kept] for a in (corners, weights, random, template))
    root, normal = _at(vertices, corners, weights), normalise(_at(normals, corners, weights))
    moustache = step(-0.072, -0.066, template[:, 2])
    length = (factors.beard - 0.2) * 0.035 * (1 - 0.6 * moustache) * (0.6 + 0.4 * random[:, 3])
    down = np.array([0, -0.15, -1.0]) + np.stack(
        [np.sign(template[:, 0]) * 0.7 * moustache, 0 * moustache, 0 * moustache], 1
    )
    down = down + 0.5 * (random[:, 1:4] - 0.5)
    direction = normalise(normal * 0.45 + normalise(down - (down * normal).sum(axis=1, keepdims=True) * normal))
    points = [root]
    for _ in range(4):
        points.append(points[-1] + direction * (length / 4)[:, None])
        direction = normalise(direction + np.array([0, 0, -0.25]))
    return Strands(np.stack(points, axis=1).astype(np.float32), 0.0008 + 0.0005 * random[:, 0], random)


def brow_shape(t: Array, factors: Factors) -> Array:
    """Where brows are, 0 to 1, on template coordinates N×3."""
    x, z = np.abs(t[:, 0]), t[:, 2]
    along = np.clip((x - 0.012) / 0.046, 0, 1)
    arch = 0.0195 + 0.0012 * factors.brow_height + 0.0065 * np.sin(np.pi * np.clip(along * 0.85, 0, 1)) - 0.002 * along
    width = (
        (0.0026 + 0.0036 * factors.brow_thickness)
        * (1 - 0.62 * step(0.45, 1.0, along))
        * (0.75 + 0.25 * step(0.0, 0.15, along))
    )
    ends = step(0.009, 0.015, x) * step(0.062, 0.050, x) * step(0.04, 0.0, t[:, 1])
    return step(1.25, 0.55, np.abs(z - arch) / width) * ends


def brow_hair(model: HeadModel, vertices: Array, normals: Array, factors: Factors) -> Strands:
    """The brows: short hairs that run outwards, steeper near the nose."""
    corners, weights, random = _roots(2200, 3, "brow")
    template = _at(model.template, corners, weights)
    kept = random[:, 0] < 0.9 * brow_shape(template, factors)
    corners, weights, random, template = (a[kept] for a in (corners, weights, random, template))
    root, normal = _at(vertices, corners, weights), normalise(_at(normals, corners, weights))
    along = np.clip((np.abs(template[:, 0]) - 0.012) / 0.046, 0, 1)
    side = np.sign(template[:, 0])
    flow = np.stack([side * (0.35 + 0.8 * along), 0 * along, 1.0 - 1.5 * along], axis=1) + 0.4 * (random[:, 1:4] - 0.5)
    flow = normalise(flow - (flow * normal).sum(axis=1, keepdims=True) * normal)
    length = (0.0045 + 0.003 * random[:, 3])[:, None]
    points = [root + length * at * (flow + normal * (0.22 - 0.15 * at)) for at in (0.0, 0.5, 1.0)]
    return Strands(np.stack(points, axis=1).astype(np.float32), 0.0005 + 0.0003 * random[:, 0], random)


def ribbons(strands: Strands, eye: Array) -> tuple[Array, Faces, Array]:
    """Strands as ribbons that face the point `eye`: vertices, triangles, values.

    The values, V×6: along the strand 0 to 1, across it 0 or 1, the strand's random number, its tangent.
    """
    line = strands.points
    count, steps = line.shape[:2]
    tangent = normalise(np.gradient(line, axis=1))
    across = normalise(np.cross(tangent, line - eye))
    along = np.linspace(0, 1, steps, dtype=np.float32)
    taper = strands.width[:, None] * (1 - 0.75 * along**3)[None] / 2
    sides = np.stack([line - across * taper[..., None], line + across * taper[..., None]], axis=2)  # N×S×2×3
    base = (np.arange(count, dtype=np.int32) * 2 * steps)[:, None, None]
    faces = (base + _ribbon_faces(steps)[None]).reshape(-1, 3)
    values = np.empty((count, steps, 2, 6), np.float32)
    values[..., 0] = along[None, :, None]
    values[..., 1] = (0.0, 1.0)
    values[..., 2] = strands.random[:, None, None, 3]
    values[..., 3:] = tangent[:, :, None]
    return sides.reshape(-1, 3).astype(np.float32), faces.astype(np.int32), values.reshape(-1, 6)


@cache
def _ribbon_faces(steps: int) -> Faces:
    """Triangles of one ribbon of `steps` pairs of points."""
    return grid_faces(steps, 2)
