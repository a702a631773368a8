"""The editing metric: FID between CelebA-HQ originals that have an attribute and edits of images that had it not."""

import argparse
import logging
from pathlib import Path

from arguments.flags import Parser, at_least, path
from utils.cli import run

EXAMPLES = """examples:
  glasses put on:
    python scripts/fid_calculation.py --orig_path CelebA-HQ-img --synt_path results/glasses/edit_power_-10.0000 \\
        --attr_name Eyeglasses
  glasses taken off:
    python scripts/fid_calculation.py --orig_path CelebA-HQ-img --synt_path results/glasses/edit_power_10.0000 \\
        --attr_name Eyeglasses --attr_is_reversed

Exit code 3: some images could not be read or are not in the attribute table; they are listed.
"""


def parse() -> argparse.Namespace:
    parser = Parser(__doc__, EXAMPLES)
    add = parser.add_argument
    add("--orig_path", type=path, help="folder of the original images; not needed with --fid_stats")
    add("--synt_path", required=True, type=path, help="folder of the edited ones, with the originals' names")
    add("--attr_name", required=True, help="an attribute of the table, such as Eyeglasses")
    add("--attr_is_reversed", action="store_true", help="the edit removes the attribute")
    table = Path("CelebAMask-HQ-attribute-anno.txt")
    help_ = "or Kaggle's CSV of it (%(default)s)"
    add("--celeba_attr_table_pth", type=path, default=table, dest="attr_table", help=help_)
    add("--transforms", default="face_1024", help="face_1024 or face_256: the size they are resized to (%(default)s)")
    add("--batch_size", type=at_least(1), default=4, help="images at once (%(default)s)")
    add("--workers", type=at_least(0), default=4, help="threads that read images (%(default)s)")
    add("--device", default="0", help="0 (the first GPU), cuda:1, cpu; a GPU that is missing gives the CPU")
    add("--fid_stats", type=path, help=".npz of statistics to use instead of the originals")
    add("--save_fid_stats", type=path, help=".npz to keep those of the originals in")
    return parser.parse_args()


def main() -> int:
    options = vars(parse())
    from runners.metrics_runner import editing_fid  # torch is imported only once the options are right

    value, problems = editing_fid(**options)
    for problem in problems:
        logging.error(problem)
    print(f"FID is {value:.3f}")
    return 3 if problems else 0


if __name__ == "__main__":
    run(main)
