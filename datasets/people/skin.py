"""Skin, lips, brows, stubble, scalp and clothes, painted on template coordinates (`HeadModel.template`)."""

import numpy as np

from datasets.people.colours import GREY, clothes_colour, hair_colour
from datasets.people.details import Details
from datasets.people.facial_hair import beard_area, beard_share, brow_shape
from datasets.people.factors import Factors
from datasets.people.fields import Array, bump, noise, noise_tile, palette, step
from datasets.people.hair import hairline
from datasets.people.head import EARS, EYELIDS, LIPS, MOUTH, SKIN, HeadModel
from datasets.people.iris import paint_eye
from datasets.people.paint import Paint, mix, plain
from datasets.people.wrinkles import wrinkles

# Colours in linear light, in rows along a factor from 0 to 1.
SKIN_TONES = [(0.86, 0.62, 0.51), (0.77, 0.52, 0.40), (0.66, 0.42, 0.29), (0.47, 0.28, 0.18), (0.29, 0.165, 0.105),
              (0.155, 0.085, 0.055)]  # fmt: skip
LIP_COLOURS = [(0.55, 0.16, 0.17), (0.50, 0.05, 0.06), (0.42, 0.03, 0.09), (0.24, 0.03, 0.10)]
LID_COLOURS = [(0.14, 0.07, 0.045), (0.22, 0.10, 0.12), (0.12, 0.12, 0.16), (0.07, 0.12, 0.26)]


class Spot:
    """N points on the skin in template coordinates, and what the painters need of them."""

    def __init__(self, t: Array, masks: Array) -> None:
        """t N×3, masks N×5."""
        self.t, self.masks = t, masks
        self.x, self.y, self.z = np.abs(t[:, 0]), t[:, 1], t[:, 2]  # x: from the middle of the face, both sides alike
        self.front = step(0.03, -0.01, self.y)  # 1 on the face, 0 from the temples on
        # Where noise is taken: round the head and up it, in tiles of 0.25 m.
        self.u, self.v = np.arctan2(t[:, 0], 0.07 - self.y) * 0.09 / 0.25, self.z / 0.25


def paint_head(
    t: Array, masks: Array, parts: Array, model: HeadModel, factors: Factors, details: Details, gaze: Array
) -> Paint:
    """Paint of points on the head: template coordinates t N×3, masks N×5, parts N; gaze: 3, where the eyes look."""
    count = len(t)
    paint = Paint(*(np.empty((count, 3), np.float32), *(np.empty(count, np.float32) for _ in range(6))))
    for part in (SKIN, MOUTH, 1, 2):
        chosen = parts == part
        if not chosen.any():
            continue
        if part == SKIN:
            painted = _paint_skin(Spot(t[chosen], masks[chosen]), factors, details)
        elif part == MOUTH:
            painted = _paint_mouth(t[chosen])
        else:
            painted = paint_eye(t[chosen] - model.eyes[part - 1], factors, gaze)
        for name, values in vars(painted).items():
            getattr(paint, name)[chosen] = values
    return paint


def _paint_skin(at: Spot, f: Factors, details: Details) -> Paint:
    tone = _tone(f)
    pores = noise(noise_tile(2, 60, 200), at.u * 3, at.v * 3)
    cheeks, nose = _cheeks(at), _nose(at)
    colour = _flesh(at, f, tone, pores, cheeks, nose)
    colour, lips, seam = _made_up(colour, at, f, tone)
    colour, detail = details.on_skin(colour, at.t)
    colour, brow = _brows(colour, at, f)
    colour, stubble, scalp = _hair_roots(colour, at, f)
    height = 0.00005 * pores * (1 - scalp) + wrinkles(at.t, at.front, ageing(f), f) - 0.0012 * seam
    oily = 0.30 * bump(at.t[:, 0], 0, 0.02) * bump(at.z, 0.03, 0.03) + 0.35 * nose + 0.12 * cheeks
    gloss = (0.16 + oily * 0.5 + 0.45 * lips * (0.5 + f.makeup)) * (1 - 0.7 * np.clip(stubble + scalp, 0, 1))
    sharpness = np.where(lips > 0.5, 45.0, 18.0).astype(np.float32)
    scatter = 1 - np.clip(scalp + 0.5 * stubble + brow * 0.5, 0, 1)
    cover = 0.020 * scalp * f.hair_length**0.5
    return _clothed(Paint(colour, gloss, sharpness, height, scatter, detail, cover), at, f, details)


