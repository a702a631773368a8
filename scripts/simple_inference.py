"""Edit one photograph. Directions and their useful powers: available_directions.txt."""

from arguments.flags import Parser, face, model_options, named_power, path
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
"""
FACES = ("orig_img_pth", "edits", "save_pth", "use_mask", "mask_trashold")  # flags that --face all takes


def parse() -> dict[str, object]:
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
    parser.add_mask_flags()
    add("--save_e4e", action="store_true", help="write also what e4e alone gives")
    add("--save_inversion", action="store_true", help="write also the inversion")
    add("--save_latents", action="store_true", help="write also the inversion file (.safetensors)")
    add("--strip", action="store_true", dest="save_strip", help="write also before, inversion and edit side by side")
    parser.add_model_flags()
    args = parser.parse_args()
    if args.face == "all" and (not args.align or not args.edits or args.landmarks or args.mask_path):
        parser.error("--face all wants --align and --edits, without --landmarks and --mask_path")
    return vars(args)


def main() -> None:
    options = parse()
    from runners.simple_runner import SimpleRunner  # torch is imported only once the options are right

    runner = SimpleRunner(**model_options(options))
    if options["face"] == "all":
        runner.edit_faces(**{key: options[key] for key in FACES})
    else:
        runner.edit(**options)


if __name__ == "__main__":
    run(main)
