"""Train the generator of a domain from a folder of aligned pictures.

    python scripts/train_generator.py exp.config=avatars_generator_train.yaml
    python scripts/train_generator.py exp.domain=DOMAIN.yaml exp.name=NAME data.train_dir=DIR …

Options read group.name=value, and win over those of exp.config_dir/exp.config. A run that was interrupted goes on by
the same command.
"""

import sys

from arguments.generator_options import GeneratorTrainConfig
from arguments.loader import load_options, options_help
from utils.cli import run


def main() -> None:
    arguments = sys.argv[1:]
    if not arguments or {"-h", "--help"} & set(arguments):
        print(__doc__ + options_help(GeneratorTrainConfig))
        return
    config = load_options(GeneratorTrainConfig, arguments)
    from runners.generator_runner import GeneratorRunner  # torch is imported only once the options are right

    GeneratorRunner(config).run()


if __name__ == "__main__":
    run(main)