def ageing(f: Factors) -> float:
    """How far skin has aged: 0 up to 38 years, 1 at 80."""
    return max(f.age - 38, 0) / 42


def _tone(f: Factors) -> Array:
    return palette(SKIN_TONES, f.skin_tone) * (1 + 0.03 * f.skin_redness * np.array([0.8, -0.6, -0.5], np.float32))


def _cheeks(at: Spot) -> Array:
    return bump(at.x, 0.043, 0.018) * bump(at.z, -0.035, 0.018) * at.front


def _nose(at: Spot) -> Array:
    """The tip."""
    return bump(at.t[:, 0], 0, 0.013) * bump(at.z, -0.040, 0.012) * at.front


def _flesh(at: Spot, f: Factors, tone: Array, pores: Array, cheeks: Array, nose: Array) -> Array:
    """Bare skin: mottled, redder where blood is near, darker in the sockets, with spots of age."""
    x, z, front, old = at.x, at.z, at.front, ageing(f)
    mottle = noise(noise_tile(1, 4, 40), at.u, at.v)
    colour = tone * (1 + (0.025 + 0.03 * old) * mottle[:, None] + 0.012 * pores[:, None])
    ruddy = np.array([0.62, 0.24, 0.19], np.float32) * (0.35 + 0.65 * tone.mean() / 0.5)
    chin = bump(z, -0.105, 0.02) * front
    share = (0.16 + 0.06 * f.skin_redness) * (cheeks + 0.8 * nose + 0.7 * at.masks[:, EARS]) + 0.05 * chin
    colour = mix(colour, ruddy, np.clip(share, 0, 0.5))
    socket = bump(x, 0.030, 0.020) * bump(z, -0.012, 0.010) * front
    colour = colour * (1 - (0.08 + 0.16 * old) * socket[:, None] * np.array([0.8, 1.0, 0.9], np.float32))
    spots = np.clip(noise(noise_tile(3, 20, 60), at.u, at.v) - 1.6, 0, 1)
    return mix(colour, tone * np.array([0.55, 0.45, 0.40], np.float32), old * 0.5 * spots)


def _made_up(colour: Array, at: Spot, f: Factors, tone: Array) -> tuple[Array, Array, Array]:
    """Cheeks, lids, lips and lash lines, bare or made up; also where lips are, and the seam between them."""
    x, z, front = at.x, at.z, at.front
    blush = palette(LIP_COLOURS, f.lip_colour) * 0.5 + tone * 0.6
    cheekbone = 0.40 * f.makeup * bump(x, 0.048, 0.016) * bump(z, -0.032 + 0.3 * (x - 0.048), 0.012) * front
    colour = mix(colour, blush, cheekbone)
    lid = np.clip(at.masks[:, EYELIDS] * 1.3, 0, 1) * step(-0.001, 0.003, z)
    shade = bump(x, 0.033, 0.018) * bump(z, 0.008, 0.009) * front
    colour = mix(colour, palette(LID_COLOURS, f.lid_colour), 0.75 * f.makeup * np.maximum(lid, 0.7 * shade))
    natural = tone * np.array([0.80, 0.50, 0.48], np.float32) + np.array([0.03, 0.0, 0.005], np.float32)
    lip = natural + (palette(LIP_COLOURS, f.lip_colour) - natural) * 0.9 * f.makeup
    seam = bump(z, -0.0735, 0.0016) * step(0.026, 0.022, x)
    lips = step(0.25, 0.65, at.masks[:, LIPS])
    creases = 1 + 0.06 * noise(noise_tile(4, 40, 120, 4.0), at.u * 2, at.v * 0.5)
    colour = mix(colour, lip * creases[:, None], lips)
    # Lash line and liner: the skin next to the eyeball.
    distance = np.hypot(np.hypot(x - 0.0313, at.y), z)
    margin = step(0.0190, 0.0172, distance) * front
    upper = step(-0.002, 0.002, z)
    lash = margin * (upper * (0.75 + 0.25 * f.makeup) + (1 - upper) * (0.25 + 0.5 * f.makeup))
    black = np.array([0.012, 0.008, 0.007], np.float32)
    return mix(colour, black, np.clip(lash * (0.8 + 0.4 * f.makeup), 0, 0.95)), lips, seam


