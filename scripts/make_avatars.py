"""Draw avatars (the domain `avatars`): a folder of PNGs, and labels.jsonl with every attribute of each
(null: it does not show).

    python scripts/make_avatars.py --split train --count 40000 --output_dir data/avatars/train

Resumes where an earlier call was interrupted.
"""

import os
from functools import partial
from pathlib import Path

from arguments.flags import Parser, at_least, path
from datasets.avatars import SPLITS, draw, render
from datasets.labels import write_labels
from utils.cli import run
from utils.images import save_image
from utils.parallel import in_processes


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--split", choices=SPLITS, default="train")
    parser.add_argument("--count", type=at_least(1), default=40000, help="avatars (default: 40000)")
    parser.add_argument("--size", type=at_least(16), default=64, help="pixels (default: 64)")
    parser.add_argument("--output_dir", type=path, required=True)
    parser.add_argument("--workers", type=at_least(1), default=os.cpu_count(), help="processes")
    args = parser.parse_args()

    make = partial(_make, args.output_dir, args.split, args.size)
    write_labels(args.output_dir, in_processes(make, args.count, args.workers, "avatars"))


def _make(folder: Path, split: str, size: int, index: int) -> tuple[str, dict[str, str | None]]:
    """Draw one avatar, unless it is there, and return its file's name and labels."""
    avatar, path = draw(split, index), folder / f"{index:06d}.png"
    if not path.exists():
        save_image(render(avatar, size), path)
    return path.name, avatar.shown()


if __name__ == "__main__":
    run(main)
