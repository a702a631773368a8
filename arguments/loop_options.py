"""Every option of the scripts that train the networks of a new domain: generator, encoder, predictor."""

from dataclasses import dataclass, field
from typing import Any

from arguments.options import check_betas, check_choice, option
from utils.errors import UserError

PRECISIONS = ("fp32", "bf16")


@dataclass
class LoopExpArgs:
    """The experiment: where its configuration comes from and where its results go."""

    config_dir: str = option("configs", "folder of the YAML files")
    config: str = option("", "YAML file in exp.config_dir")
    name: str = option("", "name of the experiment; its folder is exp.exp_dir/{name}, and a run there is resumed")
    exp_dir: str = option("experiments", "folder of all experiments")
    seed: int = option(1, "seed of every random generator")
    domain: str = option("avatars", "a file of configs/domains without .yaml, or the path of one")


@dataclass
class LoopDataArgs:
    """The images."""

    train_dir: str = option("", "training images, aligned; they are resized to the generator's size")
    workers: int = option(1, "threads that read images")


@dataclass
class LoopArgs:
    """The training loop."""

    device: str = option("0", "0 or cuda:0 (the first GPU), cuda:N, cpu; a GPU that is missing gives the CPU")
    precision: str = option("fp32", "fp32, or bf16 where the processor multiplies it fast")
    steps: int = option(10000, "last step")
    batch_size: int = option(16, "images at once")
    lr: float = option(1e-3, "learning rate of Adam")
    clip_grad_norm: float = option(0.0, "scale a network's gradient down to this norm; 0: leave it")
    log_step: int = option(100, "log losses every N steps")
    checkpoint_minutes: float = option(10.0, "write checkpoint, samples and curves every N minutes")
    keep_checkpoints: int = option(2, "keep the N newest checkpoints")

    def __post_init__(self) -> None:
        check_choice("train.precision", self.precision, PRECISIONS)
        if not self.clip_grad_norm >= 0:
            raise UserError(f"train.clip_grad_norm is {self.clip_grad_norm}; wanted 0 or more")
        _at_least_one(self, "steps", "batch_size", "log_step", "keep_checkpoints")


@dataclass
class GeneratorTrainArgs(LoopArgs):
    """The generator's training. A step is one batch for the generator and one for the discriminator."""

    steps: int = option(25000, "last step")
    lr: float = option(2.5e-3, "learning rate of Adam, for both networks")
    lr_decay: str = option("", "cosine: the learning rate falls to 0 at the last step; empty: it stays")
    betas: list[float] = option([0.0, 0.99], "Adam: decay of both moments")
    mapping_lr: float = option(1.0, "factor of the mapping network's learning rate; more where scores are learned")
    ema: float = option(0.999, "decay of the averaged generator, a step")
    start_from: list[str] = option(
        [], "checkpoints of other trainings, such as one of fewer pixels: tensors that fit by name and shape are used"
    )
    sizes: dict[int, int] = option(
        {}, "begin with fewer pixels: 16: 1000 is up to step 1000 at 16 px, then the next; batches are larger, too"
    )
    adversarial: float = option(1.0, "weight of the adversarial loss, at the full size; 0: no discriminator")
    paired: float = option(
        0.0, "weight of the distance from an image to the generator's of the same scores (scores.npz); 0: none"
    )
    paired_centre: float = option(0.0, "extra weight of that distance in the middle, where aligned faces lie")
    mapping_steps: int = option(
        0, "before all else, fit the mapping network to the factors of scores.npz in N steps, so that w holds them"
    )
    factors: float = option(0.0, "weight of how far w is from holding these factors; 0: none")
    predictor: float = option(0.0, "weight, besides the parts of `paired`, of the distance in the predictor's features")
    noise: bool = option(True, "learn to use noise; leave it out where images have no random detail, as drawings")
    mixing: float = option(0.9, "probability that an image has two w, one from a random layer on")
    r1: float = option(1.0, "γ of the gradient penalty: γ/2 · |∇D(x)|²")
    r1_every: int = option(16, "computed every N steps, and multiplied by N")
    path_length: float = option(2.0, "weight of path length regularisation; 0 leaves it out")
    path_length_every: int = option(8, "computed every N steps, and multiplied by N")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_betas("train.betas", self.betas)
        check_choice("train.lr_decay", self.lr_decay, ("", "cosine"))
        _at_least_one(self, "r1_every", "path_length_every")
        if not (self.paired or self.adversarial):
            raise UserError("train.paired and train.adversarial are 0; the generator needs one of them to learn from")
        for name in ("adversarial", "paired", "paired_centre", "factors", "mapping_steps", "predictor"):
            if not getattr(self, name) >= 0:
                raise UserError(f"train.{name} is {getattr(self, name)}; wanted 0 or more")
        steps = [last for _, last in sorted(self.sizes.items())]
        if steps != sorted(set(steps)) or min(steps, default=1) < 1:
            raise UserError(f"train.sizes is {self.sizes}; wanted last steps of 1 or more that grow with the size")
        for name in ("ema", "mixing"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"train.{name} is {getattr(self, name)}; wanted a number from 0 to 1")


@dataclass
class EncoderTrainArgs(LoopArgs):
    """The W+ encoder's training. Half of each batch is real images, half generated ones, whose w is known."""

    l2: float = option(1.0, "weight of the mean squared error of the images")
    predictor: float = option(0.8, "weight of their distance in the predictor's features; 0 needs no predictor")
    w: float = option(1.0, "weight of the mean squared error of w, where it is known")
    scores: bool = option(False, "the w of real images are known, too: the generator's of their scores (scores.npz)")
    delta: float = option(2e-4, "weight of how far styles are from the first: edits work where they are alike")


@dataclass
class PredictorTrainArgs(LoopArgs):
    """The attribute predictor's training."""

    steps: int = option(4000, "last step")
    batch_size: int = option(32, "images at once")
    lr: float = option(2e-3, "learning rate of Adam")


@dataclass
class GeneratorTrainConfig:
    """All options of a generator's training."""

    exp: LoopExpArgs = field(default_factory=LoopExpArgs)
    data: LoopDataArgs = field(default_factory=LoopDataArgs)
    train: GeneratorTrainArgs = field(default_factory=GeneratorTrainArgs)


@dataclass
class EncoderTrainConfig:
    """All options of a W+ encoder's training."""

    exp: LoopExpArgs = field(default_factory=LoopExpArgs)
    data: LoopDataArgs = field(default_factory=LoopDataArgs)
    train: EncoderTrainArgs = field(default_factory=EncoderTrainArgs)


@dataclass
class PredictorTrainConfig:
    """All options of a predictor's training; data.train_dir holds labels.jsonl, too."""

    exp: LoopExpArgs = field(default_factory=LoopExpArgs)
    data: LoopDataArgs = field(default_factory=LoopDataArgs)
    train: PredictorTrainArgs = field(default_factory=PredictorTrainArgs)


LoopConfig = GeneratorTrainConfig | EncoderTrainConfig | PredictorTrainConfig


def _at_least_one(options: Any, *names: str) -> None:
    for name in names:
        if getattr(options, name) < 1:
            raise UserError(f"train.{name} is {getattr(options, name)}; wanted 1 or more")
