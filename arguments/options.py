"""Every option of the config-driven scripts, with its default. Groups and names are those of the published project."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from utils.errors import UserError


def option(default: Any, help: str) -> Any:
    """A dataclass field with a line for `--help`."""
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: type(default)(default), metadata={"help": help})
    return field(default=default, metadata={"help": help})


METHODS = {"fse_full": "fse_inference_runner", "fse_inverter": "fse_inverter_inference_runner"}  # -> inference_runner


def runner_of(method: str, option: str, given: str, runners: dict[str, str]) -> str:
    """The published runner of a method. Raises UserError if another was given."""
    if given not in ("", runners[method]):
        raise UserError(f"{option} is '{given}'; model.method={method} wants {runners[method]}, or nothing")
    return runners[method]


def check_choice(option: str, value: str, known: Sequence[str]) -> None:
    """Raise UserError unless the value is one of these."""
    if value not in known:
        raise UserError(f"{option} is '{value}'; wanted {' or '.join(map(repr, known))}")


def check_betas(option: str, betas: list[float]) -> None:
    """Raise UserError unless these are the decays of two moments."""
    if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        raise UserError(f"{option} is {betas}; wanted two numbers from 0 to 1, without 1")


@dataclass
class ExpArgs:
    """The experiment: where its configuration comes from and where its results go."""

    config_dir: str = option("configs", "folder of the YAML files")
    config: str = option("", "YAML file in exp.config_dir")
    name: str = option("", "name of the experiment; its folder is exp.exp_dir/{name}_{000…}")
    exp_dir: str = option("experiments", "folder of all experiments")
    output_dir: str = option("results_dir", "folder of inference results")
    seed: int = option(1, "seed of every random generator")
    root: str = option("${oc.env:EXP_ROOT,.}", "folder that exp_dir and output_dir start from (environment: EXP_ROOT)")
    domain: str = option("human_faces", "a file of configs/domains without .yaml, or the path of one")
    wandb: bool = option(False, "log to Weights & Biases (environment: WANDB_KEY)")
    wandb_project: str = option("sfe", "project on Weights & Biases")


@dataclass
class DataArgs:
    """Folders of images and how they are read."""

    input_train_dir: str = option("", "training images, aligned")
    input_val_dir: str = option("", "validation images, aligned")
    special_dir: str = option("", "a few images whose inversion is logged")
    inference_dir: str = option("", "images to invert and edit, aligned; hidden folders are left out")
    transform: str = option("", "face_1024 or face_256: the size images are resized to; empty: the generator's")


@dataclass
class ModelArgs:
    """The method and the machine."""

    method: str = option("fse_full", "fse_full (stage 2) or fse_inverter (stage 1)")
    device: str = option("0", "0 or cuda:0 (the first GPU), cuda:N, mps (a Mac's), cpu; a missing one gives the CPU")
    batch_size: int = option(4, "images at once")
    workers: int = option(4, "processes that read images")
    checkpoint_path: str = option("", "weights of the trained part")
    dtype: str = option("float32", "float32, or on a GPU bfloat16 or float16: numbers of the convolutions")
    tf32: bool = option(False, "faster float32 on GPUs since Ampere, with 10 bits of mantissa; on in training")
    compile: bool = option(False, "torch.compile the networks: a slow first image, then faster ones on a GPU")
    cuda_graph: bool = option(False, "run the networks as CUDA graphs: fewer starts of kernels; never tried on a GPU")

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UserError(f"model.method is '{self.method}'; there are: {', '.join(METHODS)}")
        if self.dtype not in ("float32", "bfloat16", "float16"):
            raise UserError(f"model.dtype is '{self.dtype}'; there are: float32, bfloat16, float16")
        if self.compile and self.cuda_graph:
            raise UserError("model.compile and model.cuda_graph are both set; give one of them")
        if self.batch_size < 1:
            raise UserError(f"model.batch_size is {self.batch_size}; wanted 1 or more")
        if self.workers < 0:
            raise UserError(f"model.workers is {self.workers}; wanted 0 or more")


@dataclass
class InferenceArgs:
    """Editing of whole folders."""

    inference_runner: str = option("", "published name of model.method's runner; empty: that of model.method")
    editings_data: dict[str, list[float]] = option({}, "direction -> list of powers, or one power")
    stacks: dict[str, dict[str, float]] = option({}, "folder -> edits made at once: direction -> power")
    format: str = option("", "extension of the results, such as png; empty: the image's own, png for gif and such")
    quality: int = option(95, "of JPEG and WebP results, 1 to 100")
    inversions: bool = option(True, "write also the inversions")
    save_latents: bool = option(False, "write inversion files, which save later runs the inversions")
    report: str = option("", "HTML file that shows how well the images were inverted; empty: none")
    report_metrics: list[str] = option(["l2", "msssim"], "metrics of the report")

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 100:
            raise UserError(f"inference.quality is {self.quality}; wanted 1 to 100")


@dataclass
class FSEFullArgs:
    inverter_pth: str = option("", "stage-1 checkpoint that stage 2 starts from")


@dataclass
class MethodsArgs:
    """Options of each method."""

    fse_full: FSEFullArgs = field(default_factory=FSEFullArgs)


@dataclass
class Config:
    """All options of a run."""

    exp: ExpArgs = field(default_factory=ExpArgs)
    data: DataArgs = field(default_factory=DataArgs)
    model: ModelArgs = field(default_factory=ModelArgs)
    inference: InferenceArgs = field(default_factory=InferenceArgs)
    methods_args: MethodsArgs = field(default_factory=MethodsArgs)

    def __post_init__(self) -> None:
        given = self.inference.inference_runner
        self.inference.inference_runner = runner_of(self.model.method, "inference.inference_runner", given, METHODS)
