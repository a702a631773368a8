"""Skin, eyes, lips, brows and clothes, painted on template coordinates."""

from dataclasses import dataclass

import numpy as np

from datasets.people.details import Details
from datasets.people.factors import Factors
from datasets.people.fields import Array, bump, dye, noise, noise_tile, normalise, palette, step
from datasets.people.hair import beard_area, beard_share, brow_shape, hairline
from datasets.people.head import HeadModel

SKIN = [(0.86, 0.62, 0.51), (0.77, 0.52, 0.40), (0.66, 0.42, 0.29), (0.47, 0.28, 0.18), (0.29, 0.165, 0.105),
        (0.155, 0.085, 0.055)]  # fmt: skip
HAIR = [(0.014, 0.011, 0.010), (0.035, 0.021, 0.013), (0.085, 0.045, 0.022), (0.19, 0.105, 0.045), (0.40, 0.25, 0.10),
        (0.62, 0.44, 0.22)]  # fmt: skip
LIPS = [(0.55, 0.16, 0.17), (0.50, 0.05, 0.06), (0.42, 0.03, 0.09), (0.24, 0.03, 0.10)]
LIDS = [(0.14, 0.07, 0.045), (0.22, 0.10, 0.12), (0.12, 0.12, 0.16), (0.07, 0.12, 0.26)]
IRIS = [(0.045, 0.022, 0.012), (0.10, 0.05, 0.02), (0.15, 0.11, 0.045), (0.13, 0.16, 0.10), (0.14, 0.20, 0.26),
        (0.25, 0.34, 0.42)]  # fmt: skip
GREY = np.array([0.50, 0.49, 0.48], np.float32)


@dataclass
class Paint:
    """What light meets at N points."""

    colour: Array  # N×3, linear light
    gloss: Array  # N, strength of the highlight
    sharpness: Array  # N, exponent of the highlight
    height: Array  # N, metres of relief, for shading only
    scatter: Array  # N, 1 where light spreads below the surface
    detail: Array  # N, 1 where a detail covers it


def hair_colour(factors: Factors) -> Array:
    """The colour of hair that is not grey."""
    base = palette(HAIR, factors.hair_light)
    red = np.array([0.28, 0.075, 0.02], np.float32) * (0.25 + 1.1 * factors.hair_light)
    return base + (red - base) * 0.75 * factors.hair_red


def paint_head(
    t: Array, masks: Array, parts: Array, model: HeadModel, factors: Factors, details: Details, gaze: Array
) -> Paint:
    """Paint of points on the head: template coordinates t N×3, masks N×5, parts N."""
    count = len(t)
    paint = Paint(*(np.empty((count, 3), np.float32), *(np.empty(count, np.float32) for _ in range(5))))
    for chosen, fill in ((parts == 0, _skin), (parts == 3, _mouth)):
        if chosen.any():
            _put(paint, chosen, fill(t[chosen], masks[chosen], factors, details))
    for side in (1, 2):
        chosen = parts == side
        if chosen.any():
            _put(paint, chosen, _eye(t[chosen] - model.eyes[side - 1], factors, gaze))
    return paint


def _put(paint: Paint, chosen: Array, part: Paint) -> None:
    for name in vars(paint):
        getattr(paint, name)[chosen] = getattr(part, name)


def _mix(base: Array, colour: Array, share: Array) -> Array:
    return base + (colour - base) * share[:, None]


