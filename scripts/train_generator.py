"""Train the generator of a domain from a folder of aligned images.

    python scripts/train_generator.py exp.config=avatars_generator_train.yaml
    python scripts/train_generator.py exp.domain=DOMAIN.yaml exp.name=NAME data.train_dir=DIR …

Options read group.name=value, and win over those of exp.config_dir/exp.config. A run that was interrupted is resumed by
the same command. torchrun --nproc_per_node=N trains on N GPUs; train.batch_size is each one's.
"""

from arguments.loader import command_line_options
from arguments.loop_options import GeneratorTrainConfig
from utils.cli import run


def main() -> None:
    config = command_line_options(GeneratorTrainConfig, __doc__)
    from runners.training_runner import train_network  # torch is imported only once the options are right
    from training.tasks.generator import GeneratorTask

    train_network(config, GeneratorTask)


if __name__ == "__main__":
    run(main)
