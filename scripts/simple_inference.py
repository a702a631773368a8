"""Edit one photograph."""

import argparse

from arguments.flags import Parser, add_mask_flags, add_model_flags, check_mask_flags, face, named_power, path
from utils.cli import run

EXAMPLES = """examples:
  make the person of a photograph five steps older, the background untouched:
    python scripts/simple_inference.py --orig_img_pth photo.jpg --editing_name age --edited_power 5 \\
        --save_pth out/older.jpg --align --use_mask
  older and smiling at once, with before and after side by side in out/both_strip.jpg:
    python scripts/simple_inference.py --orig_img_pth photo.jpg --edits age=5 fs_smiling=3 \\
        --save_pth out/both.jpg --strip
  every face of a group (--face 2: the second one from the left):
    python scripts/simple_inference.py --orig_img_pth group.jpg --align --face all --edits age=5 --save_pth out/all.jpg
  keep the inversion in out/older.safetensors, and edit it later without inverting again:
    python scripts/simple_inference.py --orig_img_pth photo.jpg --edits age=5 --save_pth out/older.jpg --save_latents
    python scripts/simple_inference.py --orig_img_pth out/older.safetensors --edits age=-5 --save_pth out/younger.jpg
  all directions with their useful powers: available_directions.txt
"""
FACES = ("orig_img_pth", "edits", "save_pth", "use_mask", "mask_trashold")  # flags that --face all takes


def parse() -> argparse.Namespace:
    parser = Parser(__doc__, EXAMPLES)
    add = parser.add_argument
    add("--orig_img_pth", type=path, required=True, help="the photograph, or its inversion file")
    add("--editing_name", help="a direction, such as age or 'blond hair'")
    add("--edited_power", type=float, help="how far, such as 5 or -3")
    add("--edits", nargs="+", type=named_power, metavar="NAME=POWER", help="several at once, instead of those two")
    add("--save_pth", type=path, required=True, help="file of the result; its extension says the format")
    add("--align", action="store_true", help="cut out the largest face first, and put the edited one back")
    add("--face", type=face, help="with --align: its number from left to right, or all, to edit every face")
    add("--landmarks", type=path, help="with --align: file of the face's 68 landmarks, .txt, .json or .npy")
    add_mask_flags(parser)
    add("--save_e4e", action="store_true", help="write also what e4e alone gives")
    add("--save_inversion", action="store_true", help="write also the inversion")
    add("--save_latents", action="store_true", help="write also the inversion file (.safetensors)")
    add("--strip", action="store_true", dest="save_strip", help="write also before, inversion and edit side by side")
    add_model_flags(parser)
    args = parser.parse_args()
    check_mask_flags(parser, args)
    if args.face == "all" and (not args.align or not args.edits or args.landmarks or args.mask_path):
        parser.error("--face all wants --align and --edits, without --landmarks and --mask_path")
    return args


def main() -> None:
    options = vars(parse())
    from runners.simple_runner import CONFIG, SimpleRunner  # torch is imported only once the options are right

    config = options.pop("simple_config_pth") or CONFIG
    runner = SimpleRunner(options.pop("editor_ckpt_pth"), config, options.pop("device"))
    if options["face"] == "all":
        runner.edit_faces(**{key: options[key] for key in FACES})
    else:
        runner.edit(**options)


if __name__ == "__main__":
    run(main)