def _skin(t: Array, masks: Array, f: Factors, details: Details) -> Paint:
    x, y, z = np.abs(t[:, 0]), t[:, 1], t[:, 2]
    lips, lids, ears, _, _ = masks.T
    front = step(0.03, -0.01, y)
    around = np.arctan2(t[:, 0], 0.07 - y) * 0.09
    u, v = around / 0.25, z / 0.25
    tone = palette(SKIN, f.skin_tone)
    tone = tone * (1 + 0.03 * f.skin_redness * np.array([0.8, -0.6, -0.5], np.float32))
    old = max(f.age - 38, 0) / 42
    mottle = noise(noise_tile(1, 4, 40), u, v)
    pores = noise(noise_tile(2, 60, 200), u * 3, v * 3)
    colour = tone * (1 + (0.025 + 0.03 * old) * mottle[:, None] + 0.012 * pores[:, None])
    ruddy = np.array([0.62, 0.24, 0.19], np.float32) * (0.35 + 0.65 * tone.mean() / 0.5)
    cheeks = bump(x, 0.043, 0.018) * bump(z, -0.035, 0.018) * front
    nose = bump(t[:, 0], 0, 0.013) * bump(z, -0.040, 0.012) * front
    share = (0.16 + 0.06 * f.skin_redness) * (cheeks + 0.8 * nose + 0.7 * ears) + 0.05 * bump(z, -0.105, 0.02) * front
    colour = _mix(colour, ruddy, np.clip(share, 0, 0.5))
    # Sockets are darker, above all below old eyes.
    socket = bump(x, 0.030, 0.020) * bump(z, -0.012, 0.010) * front
    colour = colour * (1 - (0.08 + 0.16 * old) * socket[:, None] * np.array([0.8, 1.0, 0.9], np.float32))
    colour = _mix(
        colour,
        tone * np.array([0.55, 0.45, 0.40], np.float32),
        old * 0.5 * np.clip(noise(noise_tile(3, 20, 60), u, v) - 1.6, 0, 1),
    )
    # Make-up.
    blush = palette(LIPS, f.lip_colour) * 0.5 + tone * 0.6
    colour = _mix(
        colour, blush, 0.40 * f.makeup * bump(x, 0.048, 0.016) * bump(z, -0.032 + 0.3 * (x - 0.048), 0.012) * front
    )
    lid = np.clip(lids * 1.3, 0, 1) * step(-0.001, 0.003, z)
    shade = bump(x, 0.033, 0.018) * bump(z, 0.008, 0.009) * front
    colour = _mix(colour, palette(LIDS, f.lid_colour), 0.75 * f.makeup * np.maximum(lid, 0.7 * shade))
    natural = tone * np.array([0.80, 0.50, 0.48], np.float32) + np.array([0.03, 0.0, 0.005], np.float32)
    lip = natural + (palette(LIPS, f.lip_colour) - natural) * 0.9 * f.makeup
    seam = bump(z, -0.0735, 0.0016) * step(0.026, 0.022, x)
    lip_share = step(0.25, 0.65, lips)
    creases = 1 + 0.06 * noise(noise_tile(4, 40, 120, 4.0), u * 2, v * 0.5)
    colour = _mix(colour, lip * creases[:, None], lip_share)
    # Lash line and liner: the skin next to the eyeball.
    distance = np.hypot(np.hypot(x - 0.0313, y), z)
    margin = step(0.0190, 0.0172, distance) * front
    upper = step(-0.002, 0.002, z)
    lash = margin * (upper * (0.75 + 0.25 * f.makeup) + (1 - upper) * (0.25 + 0.5 * f.makeup))
    colour = _mix(colour, np.array([0.012, 0.008, 0.007], np.float32), np.clip(lash * (0.8 + 0.4 * f.makeup), 0, 0.95))

    colour, detail = details.on_skin(colour, t)
    colour, brow = _brows(colour, t, x, z, front, u, v, f)
    stubble_map = beard_area(t, masks) * beard_share(t, f) * min(1.0, f.beard * 4)
    fleck = np.clip(0.72 + 0.45 * noise(noise_tile(5, 120, 250), u * 5, v * 5), 0, 1)
    dark = hair_colour(f) * (1 - 0.6 * f.grey) + GREY * 0.5 * f.grey
    colour = _mix(colour, dark * 0.8, np.clip(stubble_map * fleck * (0.5 + 0.45 * min(1, f.beard * 2)), 0, 0.92))
    scalp = np.zeros(len(t), np.float32)
    if f.hair_length > 0:
        edge = hairline(t, f.hairline) + 0.004 * noise(noise_tile(6, 30, 120), u * 2, v * 2)
        cover = min(1.0, 0.55 + f.hair_length * 3)
        scalp = step(-0.003, 0.006, edge) * (1 - step(0.2, 0.5, ears)) * cover
        colour = _mix(
            colour, dark * (0.62 + 0.2 * noise(noise_tile(7, 60, 200), u * 3, v * 3))[:, None], np.clip(scalp, 0, 0.96)
        )
    height = 0.00005 * pores * (1 - scalp) + _wrinkles(t, x, y, z, front, old, f) - 0.0012 * seam
    oily = 0.30 * bump(t[:, 0], 0, 0.02) * bump(z, 0.03, 0.03) + 0.35 * nose + 0.12 * cheeks
    gloss = (0.16 + oily * 0.5 + 0.45 * lip_share * (0.5 + f.makeup)) * (1 - 0.7 * np.clip(stubble_map + scalp, 0, 1))
    sharp = np.where(lip_share > 0.5, 45.0, 18.0).astype(np.float32)
    scatter = 1 - np.clip(scalp + 0.5 * stubble_map + brow * 0.5, 0, 1)
    return _clothes(Paint(colour, gloss, sharp, height, scatter, detail), t, u, v, f, details)


