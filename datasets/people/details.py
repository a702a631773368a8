"""Details that factors do not say, drawn from a seed: what a generator should not learn, and F is for."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from datasets.people.details_worn import earrings, eye_patch, headphones, scarf
from datasets.people.fields import BRIGHT, Array, bump, noise, noise_tile, step
from datasets.people.head import HeadModel
from datasets.people.mesh import Mesh

# Kinds and their share of people; those of UNSEEN are in no training image.
SHARES = {
    "freckles": 0.12, "moles": 0.25, "scar": 0.06, "face_paint": 0.05, "earrings": 0.2, "print": 0.3, "pattern": 0.2,
}  # fmt: skip
UNSEEN = ("eye_patch", "scarf", "headphones", "flag")

_Layers = Iterator[tuple[Array, Array]]  # colours (N×3 or 3, linear light) and how much of each shows (N, 0 to 1)


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
        """The random numbers of one kind: they do not depend on which other kinds a person has."""
        return np.random.default_rng([self.seed, *kind.encode()])

    def on_skin(self, colour: Array, t: Array) -> tuple[Array, Array]:
        """Skin's colours N×3 at template coordinates N×3 with what is on them, and the share that they cover, N."""
        covered = np.zeros(len(t), np.float32)
        x, z, front = t[:, 0], t[:, 2], step(0.04, 0.0, t[:, 1])
        for kind, layers in _ON_SKIN.items():
            if kind in self.kinds:
                for over, share in layers(self.rng(kind), colour, x, z, front):
                    colour = colour + (over - colour) * share[:, None]
                    covered = np.maximum(covered, share)
        return colour, covered

    def on_clothes(self, colour: Array, t: Array) -> tuple[Array, Array]:
        """The same for clothes."""
        if "print" not in self.kinds:
            return colour, np.zeros(len(t), np.float32)
        share, over = _pattern(self.rng("print"), t[:, 0], t[:, 2], 0.03)
        return colour + (over - colour) * share[:, None], share

    def on_backdrop(self, colour: Array, x: Array, z: Array) -> tuple[Array, Array]:
        """The same for the backdrop, at directions x and z."""
        if "pattern" not in self.kinds:
            return colour, np.zeros(len(x), np.float32)
        share, over = _pattern(self.rng("pattern"), x, z, 0.05)
        return colour + (over * 0.8 - colour) * 0.7 * share[:, None], share

    def meshes(self, vertices: Array, model: HeadModel) -> list[Mesh]:
        """What is worn, on the head that looks straight ahead (V×3)."""
        worn = [make(self.rng(kind), vertices, model) for kind, make in _WORN.items() if kind in self.kinds]
        return [replace(mesh, detail=True) for mesh in worn]


_WORN = {"earrings": earrings, "eye_patch": eye_patch, "headphones": headphones, "scarf": scarf}


def _freckles(rng: np.random.Generator, colour: Array, x: Array, z: Array, front: Array) -> _Layers:
    """On nose and cheeks."""
    shift = rng.random(2)
    spots = noise(noise_tile(20, 60, 110), x * 4 + shift[0], z * 4 + shift[1])
    where = np.exp(-np.square((np.abs(x) - 0.025) / 0.03) - np.square((z + 0.025) / 0.022)) * front
    yield colour * np.array([0.62, 0.45, 0.36], np.float32), step(0.9, 1.6, spots) * where * 0.8


def _moles(rng: np.random.Generator, colour: Array, x: Array, z: Array, front: Array) -> _Layers:
    """One to three."""
    for _ in range(rng.integers(1, 4)):
        place, radius = (rng.uniform(-0.05, 0.05), rng.uniform(-0.10, 0.05)), rng.uniform(0.0015, 0.0032)
        yield (
            np.array([0.05, 0.025, 0.018], np.float32),
            step(1.2, 0.8, np.hypot(x - place[0], z - place[1]) / radius) * front,
        )


def _scar(rng: np.random.Generator, colour: Array, x: Array, z: Array, front: Array) -> _Layers:
    """A line with stitches, on the forehead or a cheek."""
    cx, cz, angle = rng.uniform(-0.05, 0.05), rng.choice([-0.03, 0.04]), rng.uniform(0, 3)
    half = rng.uniform(0.008, 0.018)  # metres
    along = (x - cx) * np.cos(angle) + (z - cz) * np.sin(angle)
    across = -(x - cx) * np.sin(angle) + (z - cz) * np.cos(angle)
    stitches = bump((along * 180) % 1, 0.5, 0.18) * step(0.004, 0.003, np.abs(across)) * 0.7
    line = np.maximum(bump(across, 0, 0.0012), stitches)
    yield np.array([0.55, 0.20, 0.17], np.float32), line * step(half, half * 0.8, np.abs(along)) * front


def _face_paint(rng: np.random.Generator, colour: Array, x: Array, z: Array, front: Array) -> _Layers:
    """Bars below both eyes, or a star or a heart on a cheek."""
    over, kind, side = BRIGHT[rng.integers(len(BRIGHT))], rng.integers(3), rng.choice([-1, 1])
    if kind == 0:
        bars = step(0.003, 0.002, np.abs((z + 0.024) % 0.009 - 0.0045)) * step(0.003, 0.002, np.abs(z + 0.03) - 0.008)
        yield over, step(0.4, 0.6, bars * bump(np.abs(x), 0.040, 0.013)) * front
        return
    dx, dz = (x - side * 0.042) / 0.012, (z + 0.035) / 0.012
    angle, radius = np.arctan2(dz, dx), np.hypot(dx, dz)
    star = 0.7 + 0.3 * np.cos(5 * angle - 1.57)
    heart = 0.95 - 0.25 * np.abs(np.sin(angle * 0.5 - 0.785)) * 2 + 0.2
    yield over, step(1.05, 0.95, radius / (star if kind == 1 else heart)) * front


def _flag(rng: np.random.Generator, colour: Array, x: Array, z: Array, front: Array) -> _Layers:
    """Three stripes painted on both cheeks."""
    stripes = [BRIGHT[rng.integers(len(BRIGHT))] for _ in range(3)]
    upright = rng.random() < 0.5
    for side in (-1, 1):
        dx, dz = (x - side * 0.045) / 0.017, (z + 0.038) / 0.013
        index = np.clip((((dx if upright else dz) + 1) * 1.5).astype(int), 0, 2)
        yield np.stack(stripes)[index], step(1.04, 0.96, np.maximum(np.abs(dx), np.abs(dz))) * front


# In the order in which they lie on each other. Each takes a person's random numbers, the skin's colours N×3, x and z
# in template coordinates, and `front`, 1 on the face and 0 behind the ears.
_ON_SKIN: dict[str, Callable[..., _Layers]] = {
    "freckles": _freckles, "moles": _moles, "scar": _scar, "face_paint": _face_paint, "flag": _flag,
}  # fmt: skip


def _pattern(rng: np.random.Generator, x: Array, z: Array, size: float) -> tuple[Array, Array]:
    """Stripes, dots, checks or a star; share N and colour."""
    kind, over = rng.integers(4), BRIGHT[rng.integers(len(BRIGHT))]
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
