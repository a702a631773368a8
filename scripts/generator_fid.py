"""Measure every generator that a training kept: Fréchet distance to images, in the embedding of the predictor.

    python scripts/generator_fid.py --domain avatars --generators experiments/avatars_generator/generators \\
        --input_dir experiments/avatars/validation --output_dir experiments/avatars_generator

Writes fid.jsonl and fid.png, and names the best. The network is the domain's own, so numbers of two domains do not
compare.
"""

from arguments.flags import Parser, at_least, path
from utils.cli import run


def main() -> None:
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--domain", required=True, help="a file of configs/domains without .yaml, or the path of one")
    add("--generators", type=path, required=True, help="folder of step_{step}.pt")
    add("--input_dir", type=path, required=True, help="images of the domain, a thousand or more")
    add("--output_dir", type=path, required=True)
    add("--samples", type=at_least(2), default=2000, help="generated images of each (default: 2000)")
    args = parser.parse_args()
    from runners.generator_fid import measure_generators  # torch is imported only once the options are right

    rows = measure_generators(args.domain, args.generators, args.input_dir, args.output_dir, args.samples)
    best = min(rows, key=lambda row: row["fid_like"])
    print(f"best: step {best['step']}, {best['fid_like']:.3f}")


if __name__ == "__main__":
    run(main)
