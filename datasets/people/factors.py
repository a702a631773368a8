"""What a rendered person is made of: one number for each factor, and how factors are drawn."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

N_IDENTITY = 20  # principal components of the face's shape

Scores = NDArray[np.float64]  # one standard normal number for each factor


@dataclass(frozen=True)
class Factors:
    """A person, the view and the light. `dataclasses.replace(factors, age=70)` changes the age and nothing else.

    Colours that are a single number run along a palette of `materials.py`. Where a factor says "0 to 1", 0 is none.
    """

    age: float = 30.0  # years, 12 to 80
    masculinity: float = 0.5  # 0 female to 1 male
    weight: float = 0.5  # 0 thin to 1 heavy
    identity: tuple[float, ...] = (0.0,) * N_IDENTITY  # principal components of face shapes, in standard deviations
    skin_tone: float = 0.3  # 0 light to 1 dark
    skin_redness: float = 0.0  # standard deviations
    smile: float = 0.0  # 0 to 1
    mouth_open: float = 0.0  # 0 to 1
    frown: float = 0.0  # 0 to 1: corners of the mouth and brows down
    brow_raise: float = 0.0  # -1 lowered to 1 raised
    eye_open: float = 0.0  # -1 nearly closed to 1 wide
    gaze_x: float = 0.0  # degrees from the camera, positive to the image's right
    gaze_y: float = 0.0  # degrees, positive up
    yaw: float = 0.0  # degrees, positive: the face turns to the image's right; -30 to 30
    pitch: float = 0.0  # degrees, positive up; -15 to 15
    roll: float = 0.0  # degrees, positive: the head tilts to the image's right; -15 to 15
    hair_length: float = 0.3  # 0 bald, 0.05 cropped, 0.3 short, 0.6 chin, 1 below the shoulders
    hair_volume: float = 0.5  # 0 flat to 1 full
    hair_part: float = 0.0  # -1 left to 1 right
    fringe: float = 0.0  # -1 combed back to 1 over the forehead
    curl: float = 0.0  # 0 straight to 1 curly
    hair_light: float = 0.3  # 0 black to 1 blond
    hair_red: float = 0.0  # 0 to 1
    grey: float = 0.0  # share of grey hairs, 0 to 1
    hairline: float = 0.0  # -0.3 low to 1 receding
    beard: float = 0.0  # 0 none, 0.2 stubble, 1 long
    beard_cheeks: float = 0.7  # 0 chin only to 1 full
    moustache: float = 1.0  # 0 to 1
    brow_thickness: float = 0.5  # 0 to 1
    brow_height: float = 0.0  # standard deviations
    glasses: float = 0.0  # 0 or 1
    lens_size: float = 0.5  # 0 to 1
    lens_shape: float = 0.5  # 0 round to 1 rectangular
    frame_thickness: float = 0.4  # 0 wire to 1 thick
    frame_colour: float = 0.0  # 0 black to 1 red
    sunglasses: float = 0.0  # 0 clear to 1 dark lenses
    makeup: float = 0.0  # 0 to 1: lips, lids, cheeks, lashes
    lip_colour: float = 0.3  # 0 rose to 1 plum
    lid_colour: float = 0.3  # 0 brown to 1 blue
    hat: float = 0.0  # 0 or 1
    hat_style: float = 0.0  # below 0.5 a knitted cap, above a peaked cap
    hat_hue: float = 0.6  # 0 to 1, round the colour circle
    hat_value: float = 0.4  # 0 dark to 1 light
    clothes_hue: float = 0.6  # 0 to 1, round the colour circle
    clothes_value: float = 0.4  # 0 dark to 1 light
    neckline: float = 0.3  # 0 round and high to 1 open collar
    light_azimuth: float = 20.0  # degrees, positive from the image's right
    light_elevation: float = 35.0  # degrees above the horizon
    light_warmth: float = 0.0  # -1 bluish to 1 yellowish
    light_contrast: float = 0.5  # 0 soft to 1 hard
    backdrop_hue: float = 0.6  # 0 to 1, round the colour circle
    backdrop_value: float = 0.5  # 0 dark to 1 light
    backdrop_colour: float = 0.3  # 0 grey to 1 colourful
    iris: float = 0.2  # 0 dark brown to 1 light blue

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Factors":
        """A random person."""
        return cls.from_scores(rng.standard_normal(N_SCORES))

    @classmethod
    def from_scores(cls, scores: Scores) -> "Factors":
        """The person of N_SCORES standard normal numbers. Factors are independent but where nature forbids."""
        plain = zip(CURVES, scores, strict=False)
        values: dict[str, Any] = {name: curve(float(score)) for (name, curve), score in plain}
        values["identity"] = tuple(np.clip(scores[len(CURVES) :], -2.5, 2.5).tolist())
        if values["age"] < 18 or values["masculinity"] < 0.5:
            values["beard"] = 0.0
        if values["age"] < 25:
            values["hairline"] = min(values["hairline"], 0.0)
        if values["age"] < 15 or values["masculinity"] > 0.55:
            values["makeup"] = 0.0
        return cls(**values)

    def labels(self) -> dict[str, float]:
        """Every factor by name; the components of the identity are identity_00, identity_01, …"""
        values = asdict(self)
        identity = values.pop("identity")
        return values | {f"identity_{i:02d}": value for i, value in enumerate(identity)}

    @classmethod
    def from_labels(cls, labels: dict[str, float]) -> "Factors":
        """The inverse of `labels`."""
        plain = {field.name: labels[field.name] for field in fields(cls) if field.name != "identity"}
        return cls(identity=tuple(labels[f"identity_{i:02d}"] for i in range(N_IDENTITY)), **plain)


Curve = Callable[[float], float]  # standard normal score -> factor
_phi = NormalDist().cdf


def _normal(mean: float, deviation: float, low: float, high: float) -> Curve:
    return lambda score: min(max(mean + deviation * score, low), high)


def _uniform(low: float, high: float) -> Curve:
    return lambda score: low + (high - low) * _phi(score)


def _present(share: float) -> Curve:
    return lambda score: float(_phi(score) > 1 - share)


def _hair_length(score: float) -> float:
    """5 % bald, 45 % short, the others down to below the shoulders."""
    u = _phi(score)
    return 0.0 if u < 0.05 else float(np.interp(u, [0.05, 0.15, 0.5, 0.65, 1.0], [0.04, 0.16, 0.4, 0.6, 1.0]))


# Factors in the order of their scores; the identity's components come after them.
CURVES: list[tuple[str, Curve]] = [
    ("age", _uniform(12, 80)),
    ("masculinity", lambda score: math.sin(math.pi / 2 * _phi(score)) ** 2),
    ("weight", _normal(0.5, 0.18, 0.1, 0.95)),
    ("skin_tone", _uniform(0, 1)),
    ("skin_redness", _normal(0, 1, -2, 2)),
    ("smile", _normal(0.3, 0.5, 0, 1)),
    ("mouth_open", _normal(-0.2, 0.35, 0, 0.8)),
    ("frown", _normal(-0.5, 0.5, 0, 1)),
    ("brow_raise", _normal(0, 0.4, -1, 1)),
    ("eye_open", _normal(0, 0.4, -1, 1)),
    ("gaze_x", _normal(0, 5, -15, 15)),
    ("gaze_y", _normal(0, 3, -8, 8)),
    ("yaw", _normal(0, 13, -30, 30)),
    ("pitch", _normal(0, 6, -15, 15)),
    ("roll", _normal(0, 5, -15, 15)),
    ("hair_length", _hair_length),
    ("hair_volume", _uniform(0, 1)),
    ("hair_part", _normal(0, 0.5, -1, 1)),
    ("fringe", _normal(0, 0.5, -1, 1)),
    ("curl", _normal(0.1, 0.4, 0, 1)),
    ("hair_light", _uniform(0, 1)),
    ("hair_red", _normal(-0.2, 0.4, 0, 1)),
    ("grey", _normal(-0.5, 0.7, 0, 1)),
    ("hairline", _normal(0, 0.4, -0.3, 1)),
    ("beard", _normal(-0.1, 0.6, 0, 1)),
    ("beard_cheeks", _uniform(0, 1)),
    ("moustache", _normal(0.7, 0.6, 0, 1)),
    ("brow_thickness", _uniform(0, 1)),
    ("brow_height", _normal(0, 1, -2, 2)),
    ("glasses", _present(0.28)),
    ("lens_size", _uniform(0, 1)),
    ("lens_shape", _uniform(0, 1)),
    ("frame_thickness", _uniform(0, 1)),
    ("frame_colour", _uniform(0, 1)),
    ("sunglasses", _present(0.15)),
    ("makeup", _normal(0.1, 0.6, 0, 1)),
    ("lip_colour", _uniform(0, 1)),
    ("lid_colour", _uniform(0, 1)),
    ("hat", _present(0.1)),
    ("hat_style", _uniform(0, 1)),
    ("hat_hue", _uniform(0, 1)),
    ("hat_value", _uniform(0, 1)),
    ("clothes_hue", _uniform(0, 1)),
    ("clothes_value", _uniform(0, 1)),
    ("neckline", _uniform(0, 1)),
    ("light_azimuth", _normal(0, 30, -70, 70)),
    ("light_elevation", _normal(35, 15, 0, 70)),
    ("light_warmth", _normal(0, 0.5, -1, 1)),
    ("light_contrast", _uniform(0, 1)),
    ("backdrop_hue", _uniform(0, 1)),
    ("backdrop_value", _uniform(0, 1)),
    ("backdrop_colour", _uniform(0, 1)),
    ("iris", _uniform(0, 1)),
]
N_SCORES = len(CURVES) + N_IDENTITY
COLUMNS = [name for name, _ in CURVES] + [f"identity_{i:02d}" for i in range(N_IDENTITY)]  # what each score is of
# The signs of the scores of a mirrored person: those of what has a side change.
MIRROR = np.array([
    -1 if name in ("gaze_x", "yaw", "roll", "hair_part", "light_azimuth") else 1 for name, _ in CURVES
] + [1] * N_IDENTITY)  # fmt: skip
