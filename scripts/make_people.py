"""Draw people (the domain `people`): a folder of PNGs, labels.jsonl with the traits of each (null: it does not show),
and scores.npz with the standard normal numbers that it was drawn from and what of them shows, a row an image.

    python scripts/make_people.py --split train --count 30000 --output_dir experiments/people/train

Resumes where an earlier call was interrupted. Needs: pip install -e '.[people]'
"""

import os
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from arguments.flags import Parser, at_least, path
from datasets.labels import write_labels
from datasets.people.appearance import appearance
from datasets.people.factors import COLUMNS, MIRROR
from datasets.people.head import head_model
from datasets.people.splits import CROP_SIZE, PHOTO_SIZE, SPLITS, subject
from datasets.scores import write_scores
from utils.cli import run
from utils.images import save_image
from utils.parallel import in_processes

FILE = "{:06d}.png"


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--split", choices=SPLITS, default="train")
    parser.add_argument("--count", type=at_least(1), default=30000, help="people (default: 30000)")
    parser.add_argument("--size", type=at_least(16), help=f"pixels (default: {CROP_SIZE}, photographs {PHOTO_SIZE})")
    parser.add_argument("--photos", action="store_true", help="draw head and shoulders instead of aligned crops")
    parser.add_argument("--output_dir", type=path, required=True)
    parser.add_argument("--workers", type=at_least(1), default=os.cpu_count(), help="processes")
    args = parser.parse_args()
    head_model()  # built before the processes need it
    people = [subject(args.split, index) for index in range(args.count)]
    args.output_dir.mkdir(parents=True, exist_ok=True)
    names = [FILE.format(index) for index in range(args.count)]
    write_labels(args.output_dir, [(name, person.shown()) for name, person in zip(names, people, strict=True)])
    scores = np.stack([person.scores for person in people])
    write_scores(args.output_dir, names, scores, COLUMNS, MIRROR, np.stack([appearance(p.factors) for p in people]))
    size = args.size or (PHOTO_SIZE if args.photos else CROP_SIZE)
    in_processes(partial(_make, args.output_dir, args.split, size, args.photos), args.count, args.workers, "people")


def _make(folder: Path, split: str, size: int, photo: bool, index: int) -> None:
    """Draw one person, unless the image is there."""
    target = folder / FILE.format(index)
    if not target.exists():
        person = subject(split, index)
        drawing = person.photo(np.random.default_rng(index), size)[0] if photo else person.crop(size)
        save_image(Image.fromarray(drawing.rgb), target)


if __name__ == "__main__":
    run(main)
