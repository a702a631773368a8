"""Mix two photographs: styles of one in the other, or an image between both. A film of it: scripts/animate.py."""

import argparse

from arguments.flags import Parser, fraction, model_options, path
from utils.cli import run

EXAMPLES = """examples:
  the face half way between two photographs:
    python scripts/mix.py --orig_img_pth a.jpg --other_img_pth b.jpg --align --save_pth out/between.jpg
  the first one, with the colours of the second (styles 9 to 17 of faces):
    python scripts/mix.py --orig_img_pth a.jpg --other_img_pth b.jpg --align --layers 9-17 --share 1 \\
        --save_pth out/colours.jpg
  inversion files serve as well (simple_inference.py --save_latents):
    python scripts/mix.py --orig_img_pth a.safetensors --other_img_pth b.safetensors --share 0.3 --save_pth out/c.png
"""


def parse() -> argparse.Namespace:
    parser = Parser(__doc__, EXAMPLES)
    add = parser.add_argument
    add("--orig_img_pth", type=path, required=True, help="the first photograph, or its inversion file")
    add("--other_img_pth", type=path, required=True, help="the second one")
    add("--layers", default="all", help="styles that are mixed, as in 4-7 or 0-3,8; the others are the first's (all)")
    add("--share", type=fraction, default=0.5, help="of the second one, 0 to 1 (0.5)")
    add("--save_pth", type=path, required=True, help="file of the result; its extension says the format")
    add("--align", action="store_true", help="cut out the largest face of both first")
    parser.add_model_flags()
    return parser.parse_args()


def main() -> None:
    options = vars(parse())
    from runners.simple_runner import SimpleRunner  # torch is imported only once the options are right

    runner = SimpleRunner(**model_options(options))
    runner.mix(options.pop("orig_img_pth"), options.pop("other_img_pth"), **options)


if __name__ == "__main__":
    run(main)
