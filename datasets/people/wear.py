"""What people wear, and their teeth: meshes fitted to the head that looks straight ahead."""

import numpy as np

from datasets.people.colours import hat_colour
from datasets.people.factors import Factors
from datasets.people.fields import Array, palette, step
from datasets.people.head import EARS, LIPS, SKIN, HeadModel
from datasets.people.mesh import Faces, Mesh, grid_faces, join, tube
from datasets.people.radial import CENTRE, RadialMap

# Linear light, from black to red.
FRAMES = [(0.012, 0.011, 0.010), (0.10, 0.055, 0.03), (0.35, 0.27, 0.16), (0.42, 0.42, 0.43), (0.05, 0.09, 0.22),
          (0.33, 0.035, 0.03)]  # fmt: skip


def teeth(vertices: Array, model: HeadModel, mouth_open: float) -> list[Mesh]:
    """Two arches behind the lips; the lower one follows the jaw."""
    lips = (model.masks[:, LIPS] > 0.5) & (model.template[:, 1] < 0.0)
    upper = lips & (model.template[:, 2] > -0.072)
    front, middle = vertices[lips][:, 1].min(), vertices[upper][:, 2].mean()
    lower = vertices[lips & (model.template[:, 2] < -0.074)][:, 2].mean()
    angle = np.linspace(-1.15, 1.15, 29)
    arch = np.stack([0.024 * np.sin(angle), front + 0.0135 + 0.03 * (1 - np.cos(angle))], axis=1)
    meshes = []
    for top, bottom, scale in (
        (middle + 0.008, middle - 0.0055, 1.0),
        (lower - 0.004 - 0.004 * mouth_open, lower - 0.011, 0.93),
    ):
        rows = np.linspace(top, bottom, 5)
        narrowed = arch * [scale, 1] + [0, 0.07 * (1 - scale)]
        ring = np.concatenate([np.column_stack([narrowed, np.full(29, z)]) for z in rows])
        values = np.column_stack([np.tile(angle, 5), np.repeat(np.linspace(0, 1, 5), 29)]).astype(np.float32)
        colour = np.array([0.86, 0.80, 0.70], np.float32)
        meshes.append(Mesh(ring.astype(np.float32), grid_faces(5, 29), "teeth", values, colour))
    return meshes


def glasses(vertices: Array, model: HeadModel, factors: Factors) -> list[Mesh]:
    """Rims, bridge and temples as one mesh, lenses as another."""
    f = factors
    eyes = [model.eyeball(vertices, side) for side in (0, 1)]
    half = (eyes[1][0] - eyes[0][0]) / 2
    wide, high = half * (0.72 + 0.14 * f.lens_size), half * (0.50 + 0.26 * f.lens_size)
    high = high * (1.12 - 0.25 * f.lens_shape)
    thick = 0.0008 + 0.0016 * f.frame_thickness
    plane = _lens_plane(vertices, model, eyes[0][1], half, wide, high)
    centre_z = (eyes[0][2] + eyes[1][2]) / 2 - 0.005
    ears = (model.masks[:, EARS] > 0.5) & (model.template[:, 2] > -0.012)  # where temples lie on them
    ear_x, ear_y = 0.90 * np.abs(vertices[ears]).max(axis=0)[0], vertices[ears][:, 1].mean()
    outline = _superellipse(wide, high, 2 / (2 + 2.6 * f.lens_shape))
    frame, lenses = [], []
    for side in (-1, 1):
        centre = np.array([side * half * 1.04, plane, centre_z])
        # The lenses wrap back a little towards the temples.
        wrap = np.array([[x, 0.12 * max(side * x, 0) + 0.10 * abs(side * half + x) ** 2 / half, z] for x, z in outline])
        rim = centre + wrap
        frame.append(tube(rim, thick, 6, closed=True, flat=1.4))
        lenses.append(_fan(np.concatenate([centre[None], rim]) + np.array([0, 0.0006, 0])))
        hinge = centre + np.array([side * wide, 0.012, 0.35 * high])
        middle = np.array([side * (ear_x + 0.001), plane + 0.55 * (ear_y - plane), hinge[2] + 0.002])
        end = np.array([side * (ear_x - 0.001), ear_y, hinge[2]])
        bend = 0.6 * hinge + 0.4 * middle + [side * 0.003, 0, 0]
        frame.append(tube(np.stack([hinge, bend, middle, end]), thick * 0.9, 6))
    arc, inner = np.linspace(-1, 1, 9), half * 1.04 - wide
    bow = 0.003 * (1 - arc**2)
    bridge = np.stack([arc * inner, plane - bow, centre_z + 0.25 * high + bow], axis=1)
    frame.append(tube(bridge, thick, 6))
    points, faces = join(frame)
    glass, glass_faces = join(lenses)
    tint = np.array([0.02, 0.02, 0.022], np.float32)
    frame_mesh = Mesh(points, faces, "frame", colour=palette(FRAMES, f.frame_colour))
    return [frame_mesh, Mesh(glass, glass_faces, "lens", colour=tint)]


