"""Draw people and their true edits for train.true_edits: before/, after/ and edits.jsonl.

    python scripts/make_true_edits.py --config configs/people_editor_train.yaml --count 6000 \\
        --output_dir experiments/people/true_edits

Directions and powers are those of train.editings_data in the configuration. Resumes where an earlier call was
interrupted. Needs: pip install -e '.[people]'
"""

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from PIL import Image

from arguments.flags import Parser, at_least, path
from arguments.loader import load_options
from arguments.train_options import TrainConfig
from datasets.people.edits import drawn_edit, edited
from datasets.people.head import head_model
from datasets.true_edits import write_edits
from utils.cli import run
from utils.images import save_image
from utils.parallel import in_processes


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--config", type=path, required=True, help="YAML file of stage 2")
    parser.add_argument("--count", type=at_least(1), default=6000, help="pairs (default: 6000)")
    parser.add_argument("--output_dir", type=path, required=True)
    parser.add_argument("--workers", type=at_least(1), default=os.cpu_count(), help="processes")
    args = parser.parse_args()

    config = load_options(TrainConfig, [f"exp.config_dir={args.config.parent}", f"exp.config={args.config.name}"])
    head_model()  # built before the processes need it
    make = partial(_make, args.output_dir, config.train.editings_data)
    write_edits(args.output_dir, in_processes(make, args.count, args.workers, "pairs"))


def _make(folder: Path, powers: Mapping[str, Sequence[float]], index: int) -> tuple[str, str, float]:
    """Draw one person and the edit, unless they are there, and return the line of edits.jsonl."""
    person, direction, power = drawn_edit(index, powers)
    name = f"{index:06d}_{direction.replace(' ', '_')}_{power:g}.png"
    for side, subject in (("before", person), ("after", edited(person, direction, power))):
        if not (folder / side / name).exists():
            save_image(Image.fromarray(subject.crop().rgb), folder / side / name)
    return name, direction, power


if __name__ == "__main__":
    run(main)
