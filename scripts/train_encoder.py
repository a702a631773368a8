"""Train the W+ encoder (the e4e role) of a domain whose generator is trained.

    python scripts/train_encoder.py exp.config=avatars_encoder_train.yaml
    python scripts/train_encoder.py exp.domain=DOMAIN.yaml exp.name=NAME data.train_dir=DIR …

Options read group.name=value, and win over those of exp.config_dir/exp.config. A run that was interrupted goes on by
the same command.
"""

from arguments.loader import command_line_options
from arguments.loop_options import EncoderTrainConfig
from utils.cli import run


def main() -> None:
    config = command_line_options(EncoderTrainConfig, __doc__)
    from runners.encoder_runner import EncoderRunner  # torch is imported only once the options are right

    EncoderRunner(config).run()


if __name__ == "__main__":
    run(main)