def _lens_plane(vertices: Array, model: HeadModel, eye_y: float, half: float, wide: float, high: float) -> float:
    """y of the lenses: before lids, brows and cheeks, and never nearer to the eyes than a real pair."""
    x = np.abs(vertices[:, 0])
    behind = (model.parts == SKIN) & (x > 0.014) & (x < half + wide) & (np.abs(vertices[:, 2] + 0.004) < high)
    return min(vertices[behind][:, 1].min() - 0.003, eye_y - 0.021)


def _superellipse(wide: float, high: float, power: float) -> Array:
    """An outline 48×2 of half axes in metres; power 1 is an ellipse, less is nearer to a rectangle."""
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    x, z = np.cos(angle), np.sin(angle)
    return np.stack([np.sign(x) * np.abs(x) ** power * wide, np.sign(z) * np.abs(z) ** power * high], axis=1)


def _fan(points: Array) -> tuple[Array, Faces]:
    """Triangles round the first of the points."""
    index = np.arange(len(points) - 1)
    faces = np.stack([0 * index, 1 + index, 1 + (index + 1) % len(index)], 1)
    return points.astype(np.float32), faces.astype(np.int32)


def hat(vertices: Array, factors: Factors) -> list[Mesh]:
    """A knitted cap with a turned-up brim, or a cap with a peak."""
    peaked = factors.hat_style >= 0.5
    rows, columns = 20, 72
    azimuth = np.linspace(0, 2 * np.pi, columns, endpoint=False)
    grid = _crown(vertices, factors, peaked, azimuth, rows)
    parts = [(np.concatenate(grid).astype(np.float32), grid_faces(rows, columns, closed=True))]
    # Turns round the head, and 0 at the band to 1 at the top; -1 on the peak.
    coordinates = [np.column_stack([np.tile(azimuth / (2 * np.pi), rows), np.repeat(np.linspace(0, 1, rows), columns)])]
    if peaked:
        peak = _peak(grid[0])
        parts.append((peak.reshape(-1, 3).astype(np.float32), grid_faces(*peak.shape[:2])))
        across = np.tile(np.linspace(-1, 1, peak.shape[1]), len(peak))
        coordinates.append(np.column_stack([across, np.full(len(across), -1.0)]))
    points, faces = join(parts)
    colour = hat_colour(factors)
    return [Mesh(points, faces, "cap" if peaked else "knit", np.concatenate(coordinates).astype(np.float32), colour)]


def _crown(vertices: Array, factors: Factors, peaked: bool, azimuth: Array, rows: int) -> list[Array]:
    """Rings of a hat from its band to the top of the head, each len(azimuth)×3."""
    surface = RadialMap(vertices, ears=False)
    # The band runs over the forehead, above the ears and lower at the back.
    band = 0.050 - (0.012 + 0.035 * (not peaked)) * step(0.2, 1.2, 1 - np.cos(azimuth)) * 0.8
    thickness = 0.007 + 0.006 * factors.hair_volume
    grid = []
    for row in np.linspace(0, 1, rows):
        start = np.arccos(np.clip((band - CENTRE[2]) / 0.105, -0.6, 0.9))
        polar = start * (1 - row)
        direction = np.stack([np.sin(polar) * np.sin(azimuth), -np.sin(polar) * np.cos(azimuth), np.cos(polar)], axis=1)
        reach, _ = surface((CENTRE + 0.1 * direction).astype(np.float32))
        smooth = (reach + np.roll(reach, 1) + np.roll(reach, -1) + np.roll(reach, 2) + np.roll(reach, -2)) / 5
        puff = (0.010 if peaked else 0.006) * np.sin(np.pi * row) + (0.012 * row**2 if peaked else 0.004)
        fold = 0 if peaked else 0.004 * step(0.30, 0.24, np.full(len(azimuth), row))
        grid.append(CENTRE + direction * (smooth + thickness + puff + fold)[:, None])
    return grid


def _peak(band: Array) -> Array:
    """The peak of a cap on its band N×3: 8×25×3, from the band outwards."""
    across, out = np.meshgrid(np.linspace(-1, 1, 25), np.linspace(0, 1, 8))
    front = band[band[:, 1].argmin()]
    x = across * 0.068
    depth = out * 0.062 * np.sqrt(np.clip(1 - across**2 * 0.75, 0, 1))
    y = front[1] + 0.10 * (1 - np.sqrt(np.clip(1 - (x / 0.105) ** 2, 0, 1))) + 0.004 - depth
    z = front[2] + 0.002 - 0.16 * depth - 5.0 * x**2 * (0.4 + 0.6 * out)
    return np.stack([x, y, z], axis=-1)
