"""Find the channel of StyleSpace that changes each trait of a domain most purely.

    python scripts/find_channels.py --domain avatars

Traits stand in the domain's YAML; what a picture shows is told by its attribute predictor. Files and a YAML of the
entries for `editings` go to the domain's folder of direction files.
"""

import argparse
from pathlib import Path

from arguments.flags import at_least
from utils.cli import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--domain", required=True, help="a file of configs/domains without .yaml, or the path of one")
    parser.add_argument("--samples", type=at_least(100), default=8000, help="generated pictures (default: 8000)")
    parser.add_argument("--output_dir", type=Path, help="default: the domain's editings_dir")
    args = parser.parse_args()
    from runners.directions_runner import DirectionsRunner  # torch is imported only once the options are right

    DirectionsRunner(args.domain, args.samples, args.output_dir).channels()


if __name__ == "__main__":
    run(main)
