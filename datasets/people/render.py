"""From a person to an image: one hit a ray, a key light with shadow, an open sky with occlusion."""

from dataclasses import dataclass

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
from numpy.typing import NDArray

from datasets.people import skin
from datasets.people.camera import EYE, Window
from datasets.people.fields import Array, dye, noise, noise_tile, normalise, step
from datasets.people.hair import ribbons
from datasets.people.head import head_model
from datasets.people.mesh import Mesh
from datasets.people.person import Person

SUPERSAMPLING = 2
_SKY_RAYS = 8  # a 2×2 block of samples looks into all of them
_CLOTH = 0.006  # clothes lie so far from the body


@dataclass(frozen=True)
class Picture:
    """size×size pixels, rows from the top."""

    rgb: NDArray[np.uint8]  # size×size×3
    person: Array  # size×size in [0, 1]: the share that is not backdrop
    face: Array  # size×size in [0, 1]: the share that is skin of head and neck, eyes and mouth
    details: Array  # size×size in [0, 1]: the share that details cover


def render(person: Person, window: Window, size: int) -> Picture:
    """The image of a window."""
    samples = size * SUPERSAMPLING
    factors = person.factors
    solid = [i for i, mesh in enumerate(person.meshes) if mesh.material != "lens"]
    meshes = [_dressed(person), *(person.meshes[i] for i in solid)]
    for name, strands in person.strands.items():
        vertices, faces, values = ribbons(strands, EYE)
        meshes.append(Mesh(vertices, faces, name, values, skin.hair_colour(factors)))
    places = [-1, *solid, *[len(person.meshes)] * len(person.strands)]
    scene = EmbreeScene()
    kept = [
        TriangleMesh(scene, np.ascontiguousarray(m.vertices, np.float32), np.ascontiguousarray(m.faces, np.int32))
        for m in meshes
    ]
    assert len(kept) == len(meshes)
    directions = window.rays(samples)
    origins = np.broadcast_to(EYE, directions.shape).copy()
    hit = scene.run(origins, directions, output=1)

    light = _Light(person, scene)
    image, detail = _backdrop(person, directions)
    owner = hit["geomID"].copy()
    owner[hit["primID"] < 0] = -1
    for number, mesh in enumerate(meshes):
        chosen = np.flatnonzero(owner == number)
        if len(chosen):
            image[chosen], detail[chosen] = _shade(mesh, number == 0, person, light, chosen, directions, hit, samples)
            if len(person.meshes) - person.extras <= places[number] < len(person.meshes):
                detail[chosen] = 1
    image = _lenses(image, person, light, origins, directions, np.where(owner >= 0, hit["tfar"], np.inf))

    skin_hits = np.zeros(len(owner), np.float32)
    chosen = np.flatnonzero(owner == 0)
    t = _interpolate(head_model().template, meshes[0], chosen, hit)
    skin_hits[chosen] = skin.collar(t, factors.neckline) > 0
    shares = np.stack([owner >= 0, skin_hits, detail], axis=1).astype(np.float32)
    image = _exposed(_downsampled(image, size))
    shares = _downsampled(shares, size)
    return Picture(np.round(image * 255).astype(np.uint8), shares[..., 0], shares[..., 1], shares[..., 2])


def _dressed(person: Person) -> Mesh:
    """The head's mesh with clothes pushed out."""
    head, t = person.head, head_model().template
    share = step(0.0002, -0.0022, skin.collar(t, person.factors.neckline))
    vertices = head.vertices + head.normals() * (share * _CLOTH)[:, None]
    return Mesh(vertices.astype(np.float32), head.faces, "head")


def _downsampled(values: Array, size: int) -> Array:
    k = SUPERSAMPLING
    return values.reshape(size, k, size, k, -1).mean(axis=(1, 3))


def _interpolate(values: Array, mesh: Mesh, chosen: Array, hit: dict[str, Array]) -> Array:
    corners = mesh.faces[hit["primID"][chosen]]
    u, v = hit["u"][chosen, None], hit["v"][chosen, None]
    return values[corners[:, 0]] * (1 - u - v) + values[corners[:, 1]] * u + values[corners[:, 2]] * v


