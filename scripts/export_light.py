"""Write what inference needs of a training checkpoint: a tenth of its size, in the published light format."""

import logging

from arguments.flags import Parser, path
from utils.cli import run


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("checkpoint", type=path, help="iteration_{step}.pt of an experiment")
    parser.add_argument("light", type=path, help="file to write, such as pretrained_models/sfe_editor_light.pt")
    options = parser.parse_args()
    from models.weights import export_light

    kind = export_light(options.checkpoint, options.light)
    logging.getLogger(__name__).info("%s holds %s", options.light, kind.value)


if __name__ == "__main__":
    run(main)
