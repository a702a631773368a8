"""Find the direction of each trait of a domain. Traits are in the domain's YAML.

    python scripts/find_directions.py boundaries --domain avatars
    python scripts/find_directions.py boundaries --domain avatars --input_dir experiments/avatars/train
    python scripts/find_directions.py components --domain avatars
    python scripts/find_directions.py channels --domain avatars
    python scripts/find_directions.py scores --domain people --input_dir experiments/people/train \
        --recipes configs/people_directions.yaml

boundaries: InterfaceGAN in W, from generated images that the domain's attribute predictor labels; or with --input_dir
FS boundaries in W+, from images with labels that the domain's encoder inverts. Power 5 gives the trait to nine of ten
images that lack it.
components: GANSpace, and for each trait the principal component of w that changes it most purely.
channels: StyleSpace, the channel that changes each trait most purely.
scores: for a generator that was trained on images of known scores (scores.npz in --input_dir), what the changes of
--recipes do to w.
Files, and a YAML of the entries for `editings`, are written to the domain's folder of direction files.
"""

from arguments.flags import Parser, at_least, path
from utils.cli import run


def main() -> None:
    parser = Parser(__doc__)
    kinds = ["boundaries", "components", "channels", "scores"]
    parser.add_argument("kind", choices=kinds, help="which kind of direction")
    parser.add_argument("--domain", required=True, help="a file of configs/domains without .yaml, or the path of one")
    parser.add_argument("--input_dir", type=path, help="images with labels.jsonl (boundaries), or scores.npz")
    parser.add_argument("--recipes", type=path, help="YAML file, see datasets/recipes.py")
    parser.add_argument("--samples", type=at_least(100), default=8000, help="images, at most (default: 8000)")
    parser.add_argument("--output_dir", type=path, help="default: the domain's editings_dir")
    args = parser.parse_args()
    if args.input_dir and args.kind in ("components", "channels"):
        parser.error(f"--input_dir is for boundaries and scores; {args.kind} are found in generated images")
    if (args.kind == "scores") != bool(args.recipes) or (args.recipes and not args.input_dir):
        parser.error("scores needs --recipes and --input_dir; the other kinds take no --recipes")
    from runners.directions_runner import DirectionsRunner  # torch is imported only once the options are right

    runner = DirectionsRunner(args.domain, args.samples, args.output_dir)
    if args.recipes:
        runner.from_scores(args.recipes, args.input_dir)
    elif args.input_dir:
        runner.labelled_boundaries(args.input_dir)
    else:
        getattr(runner, args.kind)()


if __name__ == "__main__":
    run(main)
