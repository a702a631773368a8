"""Training of a domain's attribute predictor."""

from arguments.loop_options import PredictorTrainConfig
from datasets.labels import Labels
from datasets.training_images import Batch
from models.weights import save_predictor
from runners.loop_runner import LoopRunner
from training.predictor import PredictorTrainer
from training.state import TrainState


class PredictorRunner(LoopRunner):
    """Beside what every run writes: `predictor.pt`."""

    name = "predictor"
    config: PredictorTrainConfig

    def build(self) -> TrainState:
        self.labels = Labels(self.config.data.train_dir)
        self.trainer = PredictorTrainer(self.labels.attributes, self.config.train, self.device)
        return TrainState(
            {"predictor": self.trainer.predictor}, {"predictor_opt": self.trainer.optimizer},
            {"pictures": self.pictures},
        )  # fmt: skip

    def learn(self, step: int, batch: Batch) -> dict[str, float]:
        return self.trainer.step(step, batch.images, self.labels.of(batch.names))

    def export(self) -> None:
        save_predictor(self.trainer.predictor, self.folder / "predictor.pt")
