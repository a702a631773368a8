"""Details that factors do not say, drawn from a seed: what a generator should not learn, and F is for."""

from dataclasses import dataclass

import numpy as np

from datasets.people.fields import Array, bump, noise, noise_tile, step
from datasets.people.hair import RadialMap
from datasets.people.head import HeadModel
from datasets.people.mesh import Mesh, grid_faces, join, tube

# Kinds and their share of people; those of UNSEEN are in no training image.
SHARES = {
    "freckles": 0.12,
    "moles": 0.25,
    "scar": 0.06,
    "face_paint": 0.05,
    "earrings": 0.2,
    "print": 0.3,
    "pattern": 0.2,
}
UNSEEN = ("eye_patch", "scarf", "headphones", "flag")

_BRIGHT = np.array([(0.6, 0.04, 0.04), (0.05, 0.12, 0.5), (0.7, 0.5, 0.05), (0.75, 0.75, 0.72), (0.02, 0.02, 0.02),
                    (0.06, 0.35, 0.12), (0.5, 0.1, 0.4)], np.float32)  # fmt: skip


@dataclass(frozen=True)
class Details:
    """Which kinds a person has, and the seed of their places, shapes and colours."""

    kinds: frozenset[str] = frozenset()
    seed: int = 0

    @classmethod
    def draw(cls, rng: np.random.Generator, unseen: bool = False) -> "Details":
        """Random details; with `unseen` one of UNSEEN among them."""
        kinds = {kind for kind, share in SHARES.items() if rng.random() < share}
        if unseen:
            kinds.add(str(rng.choice(UNSEEN)))
        return cls(frozenset(kinds), int(rng.integers(2**31)))

    def rng(self, kind: str) -> np.random.Generator:
        """The random numbers of one kind."""
        return np.random.default_rng([self.seed, *kind.encode()])

    def colour(self, rng: np.random.Generator) -> Array:
        """A bright colour."""
        return _BRIGHT[rng.integers(len(_BRIGHT))]

    def on_skin(self, colour: Array, t: Array) -> tuple[Array, Array]:
        """Skin's colours N×3 at template coordinates N×3 with what is on them, and the share that they cover, N."""
        covered = np.zeros(len(t), np.float32)
        x, z, front = t[:, 0], t[:, 2], step(0.04, 0.0, t[:, 1])

        def put(over: Array, share: Array) -> None:
            nonlocal colour, covered
            colour = colour + (over - colour) * share[:, None]
            covered = np.maximum(covered, share)

        if "freckles" in self.kinds:
            shift = self.rng("freckles").random(2)
            spots = noise(noise_tile(20, 60, 110), x * 4 + shift[0], z * 4 + shift[1])
            where = np.exp(-np.square((np.abs(x) - 0.025) / 0.03) - np.square((z + 0.025) / 0.022)) * front
            put(colour * np.array([0.62, 0.45, 0.36], np.float32), step(0.9, 1.6, spots) * where * 0.8)
        if "moles" in self.kinds:
            rng = self.rng("moles")
            for _ in range(rng.integers(1, 4)):
                place, radius = (rng.uniform(-0.05, 0.05), rng.uniform(-0.10, 0.05)), rng.uniform(0.0015, 0.0032)
                put(
                    np.array([0.05, 0.025, 0.018], np.float32),
                    step(1.2, 0.8, np.hypot(x - place[0], z - place[1]) / radius) * front,
                )
        if "scar" in self.kinds:
            rng = self.rng("scar")
            cx, cz, angle, half = (
                rng.uniform(-0.05, 0.05),
                rng.choice([-0.03, 0.04]),
                rng.uniform(0, 3),
                rng.uniform(0.008, 0.018),
            )
            along = (x - cx) * np.cos(angle) + (z - cz) * np.sin(angle)
            across = -(x - cx) * np.sin(angle) + (z - cz) * np.cos(angle)
            stitches = np.maximum(
                bump(across, 0, 0.0012), bump((along * 180) % 1, 0.5, 0.18) * step(0.004, 0.003, np.abs(across)) * 0.7
            )
            put(np.array([0.55, 0.20, 0.17], np.float32), stitches * step(half, half * 0.8, np.abs(along)) * front)
        if "face_paint" in self.kinds:
            rng = self.rng("face_paint")
            over, kind, side = self.colour(rng), rng.integers(3), rng.choice([-1, 1])
            if kind == 0:  # bars below both eyes
                share = (
                    step(0.003, 0.002, np.abs((z + 0.024) % 0.009 - 0.0045))
                    * step(0.003, 0.002, np.abs(z + 0.03) - 0.008)
                    * bump(np.abs(x), 0.040, 0.013)
                )
                share = step(0.4, 0.6, share)
            else:
                dx, dz = (x - side * 0.042) / 0.012, (z + 0.035) / 0.012
                angle, radius = np.arctan2(dz, dx), np.hypot(dx, dz)
                outline = (
                    0.7 + 0.3 * np.cos(5 * angle - 1.57)
                    if kind == 1
                    else 0.95 - 0.25 * np.abs(np.sin(angle * 0.5 - 0.785)) * 2 + 0.2
                )
                share = step(1.05, 0.95, radius / outline)
            put(over, share * front)
        if "flag" in self.kinds:
            rng = self.rng("flag")
            stripes = [self.colour(rng) for _ in range(3)]
            upright = rng.random() < 0.5
            for side in (-1, 1):
                dx, dz = (x - side * 0.045) / 0.017, (z + 0.038) / 0.013
                share = step(1.04, 0.96, np.maximum(np.abs(dx), np.abs(dz))) * front
                index = np.clip((((dx if upright else dz) + 1) * 1.5).astype(int), 0, 2)
                put(np.stack(stripes)[index], share)
        return colour, covered

    def on_clothes(self, colour: Array, t: Array) -> tuple[Array, Array]:
        """The same for clothes."""
        if "print" not in self.kinds:
            return colour, np.zeros(len(t), np.float32)
        share, over = _pattern(self, self.rng("print"), t[:, 0], t[:, 2], 0.03)
        return colour + (over - colour) * share[:, None], share

    def on_backdrop(self, colour: Array, x: Array, z: Array) -> tuple[Array, Array]:
        """The same for the backdrop, at directions x and z."""
        if "pattern" not in self.kinds:
            return colour, np.zeros(len(x), np.float32)
        share, over = _pattern(self, self.rng("pattern"), x, z, 0.05)
        return colour + (over * 0.8 - colour) * 0.7 * share[:, None], share

    def meshes(self, vertices: Array, model: HeadModel) -> list[Mesh]:
        """What is worn, on the head that looks straight ahead."""
        found = []
        if "earrings" in self.kinds:
            found.append(_earrings(self, vertices, model))
        if "eye_patch" in self.kinds:
            found.append(_eye_patch(self, vertices, model))
        if "headphones" in self.kinds:
            found.append(_headphones(self, vertices, model))
        if "scarf" in self.kinds:
            found.append(_scarf(self, vertices))
        return found


