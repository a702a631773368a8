"""The common part of training a domain's generator, encoder and predictor."""

from abc import abstractmethod
from collections.abc import Mapping

from torch import Tensor

from arguments.domain import DomainConfig
from arguments.loop_options import LoopConfig
from datasets.training_images import TrainingImages
from training.distributed import Process
from training.loop import Task
from training.precision import Precision
from training.state import TrainState
from utils.devices import conv_layout


class NetworkTask(Task):
    """Learns from the images of data.train_dir, batch by batch."""

    def __init__(self, config: LoopConfig, domain: DomainConfig, process: Process) -> None:
        """Raises UserError if the domain or the images are not as needed."""
        data, size = config.data, domain.generator.size
        self.domain, self.process, self.device = domain, process, process.device
        self.batch_size, self.batch_names = config.train.batch_size, []
        self.precision = Precision(config.train.precision, process.device)
        self.layout = conv_layout(process.device, self.precision.dtype)
        self.images = TrainingImages(
            data.train_dir, size, config.exp.seed, data.workers, process.rank, process.ranks, domain.mirror
        )
        self.state = self.build()

    @abstractmethod
    def build(self) -> TrainState:
        """Make the networks and optimizers. Returns the state, which holds all that changes."""

    @abstractmethod
    def learn(self, step: int, images: Tensor) -> Mapping[str, Tensor]:
        """`gradients` for this batch, B×3×size×size in [-1, 1] on the device."""

    def gradients(self, step: int) -> Mapping[str, Tensor]:
        return self.learn(step, self.next_images(self.batch_size))

    def next_images(self, count: int) -> Tensor:
        """The next `count` images, on the device; `self.batch` has their files."""
        self.batch = self.images.next_batch(count)
        self.batch_names = self.batch.names
        return self.batch.images(self.device)

    def logged(self, losses: Mapping[str, float]) -> dict[str, float]:
        return {"images": self.images.position, **losses}
