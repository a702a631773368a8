"""Train the generator of a domain from a folder of aligned pictures.

    python scripts/train_generator.py exp.config=avatars_generator_train.yaml
    python scripts/train_generator.py exp.domain=DOMAIN.yaml exp.name=NAME data.train_dir=DIR …

Options read group.name=value, and win over those of exp.config_dir/exp.config. A run that was interrupted goes on by
the same command.
"""

from arguments.loader import command_line_options
from arguments.loop_options import GeneratorTrainConfig
from utils.cli import run


def main() -> None:
    config = command_line_options(GeneratorTrainConfig, __doc__)
    from runners.generator_runner import GeneratorRunner  # torch is imported only once the options are right

    GeneratorRunner(config).run()


if __name__ == "__main__":
    run(main)
