"""Write a weight file as float16, half as big, for a domain that is to be shipped; it is read as any other.

    python scripts/shrink_weights.py experiments/avatars_encoder/e4e.pt pretrained_models/avatars/e4e.pt
    python scripts/shrink_weights.py experiments/avatars_generator/iteration_9000.pt \\
        pretrained_models/avatars/discriminator.pt --prefix discriminator.
"""

from arguments.flags import Parser, path
from utils.cli import run


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("source", type=path, help="a generator, encoder, predictor, light or full checkpoint")
    parser.add_argument("target", type=path, help="file to write")
    parser.add_argument("--prefix", default="", help="keep only the tensors of state_dict whose names begin so")
    args = parser.parse_args()
    from models.weights import save_as_float16  # torch is imported only once the options are right

    save_as_float16(args.source, args.target, args.prefix)


if __name__ == "__main__":
    run(main)
