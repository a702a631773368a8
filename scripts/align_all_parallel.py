"""Cut the face out of every photograph of a folder, as FFHQ's crops of 1024 px."""

import argparse
import logging

from arguments.flags import Parser, at_least, path
from utils.cli import run

EXAMPLES = """examples:
  python scripts/align_all_parallel.py --root_path photos --num_threads 8
      photos/trip/a.png becomes photos_crops/trip/a.jpg

A run that was interrupted resumes when it is started again; images that were replaced are cut again. Sideways faces
are rotated. Hidden folders and files of other formats are left out; the last line names them.
Exit code 3: some images failed; they are listed.
"""


def parse() -> argparse.Namespace:
    parser = Parser(__doc__, EXAMPLES)
    parser.add_argument("--root_path", required=True, type=path, help="folder of the photographs")
    parser.add_argument("--output_dir", type=path, help="folder of the crops (default: {root_path}_crops)")
    parser.add_argument("--num_threads", type=at_least(1), default=4, help="processes at once (%(default)s)")
    return parser.parse_args()


def main() -> int:
    arguments = parse()
    from runners.alignment_runner import align_folder  # dlib and torch are imported only once the options are right

    failures, left_out = align_folder(arguments.root_path, arguments.num_threads, arguments.output_dir)
    for failure in failures:
        logging.error(failure)
    logging.info("%d images failed", len(failures))
    if left_out:
        logging.info(left_out)
    return 3 if failures else 0


if __name__ == "__main__":
    run(main)
