"""Make a GIF or MP4 of edits of a photograph or of a morph, or edit a video. Directions: available_directions.txt."""

from arguments.flags import Parser, at_least, model_options, named_powers, path
from utils.cli import run

EXAMPLES = """examples:
  a sweep from power -5 to 5 and back:
    python scripts/animate.py --orig_img_pth photo.jpg --align --edits age=-5..5 --frames 60 --save_pth out/age.gif
  edits one after another, each on top of those before it:
    python scripts/animate.py --orig_img_pth photo.jpg --align --edits age=5 fs_smiling=4 --save_pth out/chain.mp4
  from one photograph to another and back:
    python scripts/animate.py --orig_img_pth a.jpg --morph_to b.jpg --align --save_pth out/morph.gif
  every frame of a video, with its sound (--steady: less flicker):
    python scripts/animate.py --video in.mp4 --edits smile=5 --steady --save_pth out.mp4
"""


def parse() -> dict[str, object]:
    parser = Parser(__doc__, EXAMPLES)
    add = parser.add_argument
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--orig_img_pth", type=path, help="the photograph, or its inversion file")
    source.add_argument("--video", type=path, help="a video; with alignment, its faces are cut out and put back")
    change = parser.add_mutually_exclusive_group(required=True)
    change.add_argument("--morph_to", type=path, metavar="PHOTO", help="go to this one and back; see scripts/mix.py")
    change.add_argument("--edits", nargs="+", type=named_powers, metavar="NAME=POWER", help="name=from..to, or a chain")
    add("--save_pth", type=path, required=True, help="file of the result: .gif or .mp4, for a video .mp4")
    add("--frames", type=at_least(2), help="of the photograph's animation (default: 24)")
    add("--fps", type=at_least(1), help="its frames a second (default: 12)")
    add("--steady", action="store_true", help="with --video: smooth the latents over time, against flicker")
    add("--align", action="store_true", help="cut the largest face out of the photograph first")
    parser.add_mask_flags()
    parser.add_model_flags()
    args = parser.parse_args()
    if args.video and (args.frames or args.fps or args.align):
        parser.error("--frames, --fps and --align are for --orig_img_pth; a video keeps its frames and their rate")
    if args.morph_to and (args.video or args.use_mask):
        parser.error("--morph_to is for --orig_img_pth, without --use_mask")
    if args.steady and not args.video:
        parser.error("--steady is for --video")
    return {name: value for name, value in vars(args).items() if value is not None and value is not False}


def main() -> None:
    options = parse()
    from runners.animation_runner import AnimationRunner  # torch is imported only once the options are right
    from runners.simple_runner import SimpleRunner

    runner = AnimationRunner(SimpleRunner(**model_options(options)))
    if "video" in options:
        runner.video(**options)
    elif "morph_to" in options:
        del options["mask_trashold"]
        runner.morph(options.pop("orig_img_pth"), options.pop("morph_to"), **options)
    else:
        runner.photo(**options)


if __name__ == "__main__":
    run(main)
