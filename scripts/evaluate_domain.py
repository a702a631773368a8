"""Compare the W+ encoder, the Inverter and SFE of a domain: inversions, edits, tables and images.

    python scripts/evaluate_domain.py --domain avatars --inverter_pth pretrained_models/avatars/sfe_inverter.pt \\
        --editor_pth pretrained_models/avatars/sfe_editor.pt --input_dir experiments/avatars/test \\
        --edits smile=5 glasses=5 --output_dir results_dir/evaluation

A labels.jsonl in the folder says what images do not show. Directions are called as the domain's traits.
"""

from arguments.flags import Parser, named_power, path
from utils.cli import run


def main() -> None:
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--domain", required=True, help="a file of configs/domains without .yaml, or the path of one")
    add("--inverter_pth", type=path, required=True, help="checkpoint of stage 1")
    add("--editor_pth", type=path, required=True, help="checkpoint of stage 2")
    add("--input_dir", type=path, required=True, help="images that were not trained on, aligned")
    add("--edits", nargs="+", type=named_power, required=True, metavar="NAME=POWER", help="directions, powers")
    add("--truth_dir", type=path, help="true images of edits: DIRECTION/ANY/NAME; see benchmarks/avatars.py")
    add("--output_dir", type=path, required=True, help="evaluation.md, evaluation.json, grid.png, sweep.png")
    add("--device", default="0", help="cpu, 0, cuda:1 (default: 0; a GPU that is missing gives the CPU)")
    args = parser.parse_args()
    from runners.evaluation_runner import EvaluationRunner  # torch is imported only once the options are right
    from utils.devices import resolve_device

    runner = EvaluationRunner(args.domain, args.inverter_pth, args.editor_pth, resolve_device(args.device))
    print(runner.report({"the images": args.input_dir}, dict(args.edits), args.truth_dir, args.output_dir))


if __name__ == "__main__":
    run(main)
