"""Train a network that reads attributes off a domain's images, from a folder of them with labels.jsonl.

    python scripts/train_predictor.py exp.config=avatars_predictor_train.yaml
    python scripts/train_predictor.py exp.domain=DOMAIN.yaml exp.name=NAME data.train_dir=DIR …

Options read group.name=value, and win over those of exp.config_dir/exp.config. A run that was interrupted is resumed by
the same command. torchrun --nproc_per_node=N trains on N GPUs; train.batch_size is each one's.
"""

from arguments.loader import command_line_options
from arguments.loop_options import PredictorTrainConfig
from utils.cli import run


def main() -> None:
    config = command_line_options(PredictorTrainConfig, __doc__)
    from runners.training_runner import train_network  # torch is imported only once the options are right
    from training.tasks.predictor import PredictorTask

    train_network(config, PredictorTask)


if __name__ == "__main__":
    run(main)