def _brows(
    colour: Array, t: Array, x: Array, z: Array, front: Array, u: Array, v: Array, f: Factors
) -> tuple[Array, Array]:
    shape = brow_shape(t, f)
    # Hairs run outwards and up.
    hairs = noise(noise_tile(8, 60, 200, 0.35), (x * 0.9 + z * 0.5) * 9, (z - x * 0.5) * 30 * 0.25)
    share = np.clip(shape * (0.65 + 0.30 * hairs), 0, 1) * (0.50 + 0.25 * f.brow_thickness)
    dark = hair_colour(f) * 0.75 * (1 - 0.7 * f.grey) + GREY * 0.55 * 0.7 * f.grey
    return _mix(colour, np.minimum(dark, colour * 0.75 + 0.02), share), share


def _wrinkles(t: Array, x: Array, y: Array, z: Array, front: Array, old: float, f: Factors) -> Array:
    """Relief of lines on forehead, round the eyes, beside nose and mouth, on the neck; metres."""
    total = np.zeros(len(t), np.float32)
    forehead = 0.25 * max(f.brow_raise, 0) + old
    if forehead > 0.02:
        wave = z + 0.004 * np.sin(x * 60) - 0.10 * x**2 * 10 * 0.1
        for line, strength in ((0.036, 0.8), (0.045, 1.0), (0.054, 0.9)):
            total -= 0.0011 * forehead * strength * bump(wave, line, 0.0016) * step(0.048, 0.030, x) * front
    total -= 0.0010 * (0.5 * f.frown + 0.7 * old) * bump(x, 0.0045, 0.0013) * bump(z, 0.018, 0.009) * front
    squint = old * 0.9 + 0.45 * f.smile * (0.3 + old)
    if squint > 0.02:
        ray = np.arctan2(z - 0.001, x - 0.044)
        far = np.hypot(z - 0.001, x - 0.044)
        total -= (
            0.0008
            * squint
            * np.clip(np.cos(ray * 14), 0, 1) ** 3
            * step(0.004, 0.009, far)
            * step(0.026, 0.014, far)
            * step(1.1, 0.7, np.abs(ray))
            * step(0.05, 0.03, y)
        )
    total -= 0.0014 * old * bump(z - 0.12 * (x - 0.03), -0.0215, 0.0020) * bump(x, 0.030, 0.013) * front
    total -= 0.0009 * old * bump(z, -0.0155, 0.0015) * bump(x, 0.031, 0.012) * front
    # From the wings of the nose to the corners of the mouth, and below them.
    fold = x - (0.0195 + 0.42 * np.clip(-0.044 - z, 0, 0.05))
    strength = 0.0022 * (old + 0.45 * f.smile + 0.12)
    total -= strength * bump(fold, 0, 0.0026) * step(-0.080, -0.070, z) * step(-0.040, -0.047, z) * front
    total -= (
        0.0014
        * old
        * bump(x - 0.0285 - 0.1 * (-0.08 - z), 0, 0.002)
        * step(-0.105, -0.095, z)
        * step(-0.074, -0.08, z)
        * front
    )
    for line in (-0.150, -0.166):
        total -= 0.0010 * (0.15 + old) * bump(z + 0.1 * x, line, 0.002) * step(0.06, 0.045, x) * step(0.06, 0.03, y)
    return total


