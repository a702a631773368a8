"""Invert a folder of aligned images and edit each by every direction and power of inference.editings_data."""

import argparse

from arguments.flags import Parser
from arguments.loader import load_config, options_help
from utils.cli import run

EXAMPLES = """examples:
  python scripts/inference.py exp.config_dir=configs exp.config=fse_inference.yaml \\
      model.checkpoint_path=pretrained_models/sfe_editor_light.pt \\
      data.inference_dir=path/to/aligned exp.output_dir=path/to/results
  the same, with edits of your own and a report:
  python scripts/inference.py exp.config=fse_inference.yaml data.inference_dir=path/to/aligned \\
      "inference.editings_data={age: [-5, 5], glasses: [-10]}" --report out.html
  keep the inversions, so that a second run with other directions skips them all:
  python scripts/inference.py exp.config=fse_inference.yaml data.inference_dir=path/to/aligned --save_latents
  python scripts/inference.py exp.config=fse_inference.yaml data.inference_dir=path/to/aligned \\
      "inference.editings_data={smile: [3]}"
  over four GPUs:
  torchrun --nproc_per_node=4 scripts/inference.py exp.config=fse_inference.yaml data.inference_dir=path/to/aligned

A run that was interrupted resumes when it is started again. Exit code 3: some images failed; they are listed.
"""


def parse() -> argparse.Namespace:
    parser = Parser(__doc__, EXAMPLES + options_help())
    parser.add_argument("options", nargs="*", metavar="group.name=value", help="see below")
    parser.add_argument("--report", metavar="HTML", help="the same as inference.report")
    parser.add_argument("--save_latents", action="store_true", help="the same as inference.save_latents=true")
    return parser.parse_intermixed_args()


def main() -> int:
    arguments = parse()
    flags = [f"inference.report={arguments.report}"] if arguments.report else []
    flags += ["inference.save_latents=true"] if arguments.save_latents else []
    config = load_config(arguments.options + flags)
    from runners.inference_runner import InferenceRunner  # torch is imported only once the options are right

    return 3 if InferenceRunner(config).run() else 0


if __name__ == "__main__":
    run(main)