def _pattern(details: Details, rng: np.random.Generator, x: Array, z: Array, size: float) -> tuple[Array, Array]:
    """Stripes, dots, checks or a star; share N and colour."""
    kind, over = rng.integers(4), details.colour(rng)
    angle, size = rng.choice([0.0, np.pi / 2, np.pi / 4]), size * rng.uniform(0.5, 1.1)
    a, b = (x * np.cos(angle) + z * np.sin(angle)) / size, (z * np.cos(angle) - x * np.sin(angle)) / size
    if kind == 0:
        share = step(0.30, 0.26, np.abs(a % 1 - 0.5))
    elif kind == 1:
        share = step(0.32, 0.26, np.hypot(a % 1 - 0.5, b % 1 - 0.5))
    elif kind == 2:
        share = 0.5 * step(0.27, 0.23, np.abs(a % 1 - 0.5)) + 0.5 * step(0.27, 0.23, np.abs(b % 1 - 0.5))
    else:
        cx, cz = rng.uniform(-0.06, 0.06), -0.25 if size < 0.035 else rng.uniform(0.0, 0.05)
        dx, dz = (x - cx) / (2 * size), (z - cz) / (2 * size)
        share = step(1.04, 0.96, np.hypot(dx, dz) / (0.62 + 0.3 * np.cos(5 * np.arctan2(dz, dx) - 1.57)))
    return share.astype(np.float32), over


def _earrings(details: Details, vertices: Array, model: HeadModel) -> Mesh:
    rng = details.rng("earrings")
    hoop, radius = rng.random() < 0.5, rng.uniform(0.005, 0.013)
    parts = []
    for side in (-1, 1):
        lobe = (model.masks[:, 2] > 0.5) & (side * model.template[:, 0] > 0)
        place = vertices[lobe][vertices[lobe][:, 2].argmin()] + [side * 0.002, -0.001, 0]
        angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        if hoop:
            ring = place + np.stack([0 * angle, radius * np.sin(angle), radius * (np.cos(angle) - 1)], axis=1)
            parts.append(tube(ring, 0.0012, 6, closed=True))
        else:
            drop = place + np.stack([np.zeros(9), np.zeros(9), np.linspace(0.002, -2 * radius, 9)], axis=1)
            parts.append(tube(drop, 0.45 * radius * np.sin(np.linspace(0.15, np.pi, 9)) + 0.0004, 10))
    metal = np.array([(0.55, 0.42, 0.16), (0.5, 0.5, 0.52), *_BRIGHT[:2]], np.float32)
    return Mesh(*join(parts), "frame", colour=metal[rng.integers(4)])


