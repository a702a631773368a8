"""What colour a surface has in the light: skin and cloth, and hair."""

import numpy as np

from datasets.people import skin
from datasets.people.camera import EYE
from datasets.people.colours import GREY
from datasets.people.fields import Array, dot, noise, noise_tile, normalise, step
from datasets.people.head import head_model
from datasets.people.light import Light
from datasets.people.mesh import Mesh
from datasets.people.paint import Paint, paint_wear
from datasets.people.person import HAIRS, Person

_MAX_STEP = 0.01  # metres between neighbouring samples of one surface: more is an edge
_MAX_SLOPE = 1.2  # of relief


class Hits:
    """The samples of a picture (samples×samples) whose rays meet one mesh.

    chosen: N, which samples. points: N×3, metres. view: N×3 of length 1, from the camera.
    """

    def __init__(self, mesh: Mesh, chosen: Array, directions: Array, hit: dict[str, Array], samples: int) -> None:
        self.mesh, self.chosen, self.samples = mesh, chosen, samples
        self.points = EYE + directions[chosen] * hit["tfar"][chosen, None]
        self.view = normalise(directions[chosen])
        self._corners = mesh.faces[hit["primID"][chosen]]
        self._u, self._v = hit["u"][chosen, None], hit["v"][chosen, None]

    def at(self, values: Array) -> Array:
        """Values of the mesh's vertices V×C, interpolated: N×C."""
        a, b, c = (values[self._corners[:, k]] for k in range(3))
        return a * (1 - self._u - self._v) + b * self._u + c * self._v

    def first(self, values: Array) -> Array:
        """Values V of the first vertex of each hit's triangle, N."""
        return values[self._corners[:, 0]]


def shade(hits: Hits, person: Person, light: Light) -> tuple[Array, Array]:
    """Colours N×3 in linear light, and the share of each that details cover, N."""
    if hits.mesh.material in HAIRS:
        return _shade_hair(hits, person, light), np.zeros(len(hits.chosen), np.float32)
    normals = normalise(hits.at(hits.mesh.normals()))
    normals = np.where(dot(normals, hits.view)[:, None] > 0, -normals, normals)
    paint = _paint(hits, person)
    return _shade_surface(hits, normals, paint, light), paint.detail


def _paint(hits: Hits, person: Person) -> Paint:
    mesh = hits.mesh
    if mesh.material != "head":
        return paint_wear(mesh, hits.points if mesh.values is None else hits.at(mesh.values))
    model = head_model()
    return skin.paint_head(
        hits.at(model.template), hits.at(model.masks), hits.first(model.parts), model, person.factors, person.details,
        person.gaze.astype(np.float32),
    )  # fmt: skip


def _shade_surface(hits: Hits, normals: Array, paint: Paint, light: Light) -> Array:
    """Diffuse light that reddens where it scatters in skin, one highlight, and a sheen at grazing angles."""
    shading = _relief(normals, paint.height, hits)
    points = hits.points + paint.cover[:, None] * normals
    open_sky = light.openness(points, normals, hits.chosen, hits.samples)
    lit = light.shadow(points, normals, hits.chosen, hits.samples)
    cosine = shading @ light.direction
    wrap = np.array([0.42, 0.20, 0.12], np.float32) * paint.scatter[:, None]
    diffuse = np.clip((cosine[:, None] + wrap) / (1 + wrap), 0, 1) * (lit + (1 - lit) * 0.05 * paint.scatter)[:, None]
    up = 0.62 + 0.38 * shading[:, 2:3]
    # Light that skin throws back into folds is reddish.
    bounce = open_sky[:, None] ** (1 - 0.25 * paint.scatter[:, None] * np.array([1, 0.5, 0.35]))
    colour = paint.colour * (light.key * diffuse + light.sky * up * bounce)
    half = normalise(light.direction - hits.view)
    sharpness = paint.sharpness
    shine = np.clip(dot(shading, half), 0, 1) ** sharpness * paint.gloss * lit * (sharpness + 8) / 60
    facing = np.clip(-dot(shading, hits.view), 0, 1)
    rim = (1 - facing) ** 4 * (0.05 + 0.25 * paint.gloss) * open_sky
    shaded = colour + shine[:, None] * light.key * 0.55 + rim[:, None] * light.sky
    return shaded.astype(np.float32)


