"""Write encoder.onnx, editor.onnx and decoder.onnx of one domain, for programs without PyTorch."""

import argparse
import logging

from arguments.flags import Parser, path
from utils.cli import run

EXAMPLES = """examples:
    python scripts/export_onnx.py --domain human_faces --editor_ckpt_pth pretrained_models/sfe_editor_light.pt \\
        --output_dir out/onnx

How the three work together: docs/onnx.md. It wants: pip install -e '.[onnx]'
"""


def parse() -> argparse.Namespace:
    parser = Parser(__doc__, EXAMPLES)
    add = parser.add_argument
    add("--domain", default="human_faces", help="a file of configs/domains without .yaml, or the path of one")
    add("--editor_ckpt_pth", type=path, required=True, help="weights of the Feature Editor, with its Inverter")
    add("--output_dir", type=path, required=True, help="folder of the three files")
    return parser.parse_args()


def main() -> None:
    options = parse()
    from arguments.domain import load_domain
    from runners.onnx_export import export_onnx  # torch is imported only once the options are right

    paths = export_onnx(load_domain(options.domain), options.editor_ckpt_pth, options.output_dir)
    logging.getLogger(__name__).info("written: %s", ", ".join(map(str, paths)))


if __name__ == "__main__":
    run(main)