def _eye_patch(details: Details, vertices: Array, model: HeadModel) -> Mesh:
    side = int(details.rng("eye_patch").integers(2))
    eye = model.eyeball(vertices, side)
    radius, angle = np.meshgrid(np.linspace(0, 1, 6), np.linspace(0, 2 * np.pi, 33), indexing="ij")
    x, z = 0.024 * radius * np.cos(angle), 0.020 * radius * np.sin(angle)
    y = eye[1] - 0.024 + 0.010 * radius**2 + 4.0 * np.square(np.abs(x) * (np.sign(x) == np.sign(eye[0])))
    disc = np.stack([eye[0] + x, y, eye[2] - 0.001 + z], axis=-1).reshape(-1, 3).astype(np.float32)
    return Mesh(
        *join([(disc, grid_faces(6, 33)), _band(vertices, eye, 0.0022)]), "frame", colour=np.full(3, 0.012, np.float32)
    )


def _band(vertices: Array, through: Array, radius: float) -> tuple[Array, Array]:
    """A band round the head that rises from one side to the other through a point before the face."""
    surface = RadialMap(vertices, ears=False)
    azimuth = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    tilt = np.where(
        np.cos(azimuth) > 0,
        0.035 * np.sign(-through[0]) * np.sin(azimuth),
        0.035 * np.sign(-through[0]) * np.sin(azimuth),
    )
    points = np.stack([0.1 * np.sin(azimuth), 0.07 - 0.1 * np.cos(azimuth), through[2] + 0.022 + tilt], axis=1).astype(
        np.float32
    )
    reach, distance = surface(points)
    centre = np.array([0.0, 0.07, 0.03], np.float32)
    ring = centre + (points - centre) * ((reach + 0.0025) / distance)[:, None]
    return tube(ring, radius, 6, closed=True)


def _headphones(details: Details, vertices: Array, model: HeadModel) -> Mesh:
    ears = model.masks[:, 2] > 0.5
    width = np.abs(vertices[ears][:, 0]).max() + 0.006
    centre = np.array([0, vertices[ears][:, 1].mean(), vertices[ears][:, 2].mean() + 0.004])
    top = vertices[:, 2].max() + 0.016
    angle = np.linspace(0, np.pi, 41)
    arc = centre + np.stack(
        [(width + 0.006) * np.cos(angle), 0 * angle, (top - centre[2]) * np.sin(angle) ** 0.8], axis=1
    )
    parts = [tube(arc, 0.007, 8, flat=0.6)]
    for side in (-1, 1):
        cup = centre + np.stack(
            [side * np.array([width - 0.012, width - 0.010, width + 0.012, width + 0.014]), np.zeros(4), np.zeros(4)],
            axis=1,
        )
        parts.append(tube(cup, np.array([0.001, 0.034, 0.034, 0.001]), 28))
    return Mesh(*join(parts), "frame", colour=details.colour(details.rng("headphones")))


def _scarf(details: Details, vertices: Array) -> Mesh:
    rng = details.rng("scarf")
    neck = np.abs(vertices[:, 2] + 0.150) < 0.02
    low, high = vertices[neck].min(axis=0), vertices[neck].max(axis=0)
    middle, half = (low + high) / 2, (high - low) / 2
    angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    parts = []
    for lift, grow in ((-0.035, 0.012), (-0.018, 0.006), (-0.002, 0.010)):
        x, y = middle[0] + (half[0] + grow) * np.sin(angle), middle[1] - (half[1] + grow) * np.cos(angle)
        z = -0.160 + lift + 0.022 * (1 - np.cos(angle)) + 0.004 * np.sin(3 * angle + lift * 200)
        ring = np.stack([x, y, z], axis=1)
        parts.append(tube(ring, 0.016 + 0.003 * np.sin(5 * angle + 100 * lift), 12, closed=True))
    points, faces = join(parts)
    stripes = np.stack([np.arctan2(points[:, 0], -points[:, 1]) / (2 * np.pi), points[:, 2] * 8], axis=1)
    return Mesh(points, faces, "knit", stripes.astype(np.float32), details.colour(rng))
