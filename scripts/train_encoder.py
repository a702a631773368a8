"""Train the W+ encoder (the e4e role) of a domain whose generator is trained.

    python scripts/train_encoder.py exp.config=avatars_encoder_train.yaml
    python scripts/train_encoder.py exp.domain=DOMAIN.yaml exp.name=NAME data.train_dir=DIR …

Options read group.name=value, and win over those of exp.config_dir/exp.config. A run that was interrupted is resumed by
the same command. torchrun --nproc_per_node=N trains on N GPUs; train.batch_size is each one's.
"""

from arguments.loader import command_line_options
from arguments.loop_options import EncoderTrainConfig
from utils.cli import run


def main() -> None:
    config = command_line_options(EncoderTrainConfig, __doc__)
    from runners.training_runner import train_network  # torch is imported only once the options are right
    from training.tasks.encoder import EncoderTask

    train_network(config, EncoderTask)


if __name__ == "__main__":
    run(main)
