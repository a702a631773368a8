"""Find the direction of each trait of a domain: in W from generated pictures, or in W+ from pictures with labels.

    python scripts/find_boundaries.py --domain avatars
    python scripts/find_boundaries.py --domain avatars --input_dir experiments/avatars/train

Traits stand in the domain's YAML. Without --input_dir its attribute predictor tells what the generator's pictures show
(InterfaceGAN); with it the labels do, and the domain's encoder gives the latents (FS boundaries). Power 5 gives the
trait to nine of ten pictures that lack it. Files, and a YAML of the entries for `editings`, go to the domain's folder
of direction files.
"""

import argparse
from pathlib import Path

from arguments.flags import at_least
from utils.cli import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--domain", required=True, help="a file of configs/domains without .yaml, or the path of one")
    parser.add_argument("--input_dir", type=Path, help="pictures with labels.jsonl")
    parser.add_argument("--samples", type=at_least(100), default=8000, help="pictures, at most (default: 8000)")
    parser.add_argument("--output_dir", type=Path, help="default: the domain's editings_dir")
    args = parser.parse_args()
    from runners.directions_runner import DirectionsRunner  # torch is imported only once the options are right

    runner = DirectionsRunner(args.domain, args.samples, args.output_dir)
    if args.input_dir:
        runner.labelled_boundaries(args.input_dir)
    else:
        runner.boundaries()


if __name__ == "__main__":
    run(main)
