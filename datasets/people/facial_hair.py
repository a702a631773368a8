"""Beards and brows."""

import numpy as np

from datasets.people.factors import Factors
from datasets.people.fields import Array, normalise, step
from datasets.people.head import LIPS, HeadModel
from datasets.people.strands import Strands, along_surface, roots


def beard_area(template: Array, masks: Array) -> Array:
    """Where beards grow, 0 to 1, on template coordinates N×3 with masks N×5."""
    x, y, z = np.abs(template[:, 0]), template[:, 1], template[:, 2]
    upper = -0.044 - 0.022 * step(0.02, 0.058, x) + 0.050 * step(0.054, 0.068, x)
    area = step(upper + 0.005, upper - 0.009, z) * step(-0.135, -0.115, z) * step(0.078, 0.035, y)
    philtrum = step(-0.050, -0.054, z)
    return area * philtrum * (1 - np.clip(masks[:, LIPS] * 2, 0, 1))


def beard_share(template: Array, factors: Factors) -> Array:
    """The share of the beard's area that this beard covers: moustache, chin, cheeks; N in [0, 1]."""
    x, z = np.abs(template[:, 0]), template[:, 2]
    moustache = step(-0.072, -0.066, z) * step(0.034, 0.026, x)
    chin = step(0.032, 0.022, x) * (1 - moustache)
    cheeks = (1 - moustache) * (1 - chin)
    return moustache * factors.moustache + chin + cheeks * step(0.2, 0.6, np.full(len(x), factors.beard_cheeks))


def _on_beard(centre: Array, masks: Array) -> Array:
    return beard_area(centre, masks.mean(axis=1)) > 0.05


def beard_hair(model: HeadModel, vertices: Array, normals: Array, factors: Factors) -> Strands | None:
    """Strands of a beard that is longer than stubble; else None."""
    if factors.beard < 0.25:
        return None
    grown = roots(2600, 2, _on_beard)
    template = grown.at(model.template)
    kept = grown.random[:, 0] < beard_area(template, grown.at(model.masks)) * beard_share(template, factors)
    grown, template = grown.where(kept), template[kept]
    root, normal, random = grown.at(vertices), normalise(grown.at(normals)), grown.random
    moustache = step(-0.072, -0.066, template[:, 2])
    length = (factors.beard - 0.2) * 0.035 * (1 - 0.6 * moustache) * (0.6 + 0.4 * random[:, 3])
    # Down and a little ahead; a moustache runs outwards, too.
    outwards = np.stack([np.sign(template[:, 0]) * 0.7 * moustache, 0 * moustache, 0 * moustache], 1)
    down = np.array([0, -0.15, -1.0]) + outwards + 0.5 * (random[:, 1:4] - 0.5)
    direction = normalise(normal * 0.45 + along_surface(down, normal))
    points = [root]
    for _ in range(4):  # segments, which bend down
        points.append(points[-1] + direction * (length / 4)[:, None])
        direction = normalise(direction + np.array([0, 0, -0.25]))
    return Strands(np.stack(points, axis=1).astype(np.float32), 0.0008 + 0.0005 * random[:, 0], random)


def brow_shape(t: Array, factors: Factors) -> Array:
    """Where brows are, 0 to 1, on template coordinates N×3."""
    x, z = np.abs(t[:, 0]), t[:, 2]
    along = np.clip((x - 0.012) / 0.046, 0, 1)
    arch = 0.0195 + 0.0012 * factors.brow_height + 0.0065 * np.sin(np.pi * np.clip(along * 0.85, 0, 1)) - 0.002 * along
    outer, inner = 1 - 0.62 * step(0.45, 1.0, along), 0.75 + 0.25 * step(0.0, 0.15, along)
    width = (0.0026 + 0.0036 * factors.brow_thickness) * outer * inner
    ends = step(0.009, 0.015, x) * step(0.062, 0.050, x) * step(0.04, 0.0, t[:, 1])
    return step(1.25, 0.55, np.abs(z - arch) / width) * ends


def _near_brows(centre: Array, masks: Array) -> Array:
    x, z = np.abs(centre[:, 0]), centre[:, 2]
    return (x > 0.006) & (x < 0.066) & (z > 0.008) & (z < 0.038) & (centre[:, 1] < 0.04)


def brow_hair(model: HeadModel, vertices: Array, normals: Array, factors: Factors) -> Strands:
    """The brows: short hairs that run outwards, steeper near the nose."""
    grown = roots(2200, 3, _near_brows)
    template = grown.at(model.template)
    kept = grown.random[:, 0] < 0.9 * brow_shape(template, factors)
    grown, template = grown.where(kept), template[kept]
    root, normal, random = grown.at(vertices), normalise(grown.at(normals)), grown.random
    along = np.clip((np.abs(template[:, 0]) - 0.012) / 0.046, 0, 1)
    side = np.sign(template[:, 0])
    flow = np.stack([side * (0.35 + 0.8 * along), 0 * along, 1.0 - 1.5 * along], axis=1) + 0.4 * (random[:, 1:4] - 0.5)
    flow = along_surface(flow, normal)
    length = (0.0045 + 0.003 * random[:, 3])[:, None]
    points = [root + length * at * (flow + normal * (0.22 - 0.15 * at)) for at in (0.0, 0.5, 1.0)]
    return Strands(np.stack(points, axis=1).astype(np.float32), 0.0005 + 0.0003 * random[:, 0], random)
