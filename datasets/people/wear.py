"""What people wear, and their teeth: meshes fitted to the head that looks straight ahead."""

import numpy as np

from datasets.people.factors import Factors
from datasets.people.fields import Array, dye, palette, step
from datasets.people.hair import CENTRE, RadialMap
from datasets.people.head import HeadModel
from datasets.people.mesh import Mesh, grid_faces, join, tube

FRAMES = [(0.012, 0.011, 0.010), (0.10, 0.055, 0.03), (0.35, 0.27, 0.16), (0.42, 0.42, 0.43), (0.05, 0.09, 0.22),
          (0.33, 0.035, 0.03)]  # fmt: skip


def teeth(vertices: Array, model: HeadModel, mouth_open: float) -> list[Mesh]:
    """Two arches behind the lips; the lower one follows the jaw."""
    lips = (model.masks[:, 0] > 0.5) & (model.template[:, 1] < 0.0)
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
        ring = np.concatenate(
            [np.column_stack([arch * [scale, 1] + [0, 0.07 * (1 - scale)], np.full(29, z)]) for z in rows]
        )
        values = np.column_stack([np.tile(angle, 5), np.repeat(np.linspace(0, 1, 5), 29)]).astype(np.float32)
        colour = np.array([0.86, 0.80, 0.70], np.float32)
        meshes.append(Mesh(ring.astype(np.float32), grid_faces(5, 29), "teeth", values, colour))
    return meshes


def glasses(vertices: Array, model: HeadModel, factors: Factors) -> list[Mesh]:
    """Rims, bridge and temples as one mesh, lenses as another."""
    eyes = [model.eyeball(vertices, side) for side in (0, 1)]
    half = (eyes[1][0] - eyes[0][0]) / 2
    wide, high = half * (0.72 + 0.14 * factors.lens_size), half * (0.50 + 0.26 * factors.lens_size)
    high = high * (1.12 - 0.25 * factors.lens_shape)
    power = 2 / (2 + 2.6 * factors.lens_shape)
    thick = 0.0008 + 0.0016 * factors.frame_thickness
    head = (model.parts == 0) & (np.abs(vertices[:, 0]) < half + wide) & (np.abs(vertices[:, 2] + 0.004) < high)
    head &= np.abs(vertices[:, 0]) > 0.014
    plane = min(vertices[head][:, 1].min() - 0.003, eyes[0][1] - 0.021)
    ears = (model.masks[:, 2] > 0.5) & (model.template[:, 2] > -0.012)
    ear = 0.90 * np.abs(vertices[ears]).max(axis=0)
    ear_y = vertices[ears][:, 1].mean()
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    outline = np.stack([np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** power * wide,
                        np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** power * high], axis=1)  # fmt: skip
    centre_z = (eyes[0][2] + eyes[1][2]) / 2 - 0.005
    frame, lenses = [], []
    ahead = np.array([0, 0.0006, 0])
    for side in (-1, 1):
        centre = np.array([side * half * 1.04, plane, centre_z])
        # The lenses wrap back a little towards the temples.
        wrap = np.array([[x, 0.12 * max(side * x, 0) + 0.10 * abs(side * half + x) ** 2 / half, z] for x, z in outline])
        rim = centre + wrap
        frame.append(tube(rim, thick, 6, closed=True, flat=1.4))
        lens = np.concatenate([centre[None], rim]) + ahead
        index = np.arange(48)
        lenses.append(
            (lens.astype(np.float32), np.stack([0 * index, 1 + index, 1 + (index + 1) % 48], 1).astype(np.int32))
        )
        hinge = centre + np.array([side * wide, 0.012, 0.35 * high])
        middle = np.array([side * (ear[0] + 0.001), plane + 0.55 * (ear_y - plane), hinge[2] + 0.002])
        end = np.array([side * (ear[0] - 0.001), ear_y, hinge[2]])
        frame.append(
            tube(np.stack([hinge, 0.6 * hinge + 0.4 * middle + [side * 0.003, 0, 0], middle, end]), thick * 0.9, 6)
        )
    inner = half * 1.04 - wide
    arc = np.linspace(-1, 1, 9)
    bridge = np.stack(
        [arc * inner, plane - 0.003 * (1 - arc**2), centre_z + 0.25 * high + 0.003 * (1 - arc**2)], axis=1
    )
    frame.append(tube(bridge, thick, 6))
    colour = palette(FRAMES, factors.frame_colour)
    vertices_, faces = join(frame)
    glass, glass_faces = join(lenses)
    tint = np.array([0.02, 0.02, 0.022], np.float32)
    return [Mesh(vertices_, faces, "frame", colour=colour), Mesh(glass, glass_faces, "lens", colour=tint)]


def hat(vertices: Array, factors: Factors) -> list[Mesh]:
    """A knitted cap with a turned-up brim, or a cap with a peak."""
    surface = RadialMap(vertices, ears=False)
    peaked = factors.hat_style >= 0.5
    rows, columns = 20, 72
    azimuth = np.linspace(0, 2 * np.pi, columns, endpoint=False)
    # The band runs over the forehead, above the ears and lower at the back.
    band = 0.050 - (0.012 + 0.035 * (not peaked)) * step(0.2, 1.2, 1 - np.cos(azimuth)) * 0.8
    grid, values = [], []
    thickness = 0.007 + 0.006 * factors.hair_volume
    for row in np.linspace(0, 1, rows):
        low = (band - CENTRE[2]) / 0.105
        start = np.arccos(np.clip(low, -0.6, 0.9))
        polar = start * (1 - row)
        direction = np.stack([np.sin(polar) * np.sin(azimuth), -np.sin(polar) * np.cos(azimuth), np.cos(polar)], axis=1)
        reach, _ = surface((CENTRE + 0.1 * direction).astype(np.float32))
        smooth = (reach + np.roll(reach, 1) + np.roll(reach, -1) + np.roll(reach, 2) + np.roll(reach, -2)) / 5
        puff = (0.010 if peaked else 0.006) * np.sin(np.pi * row) + (0.012 * row**2 if peaked else 0.004)
        fold = 0 if peaked else 0.004 * step(0.30, 0.24, np.full(columns, row))
        grid.append(CENTRE + direction * (smooth + thickness + puff + fold)[:, None])
        values.append(np.stack([azimuth / (2 * np.pi), np.full(columns, row)], axis=1))
    parts = [(np.concatenate(grid).astype(np.float32), grid_faces(rows, columns, closed=True))]
    coordinates = [np.concatenate(values)]
    if peaked:
        across, out = np.meshgrid(np.linspace(-1, 1, 25), np.linspace(0, 1, 8))
        edge = np.array(grid[0])[np.argsort(grid[0][:, 1])]
        front, half = edge[0, 1], 0.068
        x = across * half
        depth = out * 0.062 * np.sqrt(np.clip(1 - across**2 * 0.75, 0, 1))
        y = front + 0.10 * (1 - np.sqrt(np.clip(1 - (x / 0.105) ** 2, 0, 1))) + 0.004 - depth
        z = edge[0, 2] + 0.002 - 0.16 * depth - 5.0 * x**2 * (0.4 + 0.6 * out)
        top = np.stack([x, y, z], axis=-1).reshape(-1, 3).astype(np.float32)
        parts.append((top, grid_faces(8, 25)))
        coordinates.append(np.stack([across.ravel(), np.full(across.size, -1.0)], axis=1))
    points, faces = join(parts)
    colour = dye(factors.hat_hue, factors.hat_value, 0.75)
    return [Mesh(points, faces, "cap" if peaked else "knit", np.concatenate(coordinates).astype(np.float32), colour)]
