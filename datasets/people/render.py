"""From a person to a picture: one ray a sample, shaded where it hits, SUPERSAMPLING² samples a pixel."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datasets.people import skin
from datasets.people.camera import EYE, Window
from datasets.people.colours import backdrop_colour, hair_colour
from datasets.people.fields import Array, dot, noise, noise_tile, normalise, step
from datasets.people.head import head_model
from datasets.people.light import Light
from datasets.people.mesh import Mesh
from datasets.people.person import Person
from datasets.people.rays import Scene
from datasets.people.shading import Hits, shade
from datasets.people.strands import ribbons

SUPERSAMPLING = 2
_CLOTH = 0.006  # metres of clothes on the body
_EXPOSURE = 0.82


@dataclass(frozen=True)
class Picture:
    """size×size pixels, rows from the top. The shares are float32 in [0, 1]."""

    rgb: NDArray[np.uint8]  # size×size×3, sRGB
    person: Array  # size×size: the share that is not backdrop
    face: Array  # size×size: the share that is skin of head and neck, eyes and mouth
    details: Array  # size×size: the share that details cover


def render(person: Person, window: Window, size: int) -> Picture:
    """The picture of a window."""
    samples = size * SUPERSAMPLING
    meshes = [_dressed(person), *(mesh for mesh in person.meshes if mesh.material != "lens")]
    for name, strands in person.strands.items():
        vertices, faces, values = ribbons(strands, EYE)
        meshes.append(Mesh(vertices, faces, name, values, hair_colour(person.factors)))
    scene = Scene(meshes)
    directions = window.rays(samples)
    origins = np.broadcast_to(EYE, directions.shape).copy()
    hit = scene.first_hits(origins, directions)

    light = Light(person.factors, scene)
    image, detail = _backdrop(person, directions)
    face = np.zeros(len(image), np.float32)
    owner = np.where(hit["primID"] < 0, -1, hit["geomID"])
    for number, mesh in enumerate(meshes):
        chosen = np.flatnonzero(owner == number)
        if not len(chosen):
            continue
        hits = Hits(mesh, chosen, directions, hit, samples)
        image[chosen], detail[chosen] = shade(hits, person, light)
        if mesh.material == "head":
            face[chosen] = skin.collar(hits.at(head_model().template), person.factors.neckline) > 0
        if mesh.detail:
            detail[chosen] = 1
    image = _lenses(image, person, light, origins, directions, np.where(owner >= 0, hit["tfar"], np.inf))
    shares = _downsampled(np.stack([owner >= 0, face, detail], axis=1).astype(np.float32), size)
    rgb = np.round(_exposed(_downsampled(image, size)) * 255).astype(np.uint8)
    return Picture(rgb, shares[..., 0], shares[..., 1], shares[..., 2])


def _dressed(person: Person) -> Mesh:
    """The head's mesh with clothes pushed out."""
    head, t = person.head, head_model().template
    share = step(0.0002, -0.0022, skin.collar(t, person.factors.neckline))
    vertices = head.vertices + head.normals() * (share * _CLOTH)[:, None]
    return Mesh(vertices.astype(np.float32), head.faces, "head")


def _downsampled(values: Array, size: int) -> Array:
    """Samples to pixels, size×size×C."""
    k = SUPERSAMPLING
    return values.reshape(size, k, size, k, -1).mean(axis=(1, 3))


def _backdrop(person: Person, directions: Array) -> tuple[Array, Array]:
    """Colours N×3 of a wall with a spot of light behind the head, and the share of each that details cover, N."""
    f = person.factors
    x, z = directions[:, 0] / directions[:, 1], directions[:, 2] / directions[:, 1]
    base = backdrop_colour(f)
    soft = noise(noise_tile(15, 1, 3), x * 0.5 + 0.31, z * 0.5 + 0.17)
    shine = np.exp(-np.square((x - 0.05 * np.sign(f.light_azimuth)) / 0.16) - np.square((z - 0.02) / 0.18))
    colour, detail = person.details.on_backdrop(np.broadcast_to(base, (len(x), 3)), x, z)
    return (colour * (0.62 + 0.06 * soft + 0.42 * shine)[:, None]).astype(np.float32), detail


def _lenses(image: Array, person: Person, light: Light, origins: Array, directions: Array, depth: Array) -> Array:
    """The image N×3 with glasses' lenses before what lies `depth` N away: tinted, with two reflections."""
    lens = next((mesh for mesh in person.meshes if mesh.material == "lens"), None)
    if lens is None:
        return image
    hit = Scene([lens]).first_hits(origins, directions)
    chosen = np.flatnonzero((hit["primID"] >= 0) & (hit["tfar"] < depth))
    if not len(chosen):
        return image
    normals = normalise(hit["Ng"][chosen])
    view = normalise(directions[chosen])
    normals = np.where(dot(normals, view)[:, None] > 0, -normals, normals)
    mirrored = view - 2 * dot(view, normals)[:, None] * normals
    points = EYE + directions[chosen] * hit["tfar"][chosen, None]
    local = (points - person.eyeballs.mean(axis=0)) @ person.turn
    streak = step(0.006, 0.0, np.abs(local[:, 2] - 0.55 * np.abs(local[:, 0]) + 0.006)) * 0.5
    lamp = np.clip(mirrored @ light.direction, 0, 1) ** 30 + 0.10 * streak
    dark = 0.90 * person.factors.sunglasses
    image[chosen] = image[chosen] * (0.93 - dark * 0.93) + lens.colour * dark
    image[chosen] += (lamp * (0.35 + 0.2 * person.factors.sunglasses))[:, None] * light.key
    return image


def _exposed(image: Array) -> Array:
    """Linear light → sRGB in [0, 1], highlights rolled off."""
    image = np.maximum(image, 0) * _EXPOSURE
    image = image * (1 + image / 2.6) / (1 + image)
    curved = 1.055 * np.maximum(image, 1e-8) ** (1 / 2.4) - 0.055
    return np.clip(np.where(image <= 0.0031308, 12.92 * image, curved), 0, 1)