class _Light:
    def __init__(self, person: Person, scene: EmbreeScene) -> None:
        f = person.factors
        azimuth, elevation = np.radians([f.light_azimuth, f.light_elevation])
        direction = [np.sin(azimuth) * np.cos(elevation), -np.cos(azimuth) * np.cos(elevation), np.sin(elevation)]
        self.direction = np.array(direction, np.float32)
        warm = 0.16 * f.light_warmth
        self.key = np.array([1 + warm, 1, 1 - 1.2 * warm], np.float32) * (1.25 + 1.05 * f.light_contrast)
        self.sky = np.array([1.0 - 0.4 * warm, 1.0, 1.0 + 0.4 * warm], np.float32) * (0.95 - 0.60 * f.light_contrast)
        self.scene = scene
        aside = normalise(np.cross(self.direction, np.array([0, 0, 1], np.float32)))
        above = np.cross(aside, self.direction)
        spread = 0.13 - 0.08 * f.light_contrast
        corners = np.array([(-1, -0.5), (0.5, -1), (-0.5, 1), (1, 0.5)], np.float32) * spread
        self.key_rays = normalise(self.direction + corners[:, :1] * aside + corners[:, 1:] * above).astype(np.float32)
        rng = np.random.default_rng(7)
        self.rays = normalise(rng.standard_normal((_SKY_RAYS, 3)).astype(np.float32))

    def shadow(self, points: Array, normals: Array, chosen: Array, samples: int) -> Array:
        """1 where the key light reaches, N; each of a 2×2 block of samples looks at a quarter of the light."""
        origins = (points + normals * 1.2e-3).astype(np.float32)
        towards = self.key_rays[_block(chosen, samples)]
        return (self.scene.run(origins, towards, query="OCCLUDED") < 0).astype(np.float32)

    def openness(self, points: Array, normals: Array, chosen: Array, samples: int) -> Array:
        """The share of the sky that is seen, N; each of a 2×2 block of samples looks into its own directions."""
        block = _block(chosen, samples)
        origins = (points + normals * 1.0e-3).astype(np.float32)
        total = np.zeros(len(points), np.float32)
        for k in range(_SKY_RAYS // 4):
            towards = normalise(normals * 1.02 + self.rays[(block + 4 * k) % _SKY_RAYS]).astype(np.float32)
            reach = np.full(len(points), 0.25, np.float32)
            total += self.scene.run(origins, towards, dists=reach, query="OCCLUDED") < 0
        return total / (_SKY_RAYS // 4)


def _block(chosen: Array, samples: int) -> Array:
    """Which of a 2×2 block of samples each is, 0 to 3."""
    return (chosen % samples % 2) + 2 * (chosen // samples % 2)


def _shade(mesh: Mesh, head: bool, person: Person, light: _Light, chosen: Array, directions: Array,
           hit: dict[str, Array], samples: int) -> tuple[Array, Array]:  # fmt: skip
    points = EYE + directions[chosen] * hit["tfar"][chosen, None]
    view = normalise(directions[chosen])
    if mesh.material in ("hair", "beard", "brows"):
        shaded = _shade_hair(mesh, person, light, chosen, points, view, hit, samples)
        return shaded, np.zeros(len(chosen), np.float32)
    normals = normalise(_interpolate(mesh.normals(), mesh, chosen, hit))
    normals = np.where((normals * view).sum(axis=1, keepdims=True) > 0, -normals, normals)
    if head:
        model = head_model()
        t = _interpolate(model.template, mesh, chosen, hit)
        masks = _interpolate(model.masks, mesh, chosen, hit)
        parts = model.parts[mesh.faces[hit["primID"][chosen], 0]]
        paint = skin.paint_head(t, masks, parts, model, person.factors, person.details, person.gaze.astype(np.float32))
    else:
        paint = _paint_wear(mesh, _interpolate(mesh.values, mesh, chosen, hit) if mesh.values is not None else points)
    shading = _relief(normals, points, paint.height, chosen, samples)
    open_sky = light.openness(points, normals, chosen, samples)
    lit = light.shadow(points, normals, chosen, samples)
    cosine = shading @ light.direction
    wrap = np.array([0.42, 0.20, 0.12], np.float32) * paint.scatter[:, None]
    diffuse = np.clip((cosine[:, None] + wrap) / (1 + wrap), 0, 1) * (lit + (1 - lit) * 0.05 * paint.scatter)[:, None]
    up = 0.62 + 0.38 * shading[:, 2:3]
    # Light that skin throws back into folds is reddish.
    bounce = open_sky[:, None] ** (1 - 0.25 * paint.scatter[:, None] * np.array([1, 0.5, 0.35]))
    colour = paint.colour * (light.key * diffuse + light.sky * up * bounce)
    half = normalise(light.direction - view)
    shine = (
        np.clip((shading * half).sum(axis=1), 0, 1) ** paint.sharpness * paint.gloss * lit * (paint.sharpness + 8) / 60
    )
    facing = np.clip(-(shading * view).sum(axis=1), 0, 1)
    rim = (1 - facing) ** 4 * (0.05 + 0.25 * paint.gloss) * open_sky
    shaded = colour + shine[:, None] * light.key * 0.55 + rim[:, None] * light.sky
    return shaded.astype(np.float32), paint.detail


def _relief(normals: Array, points: Array, height: Array, chosen: Array, samples: int) -> Array:
    """Normals bent by the relief, from differences between neighbouring samples (M. Mikkelsen, 2010)."""
    if not height.any():
        return normals
    grid: Array = np.full((samples * samples, 4), np.nan, np.float32)
    grid[chosen, :3], grid[chosen, 3] = points, height
    grid = grid.reshape(samples, samples, 4)
    bent = []
    for axis in (1, 0):
        change = (np.roll(grid, -1, axis) - np.roll(grid, 1, axis)).reshape(-1, 4)[chosen] / 2
        far = ~np.isfinite(change[:, 3]) | (np.abs(change[:, :3]).max(axis=1) > 0.01)
        change[far] = 0
        bent.append(change)
    px, py = bent[0][:, :3], bent[1][:, :3]
    r1, r2 = np.cross(py, normals), np.cross(normals, px)
    area = (px * r1).sum(axis=1)
    scale = np.where(np.abs(area) > 1e-9, np.sign(area) / np.maximum(np.abs(area), 1e-9), 0)
    slope = (r1 * bent[0][:, 3:] + r2 * bent[1][:, 3:]) * scale[:, None]
    return normalise(normals - np.clip(slope, -1.2, 1.2))


def _paint_wear(mesh: Mesh, values: Array) -> skin.Paint:
    count = len(values)
    flat = np.zeros(count, np.float32)
    colour: Array = np.broadcast_to(mesh.colour, (count, 3)).astype(np.float32)
    if mesh.material == "teeth":
        gap = np.abs((values[:, 0] * 7.2) % 1 - 0.5) * 2
        colour = colour * (1 - 0.35 * step(0.86, 1.0, gap) - 0.35 * step(0.35, 0.0, values[:, 1]))[:, None]
        colour = colour * (1 - 0.55 * step(0.45, 1.1, np.abs(values[:, 0])))[:, None]
        return skin.Paint(colour, flat + 0.5, flat + 60, flat, flat + 0.5, flat)
    if mesh.material == "frame":
        return skin.Paint(colour, flat + 0.7, flat + 50, flat, flat, flat)
    if mesh.material == "knit":
        rib = np.sin(values[:, 0] * 2 * np.pi * 46)
        fold = step(0.24, 0.26, values[:, 1]) * step(0.30, 0.28, values[:, 1])
        colour = (
            colour
            * (1 + 0.10 * rib - 0.35 * fold)[:, None]
            * (1 + 0.05 * noise(noise_tile(13, 40, 120), values[:, 0] * 6, values[:, 1] * 2))[:, None]
        )
        return skin.Paint(
            colour.astype(np.float32), flat + 0.02, flat + 8, (0.0010 * rib).astype(np.float32), flat, flat
        )
    seams = np.abs((values[:, 0] * 6) % 1 - 0.5) * 2
    stitched = step(0.965, 1.0, seams) * (values[:, 1] >= 0)
    colour = (
        colour
        * (1 - 0.25 * stitched)[:, None]
        * (1 + 0.03 * noise(noise_tile(14, 80, 200), values[:, 0] * 6, values[:, 1] * 2))[:, None]
    )
    return skin.Paint(
        colour.astype(np.float32), flat + 0.05, flat + 12, (-0.0006 * stitched).astype(np.float32), flat, flat
    )


def _shade_hair(mesh: Mesh, person: Person, light: _Light, chosen: Array, points: Array, view: Array,
                hit: dict[str, Array], samples: int) -> Array:  # fmt: skip
    """Kajiya and Kay's model (1989): two highlights along the strand, shadow by the hair around."""
    f = person.factors
    assert mesh.values is not None  # ribbons have them
    values = _interpolate(mesh.values, mesh, chosen, hit)
    along, across, random, tangent = *values[:, :3].T, normalise(values[:, 3:])
    centre = np.array([0.0, 0.07, 0.0], np.float32)
    outward = normalise(points - centre)
    outward = normalise(outward - (outward * tangent).sum(axis=1, keepdims=True) * tangent * 0.7)
    # A ribbon is a lock of many hairs, side by side.
    single = noise(noise_tile(16, 8, 60, 0.15), random * 17 + across * 0.02, along * 0.15 + random)
    outward = normalise(outward + 0.22 * single[:, None] * np.cross(tangent, outward))
    grey = step(-0.3, 0.3, f.grey * 1.6 - 0.3 - random + 0.15 * single)
    colour = mesh.colour * (0.76 + 0.30 * along + 0.26 * (random - 0.5) + 0.13 * single)[:, None]
    colour = colour + (skin.GREY * (0.8 + 0.3 * random[:, None]) - colour) * grey[:, None] * 0.9
    if mesh.material != "hair":
        colour = colour * np.array([1.1, 0.95, 0.85], np.float32)
    open_sky = light.openness(points, outward, chosen, samples)
    lit = light.shadow(points, outward * 2.0, chosen, samples)
    cosine = np.clip((outward @ light.direction + 0.25) / 1.25, 0, 1)
    along_light = tangent @ light.direction
    sine = np.sqrt(np.clip(1 - along_light**2, 0, 1))
    diffuse = (0.55 * cosine + 0.45 * sine * cosine) * (0.25 + 0.75 * lit)
    half = normalise(light.direction - view)
    shines = np.zeros((len(points), 3), np.float32)
    for shift, power, strength, tint in ((-0.08, 60, 0.16, 0.0), (0.12, 16, 0.30, 1.0)):
        bent = normalise(tangent + (shift + 0.10 * (random[:, None] - 0.5)) * outward)
        shine = (
            np.sqrt(np.clip(1 - (bent * half).sum(axis=1) ** 2, 0, 1)) ** power
            * strength
            * lit
            * np.clip(cosine * 1.5, 0, 1)
        )
        shines += shine[:, None] * (np.full(3, 0.55, np.float32) * (1 - tint) + np.sqrt(colour) * tint * 0.8)
    sky = light.sky * (0.60 + 0.40 * outward[:, 2:3]) * (0.15 + 0.85 * open_sky[:, None])
    return (colour * (light.key * diffuse[:, None] * 1.25 + sky * 1.1) + shines * light.key * 0.6).astype(np.float32)


def _backdrop(person: Person, directions: Array) -> tuple[Array, Array]:
    f = person.factors
    x, z = directions[:, 0] / directions[:, 1], directions[:, 2] / directions[:, 1]
    base = dye(f.backdrop_hue, 0.15 + 0.75 * f.backdrop_value, 0.55 * f.backdrop_colour)
    soft = noise(noise_tile(15, 1, 3), x * 0.5 + 0.31, z * 0.5 + 0.17)
    shine = np.exp(-np.square((x - 0.05 * np.sign(f.light_azimuth)) / 0.16) - np.square((z - 0.02) / 0.18))
    colour, detail = person.details.on_backdrop(np.broadcast_to(base, (len(x), 3)), x, z)
    return (colour * (0.62 + 0.06 * soft + 0.42 * shine)[:, None]).astype(np.float32), detail


def _lenses(image: Array, person: Person, light: _Light, origins: Array, directions: Array, depth: Array) -> Array:
    lens = next((mesh for mesh in person.meshes if mesh.material == "lens"), None)
    if lens is None:
        return image
    scene = EmbreeScene()
    kept = TriangleMesh(scene, np.ascontiguousarray(lens.vertices), np.ascontiguousarray(lens.faces))
    hit = scene.run(origins, directions, output=1)
    chosen = np.flatnonzero((hit["primID"] >= 0) & (hit["tfar"] < depth))
    del kept
    if not len(chosen):
        return image
    normals = normalise(hit["Ng"][chosen])
    view = normalise(directions[chosen])
    normals = np.where((normals * view).sum(axis=1, keepdims=True) > 0, -normals, normals)
    mirrored = view - 2 * (view * normals).sum(axis=1, keepdims=True) * normals
    points = EYE + directions[chosen] * hit["tfar"][chosen, None]
    local = (points - person.eyeballs.mean(axis=0)) @ person.turn
    streak = step(0.006, 0.0, np.abs(local[:, 2] - 0.55 * np.abs(local[:, 0]) + 0.006)) * 0.5
    window = np.clip(mirrored @ light.direction, 0, 1) ** 30 + 0.10 * streak
    dark = 0.90 * person.factors.sunglasses
    image[chosen] = image[chosen] * (0.93 - dark * 0.93) + lens.colour * dark
    image[chosen] += (window * (0.35 + 0.2 * person.factors.sunglasses))[:, None] * light.key
    return image


def _exposed(image: Array) -> Array:
    """Linear light → sRGB in [0, 1], highlights rolled off."""
    image = np.maximum(image, 0) * 0.82
    image = image * (1 + image / 2.6) / (1 + image)
    return np.clip(
        np.where(image <= 0.0031308, 12.92 * image, 1.055 * np.maximum(image, 1e-8) ** (1 / 2.4) - 0.055), 0, 1
    )