def _relief(normals: Array, height: Array, hits: Hits) -> Array:
    """Normals bent by the relief, from differences between neighbouring samples (M. Mikkelsen, 2010)."""
    if not height.any():
        return normals
    samples, chosen = hits.samples, hits.chosen
    grid: Array = np.full((samples * samples, 4), np.nan, np.float32)
    grid[chosen, :3], grid[chosen, 3] = hits.points, height
    grid = grid.reshape(samples, samples, 4)
    bent = []
    for axis in (1, 0):
        change = (np.roll(grid, -1, axis) - np.roll(grid, 1, axis)).reshape(-1, 4)[chosen] / 2
        far = ~np.isfinite(change[:, 3]) | (np.abs(change[:, :3]).max(axis=1) > _MAX_STEP)
        change[far] = 0
        bent.append(change)
    px, py = bent[0][:, :3], bent[1][:, :3]
    r1, r2 = np.cross(py, normals), np.cross(normals, px)
    area = dot(px, r1)
    scale = np.where(np.abs(area) > 1e-9, np.sign(area) / np.maximum(np.abs(area), 1e-9), 0)
    slope = (r1 * bent[0][:, 3:] + r2 * bent[1][:, 3:]) * scale[:, None]
    return normalise(normals - np.clip(slope, -_MAX_SLOPE, _MAX_SLOPE))


def _shade_hair(hits: Hits, person: Person, light: Light) -> Array:
    """Kajiya and Kay's model (1989): two highlights along the strand, shadow by the hair around."""
    mesh = hits.mesh
    assert mesh.values is not None  # ribbons have them
    values = hits.at(mesh.values)
    along, across, random, tangent = *values[:, :3].T, normalise(values[:, 3:])
    # A ribbon has no thickness: its normal is the head's, turned across the strand.
    centre = np.array([0.0, 0.07, 0.0], np.float32)
    outward = normalise(hits.points - centre)
    outward = normalise(outward - dot(outward, tangent)[:, None] * tangent * 0.7)
    # A ribbon is a lock of many hairs, side by side.
    single = noise(noise_tile(16, 8, 60, 0.15), random * 17 + across * 0.02, along * 0.15 + random)
    outward = normalise(outward + 0.22 * single[:, None] * np.cross(tangent, outward))
    colour = _hair_colour(mesh, person.factors.grey, along, random, single)
    # Seen from above the strands around: what they take from each other is the same everywhere.
    open_sky = 0.85 * light.openness(hits.points + 0.006 * outward, outward, hits.chosen, hits.samples)
    lit = light.shadow(hits.points + 0.010 * outward, outward, hits.chosen, hits.samples)
    cosine = np.clip((outward @ light.direction + 0.25) / 1.25, 0, 1)
    sine = np.sqrt(np.clip(1 - (tangent @ light.direction) ** 2, 0, 1))
    diffuse = (0.55 * cosine + 0.45 * sine * cosine) * (0.25 + 0.75 * lit)
    half = normalise(light.direction - hits.view)
    shines: Array = np.zeros((len(colour), 3), np.float32)
    # Light that hairs mirror is white and sharp; light that passed through them is soft and has their colour.
    for shift, power, strength, tint in ((-0.08, 60, 0.16, 0.0), (0.12, 16, 0.30, 1.0)):
        bent = normalise(tangent + (shift + 0.10 * (random[:, None] - 0.5)) * outward)
        shine = np.sqrt(np.clip(1 - dot(bent, half) ** 2, 0, 1)) ** power * strength * lit * np.clip(cosine * 1.5, 0, 1)
        shines += shine[:, None] * (np.full(3, 0.55, np.float32) * (1 - tint) + np.sqrt(colour) * tint * 0.8)
    sky = light.sky * (0.60 + 0.40 * outward[:, 2:3]) * (0.15 + 0.85 * open_sky[:, None])
    shines *= 0.5 * open_sky[:, None]
    return (colour * (light.key * diffuse[:, None] * 1.25 + sky * 1.1) + shines * light.key).astype(np.float32)


def _hair_colour(mesh: Mesh, share: float, along: Array, random: Array, single: Array) -> Array:
    """N×3: lighter towards the ends, no two strands alike, the share `share` of them grey."""
    grey = step(-0.3, 0.3, share * 1.6 - 0.3 - random + 0.15 * single)
    colour = mesh.colour * (0.76 + 0.30 * along + 0.16 * (random - 0.5) + 0.10 * single)[:, None]
    colour = colour + (GREY * (0.8 + 0.3 * random[:, None]) - colour) * grey[:, None] * 0.9
    return colour if mesh.material == "hair" else colour * np.array([1.1, 0.95, 0.85], np.float32)  # beards are redder