def _clothes(paint: Paint, t: Array, u: Array, v: Array, f: Factors, details: Details) -> Paint:
    depth = -collar(t, f.neckline)  # metres below the collar's edge
    share = step(-0.0006, 0.0012, depth)
    cloth = dye(f.clothes_hue, f.clothes_value, 0.6)
    weave = 1 + 0.05 * noise(noise_tile(9, 60, 160), u * 4, v * 4)
    rib = 1 - 0.22 * bump(depth, 0.014, 0.0012)
    cloth, printed = details.on_clothes(np.broadcast_to(cloth, t.shape), t)
    paint.detail = np.where(share > 0.5, printed, paint.detail)
    paint.colour = _mix(paint.colour, cloth * (weave * rib)[:, None], share)
    paint.gloss = paint.gloss * (1 - share) + 0.02 * share
    paint.height = paint.height * (1 - share) + share * (
        0.0008 * noise(noise_tile(10, 3, 14), u, v) - 0.0012 * bump(depth, 0.014, 0.0015)
    )
    paint.scatter = paint.scatter * (1 - share)
    return paint


def collar(t: Array, neckline: float) -> Array:
    """Metres above the edge of the clothes on template coordinates N×3; negative on them."""
    x, y = np.abs(t[:, 0]), t[:, 1]
    edge = -0.172 + 0.055 * step(0.0, 0.14, y) - (0.012 + 0.055 * neckline) * step(0.075, 0.0, x) * step(0.12, 0.03, y)
    return t[:, 2] - edge + 0.12 * np.maximum(x - 0.085, 0)


def _mouth(t: Array, masks: Array, f: Factors, details: Details) -> Paint:
    deep = step(-0.03, 0.03, t[:, 1])[:, None]
    colour = np.array([0.30, 0.07, 0.06], np.float32) * (1 - deep) + np.array([0.03, 0.006, 0.005], np.float32) * deep
    count = len(t)
    flat = np.zeros(count, np.float32)
    return Paint(colour.astype(np.float32), flat + 0.4, flat + 40, flat, flat, flat)


def _eye(local: Array, f: Factors, gaze: Array) -> Paint:
    """local: template coordinates from the eyeball's centre, N×3; gaze: where it looks, in the same frame."""
    out = normalise(local)
    angle = np.degrees(np.arccos(np.clip(out @ gaze, -1, 1)))
    # Directions round the gaze, for the iris' rays.
    across = normalise(np.cross(gaze, np.array([0, 0, 1.0], np.float32)))
    turn = np.arctan2(out @ np.cross(across, gaze), out @ across)
    rays = noise(noise_tile(11, 8, 40, 0.2), turn / (2 * np.pi), angle / 90)
    white = np.array([0.50, 0.47, 0.44], np.float32) * (1 - 0.12 * step(30, 65, angle)[:, None])
    veins = np.clip(noise(noise_tile(12, 20, 60), out[:, 0] * 1.5, out[:, 2] * 1.5) - 1.1, 0, 1) * step(28, 50, angle)
    white = _mix(white, np.array([0.55, 0.20, 0.17], np.float32), 0.35 * veins)
    iris = 0.8 * palette(IRIS, f.iris) * (1 + 0.25 * rays + 0.9 * bump(angle, 14, 4))[:, None]
    iris = iris * (1 - 0.75 * step(21.5, 26, angle))[:, None]
    colour = _mix(white, iris, step(28.0, 26.0, angle))
    colour = _mix(colour, np.full(3, 0.006, np.float32), step(10.5, 9.0, angle))
    # The upper lid and its lashes keep light from the upper third.
    colour = colour * (1 - 0.45 * step(0.10, 0.55, out[:, 2]))[:, None]
    count = len(local)
    return Paint(colour.astype(np.float32), np.full(count, 0.7, np.float32), np.full(count, 220, np.float32),
                 np.zeros(count, np.float32), np.full(count, 0.3, np.float32),
                 np.zeros(count, np.float32))  # fmt: skip
