"""Edit one photograph."""

import argparse

from arguments.flags import Parser, add_mask_flags, add_model_flags, check_mask_flags, named_power, path
from utils.cli import run

EXAMPLES = """examples:
  make the person of a photograph five steps older, the background untouched:
    python scripts/simple_inference.py --orig_img_pth photo.jpg --editing_name age --edited_power 5 \\
        --save_pth out/older.jpg --align --use_mask
  older and smiling at once, with before and after side by side in out/both_strip.jpg:
    python scripts/simple_inference.py --orig_img_pth photo.jpg --edits age=5 fs_smiling=3 \\
        --save_pth out/both.jpg --strip
  keep the inversion in out/older.safetensors, and edit it later without inverting again:
    python scripts/simple_inference.py --orig_img_pth photo.jpg --editing_name age --edited_power 5 \\
        --save_pth out/older.jpg --save_latents
    python scripts/simple_inference.py --orig_img_pth out/older.safetensors --editing_name age --edited_power -5 \\
        --save_pth out/younger.jpg
  all directions with their useful powers: available_directions.txt
"""


def parse() -> argparse.Namespace:
    parser = Parser(__doc__, EXAMPLES)
    add = parser.add_argument
    add("--orig_img_pth", type=path, required=True, help="the photograph, or its inversion file")
    add("--editing_name", help="a direction, such as age or 'blond hair'")
    add("--edited_power", type=float, help="how far, such as 5 or -3")
    add("--edits", nargs="+", type=named_power, metavar="NAME=POWER", help="several at once, instead of those two")
    add("--save_pth", type=path, required=True, help="file of the result; its extension says the format")
    add("--align", action="store_true", help="cut out the largest face first, and put the edited one back")
    add_mask_flags(parser)
    add("--save_e4e", action="store_true", help="write also what e4e alone gives")
    add("--save_inversion", action="store_true", help="write also the inversion")
    add("--save_latents", action="store_true", help="write also the inversion file (.safetensors)")
    add("--strip", action="store_true", dest="save_strip", help="write also before, inversion and edit side by side")
    add_model_flags(parser)
    args = parser.parse_args()
    check_mask_flags(parser, args)
    return args


def main() -> None:
    options = vars(parse())
    from runners.simple_runner import CONFIG, SimpleRunner  # torch is imported only once the options are right

    config = options.pop("simple_config_pth") or CONFIG
    runner = SimpleRunner(options.pop("editor_ckpt_pth"), config, options.pop("device"))
    runner.edit(**options)


if __name__ == "__main__":
    run(main)
