"""Serve a web page for editing: upload or choose an image, move sliders, compare, download."""

import argparse
import logging
import os
import signal
import tempfile
from pathlib import Path

from arguments.flags import Parser, path, port
from utils.cli import run

EXAMPLES = """examples:
  python scripts/app.py
  the avatars that come with the project, whatever other weights are there:
    python scripts/app.py --config configs/avatars_simple_inference.yaml --device cpu
"""


def parse() -> argparse.Namespace:
    parser = Parser(__doc__, EXAMPLES)
    add = parser.add_argument
    add("--config", type=path, help="YAML with domain and method (default: configs/simple_inference.yaml; without its "
        "weights, that of a domain that comes with the project)")  # fmt: skip
    add("--device", help="cpu, 0, cuda:1 (default: that of the config)")
    add("--port", type=port, default=7860, help="on 127.0.0.1 (default: %(default)s)")
    add("--share", action="store_true", help="make a public address through gradio's servers: anyone can use the page")
    return parser.parse_args()


def main() -> None:
    options = parse()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that files are removed then, too
    with tempfile.TemporaryDirectory(prefix="sfe_app_") as folder:
        os.environ.update(GRADIO_TEMP_DIR=folder, GRADIO_ANALYTICS_ENABLED="False", HF_HUB_OFFLINE="1")
        from runners.app.guard import check_port, without_proxies

        check_port(options.port)
        without_proxies(options.share)
        from runners.app.page import serve  # torch and gradio are imported only once the options are right
        from runners.app.studio import Studio, default_config

        logging.getLogger("httpx").setLevel(logging.WARNING)
        studio = Studio(options.config or default_config(), options.device, Path(folder))
        serve(studio, options.port, options.share)


if __name__ == "__main__":
    run(main)
