"""Lines of age and expression on skin."""

import numpy as np

from datasets.people.factors import Factors
from datasets.people.fields import Array, bump, step


def wrinkles(t: Array, front: Array, old: float, f: Factors) -> Array:
    """Relief of lines on forehead, round the eyes, beside nose and mouth, on the neck: N, metres, negative in a line.

    t: template coordinates N×3; front: N, 1 on the face; old: 0 to 1, see `skin.ageing`.
    """
    x, y, z = np.abs(t[:, 0]), t[:, 1], t[:, 2]
    total = np.zeros(len(t), np.float32)
    forehead = 0.25 * max(f.brow_raise, 0) + old
    if forehead > 0.02:
        # Across the forehead, bent down at the sides.
        wave = z + 0.004 * np.sin(x * 60) - 0.10 * x**2 * 10 * 0.1
        for line, strength in ((0.036, 0.8), (0.045, 1.0), (0.054, 0.9)):
            total -= 0.0011 * forehead * strength * bump(wave, line, 0.0016) * step(0.048, 0.030, x) * front
    # Upright between the brows.
    total -= 0.0010 * (0.5 * f.frown + 0.7 * old) * bump(x, 0.0045, 0.0013) * bump(z, 0.018, 0.009) * front
    # Crow's feet: rays from the outer corners of the eyes.
    squint = old * 0.9 + 0.45 * f.smile * (0.3 + old)
    if squint > 0.02:
        ray = np.arctan2(z - 0.001, x - 0.044)
        far = np.hypot(z - 0.001, x - 0.044)
        rays = 0.0008 * squint * np.clip(np.cos(ray * 14), 0, 1) ** 3
        rays = rays * step(0.004, 0.009, far) * step(0.026, 0.014, far) * step(1.1, 0.7, np.abs(ray))
        total -= rays * step(0.05, 0.03, y)
    # Below the eyes: the edge of the bag, and the line at the lid.
    total -= 0.0014 * old * bump(z - 0.12 * (x - 0.03), -0.0215, 0.0020) * bump(x, 0.030, 0.013) * front
    total -= 0.0009 * old * bump(z, -0.0155, 0.0015) * bump(x, 0.031, 0.012) * front
    # From the wings of the nose to the corners of the mouth, and below them.
    fold = x - (0.0195 + 0.42 * np.clip(-0.044 - z, 0, 0.05))
    strength = 0.0022 * (old + 0.45 * f.smile + 0.12)
    total -= strength * bump(fold, 0, 0.0026) * step(-0.080, -0.070, z) * step(-0.040, -0.047, z) * front
    below = 0.0014 * old * bump(x - 0.0285 - 0.1 * (-0.08 - z), 0, 0.002)
    total -= below * step(-0.105, -0.095, z) * step(-0.074, -0.08, z) * front
    # Round the neck.
    for line in (-0.150, -0.166):
        total -= 0.0010 * (0.15 + old) * bump(z + 0.1 * x, line, 0.002) * step(0.06, 0.045, x) * step(0.06, 0.03, y)
    return total
