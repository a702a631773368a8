"""Compare reconstructed images with their originals, paired by relative path without extension."""

import argparse
import logging

from arguments.flags import Parser, at_least, path
from utils.cli import run

EXAMPLES = """examples:
  python scripts/calculate_metrics.py --orig_path path/to/aligned --reconstr_path results/inversion \\
      --metrics fid l2 lpips --metrics_dir results/metrics --report results/metrics.html
  keep the FID statistics of the originals for later runs (or use those that pytorch-fid wrote):
  python scripts/calculate_metrics.py ... --metrics fid --save_fid_stats celeba.npz
  python scripts/calculate_metrics.py ... --metrics fid --fid_stats celeba.npz

metrics: l2 lpips msssim fid id id_vit id_dlib. torchrun --nproc_per_node=N shares the images out over N processes.
Exit code 3: some files had no partner or could not be read; they are listed.
"""


def parse() -> argparse.Namespace:
    parser = Parser(__doc__, EXAMPLES)
    add = parser.add_argument
    add("--orig_path", required=True, type=path, help="folder of the original images, aligned")
    add("--reconstr_path", required=True, type=path, help="folder of the reconstructed ones")
    add("--metrics", required=True, nargs="+", metavar="NAME", help="one or more of those below")
    add("--metrics_dir", type=path, help="folder for {NAME}.json with every image's number")
    add("--batch_size", type=at_least(1), default=4, help="images at once (%(default)s)")
    add("--workers", type=at_least(0), default=4, help="threads that read images (%(default)s)")
    add("--device", default="0", help="0 (the first GPU), cuda:1, cpu; a GPU that is missing gives the CPU")
    add("--fid_stats", type=path, help=".npz of statistics to use in fid instead of the originals")
    add("--save_fid_stats", type=path, help=".npz to keep those of the originals in")
    add("--report", type=path, help="HTML file with table, histograms, worst and best pairs")
    return parser.parse_args()


def main() -> int:
    options = vars(parse())
    from runners.metrics_runner import calculate_metrics  # torch is imported only once the options are right

    results = calculate_metrics(**options)
    for problem in results.problems:
        logging.error(problem)
    for name, pairs in results.skipped.items():
        logging.warning("%s: no face in %d pairs, which are left out: %s", name, len(pairs), ", ".join(pairs))
    print("\n".join(results.lines()))
    for line in results.left_out:
        logging.info(line)
    return 3 if results.problems else 0


if __name__ == "__main__":
    run(main)