def _brows(colour: Array, at: Spot, f: Factors) -> tuple[Array, Array]:
    """The skin below the brows' hairs, and its share."""
    x, z = at.x, at.z
    shape = brow_shape(at.t, f)
    # Hairs run outwards and up.
    hairs = noise(noise_tile(8, 60, 200, 0.35), (x * 0.9 + z * 0.5) * 9, (z - x * 0.5) * 30 * 0.25)
    share = np.clip(shape * (0.65 + 0.30 * hairs), 0, 1) * (0.50 + 0.25 * f.brow_thickness)
    dark = hair_colour(f) * 0.75 * (1 - 0.7 * f.grey) + GREY * 0.55 * 0.7 * f.grey
    return mix(colour, np.minimum(dark, colour * 0.75 + 0.02), share), share


def _hair_roots(colour: Array, at: Spot, f: Factors) -> tuple[Array, Array, Array]:
    """Stubble and scalp; also the share of each."""
    stubble = beard_area(at.t, at.masks) * beard_share(at.t, f) * min(1.0, f.beard * 4)
    fleck = np.clip(0.72 + 0.45 * noise(noise_tile(5, 120, 250), at.u * 5, at.v * 5), 0, 1)
    dark = hair_colour(f) * (1 - 0.6 * f.grey) + GREY * 0.5 * f.grey
    colour = mix(colour, dark * 0.8, np.clip(stubble * fleck * (0.5 + 0.45 * min(1, f.beard * 2)), 0, 0.92))
    if f.hair_length == 0:
        return colour, stubble, np.zeros(len(at.t), np.float32)
    edge = hairline(at.t, f.hairline) + 0.004 * noise(noise_tile(6, 30, 120), at.u * 2, at.v * 2)
    scalp = step(-0.003, 0.006, edge) * (1 - step(0.2, 0.5, at.masks[:, EARS])) * min(1.0, 0.55 + f.hair_length * 3)
    uneven = 0.62 + 0.2 * noise(noise_tile(7, 60, 200), at.u * 3, at.v * 3)
    return mix(colour, dark * uneven[:, None], np.clip(scalp, 0, 0.96)), stubble, scalp


def _clothed(paint: Paint, at: Spot, f: Factors, details: Details) -> Paint:
    """The paint with clothes below the collar: woven, with a hem, in folds."""
    depth = -collar(at.t, f.neckline)  # metres below the collar's edge
    share = step(-0.0006, 0.0012, depth)
    cloth, printed = details.on_clothes(np.broadcast_to(clothes_colour(f), at.t.shape), at.t)
    weave = 1 + 0.05 * noise(noise_tile(9, 60, 160), at.u * 4, at.v * 4)
    hem = 1 - 0.22 * bump(depth, 0.014, 0.0012)
    folds = 0.0008 * noise(noise_tile(10, 3, 14), at.u, at.v) - 0.0012 * bump(depth, 0.014, 0.0015)
    return Paint(
        mix(paint.colour, cloth * (weave * hem)[:, None], share), paint.gloss * (1 - share) + 0.02 * share,
        paint.sharpness, paint.height * (1 - share) + share * folds, paint.scatter * (1 - share),
        np.where(share > 0.5, printed, paint.detail), paint.cover,
    )  # fmt: skip


def collar(t: Array, neckline: float) -> Array:
    """Metres above the edge of the clothes on template coordinates N×3; negative on them."""
    x, y = np.abs(t[:, 0]), t[:, 1]
    edge = -0.172 + 0.055 * step(0.0, 0.14, y) - (0.012 + 0.055 * neckline) * step(0.075, 0.0, x) * step(0.12, 0.03, y)
    return t[:, 2] - edge + 0.12 * np.maximum(x - 0.085, 0)


def _paint_mouth(t: Array) -> Paint:
    """Tongue and gums, dark in the depth."""
    deep = step(-0.03, 0.03, t[:, 1])[:, None]
    colour = np.array([0.30, 0.07, 0.06], np.float32) * (1 - deep) + np.array([0.03, 0.006, 0.005], np.float32) * deep
    return plain(colour, 0.4, 40)
