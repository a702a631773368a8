"""How well the aligner finds rendered people: photographs of the test split, whose eyes' true places are known.

    python benchmarks/people_alignment.py --count 300 --output_dir results_dir/people_photographs

Draws the photographs that the folder lacks (3 s of processor time each); needs: pip install -e '.[people]'.
"""

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from measure import machine
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from arguments.flags import at_least, path
from datasets.people.head import head_model
from datasets.people.splits import CROP_SIZE, PHOTO_SIZE, subject
from metrics.tables import markdown_table
from models.faces.landmarks import NoFaceError, find_landmarks
from utils.cli import run
from utils.images import load_image, save_image

NEAR = 2.0  # pixels of the crop
_CENTRE = 0.5  # landmarks count from the first pixel's centre, a window's pixels from its corner


@dataclass(frozen=True)
class Found:
    """A photograph's result."""

    glasses: bool
    errors: NDArray[np.float64] | None  # 2, pixels of a CROP_SIZE crop, of the eyes; None: no face was found


def measure(folder: Path, index: int) -> Found:
    """Person `index` of the test split: draw the photograph if the folder lacks it, and look for the eyes."""
    person, file = subject("test", index), folder / f"{index:06d}.png"
    if not file.exists():
        save_image(Image.fromarray(person.photo(np.random.default_rng(index))[0].rgb), file)
    posed, window = person.photographed(np.random.default_rng(index))
    points = window.pixels(np.concatenate([posed.eyes, posed.mouth[None]]), PHOTO_SIZE) - _CENTRE
    glasses = bool(person.factors.glasses)
    try:
        landmarks = find_landmarks(load_image(file))
    except NoFaceError:
        return Found(glasses, None)
    eyes = np.stack([landmarks[36:42].mean(axis=0), landmarks[42:48].mean(axis=0)])
    across, down = points[1] - points[0], points[2] - points[:2].mean(axis=0)
    crop = 2 * max(2.0 * np.hypot(*across), 1.8 * np.hypot(*down))  # FFHQ's side, in the photograph's pixels
    return Found(glasses, np.linalg.norm(eyes - points[:2], axis=1) * CROP_SIZE / crop)


def row(results: list[Found]) -> dict[str, float]:
    """Share of faces found; error of the eyes: mean, 95th percentile, and share within NEAR pixels."""
    errors = np.concatenate([result.errors for result in results if result.errors is not None] or [np.full(2, np.nan)])
    return {
        "found": float(np.mean([result.errors is not None for result in results])),
        "mean": float(errors.mean()), "p95": float(np.percentile(errors, 95)), "near": float((errors <= NEAR).mean()),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=at_least(1), default=300, help="photographs (default: 300)")
    parser.add_argument("--output_dir", type=path, default=Path("results_dir/people_photographs"), help="(%(default)s)")
    parser.add_argument("--workers", type=at_least(1), default=os.cpu_count(), help="processes")
    args = parser.parse_args()
    head_model()  # built before the processes need it
    args.output_dir.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(args.workers) as pool:
        work = pool.map(partial(measure, args.output_dir), range(args.count))
        results = list(tqdm(work, "photographs", args.count))
    groups = {
        "all": results, "bare eyes": [result for result in results if not result.glasses],
        "glasses": [result for result in results if result.glasses],
    }  # fmt: skip
    columns = {
        "found": "faces found", "mean": f"eyes off by, px of {CROP_SIZE}", "p95": "95th percentile",
        "near": f"eyes within {NEAR:g} px",
    }  # fmt: skip
    rows = {f"{name} ({len(group)})": row(group) for name, group in groups.items() if group}
    print(machine(), markdown_table(rows, columns, "photographs of the test split"), sep="\n\n")


if __name__ == "__main__":
    run(main)
