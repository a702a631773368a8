"""Train stage 1 (the Inverter) or stage 2 (the Feature Editor).

    python scripts/train.py exp.config=fse_inverter_train.yaml exp.name=NAME data.input_train_dir=DIR …
    torchrun --nproc_per_node=N scripts/train.py …      on N GPUs; model.batch_size is each one's

Options read group.name=value, and win over those of exp.config_dir/exp.config.
"""

from arguments.loader import command_line_options
from arguments.train_options import TrainConfig
from training.preflight import check
from utils.cli import run


def main() -> None:
    config = command_line_options(TrainConfig, __doc__)
    domain = check(config)
    from runners.training_runner import TrainingRunner  # torch is imported only once the options are right

    TrainingRunner(config, domain).run()


if __name__ == "__main__":
    run(main)
