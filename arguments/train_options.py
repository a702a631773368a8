"""Every option of scripts/train.py beyond those of arguments/options.py, with its default."""

from dataclasses import dataclass, field, fields

from arguments.options import DataArgs, ExpArgs, MethodsArgs, ModelArgs, check_betas, check_choice, option, runner_of
from utils.errors import UserError

STAGES = {"fse_inverter": "fse_inverter", "fse_full": "fse_editor"}  # model.method -> train.train_runner
PRECISIONS = ("fp32", "bf16", "fp16")


@dataclass
class TrainExpArgs(ExpArgs):
    """The experiment: where its configuration comes from and where its results go."""

    wandb: bool = option(True, "log to Weights & Biases (environment: WANDB_KEY; without a key, offline)")


@dataclass
class TrainArgs:
    """The training loop. Steps are counted from start_step to steps, both included."""

    train_runner: str = option("", "fse_inverter (stage 1) or fse_editor (stage 2); empty: that of model.method")
    encoder_optimizer: str = option("ranger", "a group of `optimizers`, for the trained network")
    disc_optimizer: str = option("adam", "a group of `optimizers`, for the discriminator")
    resume_path: str = option("", "resume from this full checkpoint, or from the newest beside this save_options.json")
    resume: str = option("", "auto: resume from the newest checkpoint of exp.name, if there is one")
    val_metrics: list[str] = option(
        ["msssim", "lpips", "l2", "fid"], "metrics of validation; the first decides which checkpoint is the best"
    )
    start_step: int = option(1, "first step of a run that does not resume another")
    steps: int = option(300000, "last step")
    log_step: int = option(500, "log losses every N steps")
    checkpoint_step: int = option(15000, "write a checkpoint every N steps")
    val_step: int = option(15000, "validate every N steps")
    keep_checkpoints: int = option(3, "keep the N newest checkpoints, and the best")
    train_dis: bool = option(False, "train the discriminator, and the network against it")
    dis_train_start_step: int = option(150000, "first step of the discriminator")
    bs_used_before_adv_loss: int = option(0, "images at once before that step; 0: model.batch_size")
    disc_edits: list[str] = option([], "stage 2: directions whose edits of the real image face the discriminator too")
    editings_data: dict[str, list[float]] = option({}, "stage 2: direction -> powers that steps draw from")
    true_edits: str = option("", "stage 2: folder of images with true edits, which edits are compared with, too")
    feature_ramp: int = option(10000, "stage 1: steps until F_k has fully replaced the decoder's own features")
    lr_decay: str = option("", "cosine: learning rates fall to 0 at the last step; empty: they stay")
    precision: str = option("fp32", "fp32, or autocast to bf16 (any device) or fp16 (GPU, with a gradient scaler)")
    grad_accumulation: int = option(1, "batches of model.batch_size whose gradients make one step")
    ema: float = option(0.0, "decay of a moving average of the trained network, which is then the result; 0: none")
    activation_checkpointing: bool = option(
        False, "compute the trained network's activations again in backward: less memory, a third more time"
    )
    clip_grad_norm: float = option(0.0, "scale a network's gradient down to this norm; 0: leave it")

    def __post_init__(self) -> None:
        positive = (
            "log_step", "checkpoint_step", "val_step", "keep_checkpoints", "grad_accumulation", "feature_ramp",
        )  # fmt: skip
        least = {
            **dict.fromkeys(positive, 1), "start_step": 0, "bs_used_before_adv_loss": 0, "clip_grad_norm": 0,
        }  # fmt: skip
        for name, low in least.items():
            if getattr(self, name) < low:
                raise UserError(f"train.{name} is {getattr(self, name)}; wanted {low} or more")
        if not 0 <= self.ema < 1:
            raise UserError(f"train.ema is {self.ema}; wanted a number from 0 to less than 1")
        choices = {
            "resume": ("", "auto"), "lr_decay": ("", "cosine"), "precision": PRECISIONS,
        }  # fmt: skip
        for name, known in choices.items():
            check_choice(f"train.{name}", getattr(self, name), known)
        if self.resume and self.resume_path:
            raise UserError("train.resume and train.resume_path are both set; give one of them")


@dataclass
class EncoderLossesArgs:
    """Coefficient of every loss of the trained network. A loss with coefficient 0 loads nothing."""

    l2: float = option(0.0, "mean squared error of the pooled images")
    lpips: float = option(0.0, "LPIPS (VGG16) of the pooled images")
    lpips_scale: float = option(0.0, "LPIPS summed over the pooled size, its half and its quarter")
    predictor: float = option(0.0, "distance in the features of the domain's predictor, in the manner of LPIPS")
    id: float = option(0.0, "1 − cosine of ArcFace embeddings")
    id_vit: float = option(0.0, "mean squared error of ViT-Face embeddings")
    moco: float = option(0.0, "1 − cosine of MoCo features")
    adv: float = option(0.0, "softplus(−D), from train.dis_train_start_step on")
    feat_rec: float = option(0.0, "stage 1: mean squared error of F_k and F_w")
    feat_rec_l1: float = option(0.0, "stage 1: mean absolute error of F_k and F_w")
    l2_latent: float = option(0.0, "stage 1: mean squared error of w and e4e's w")

    def __post_init__(self) -> None:
        for item in fields(self):
            if not 0 <= getattr(self, item.name) < float("inf"):
                raise UserError(f"encoder_losses.{item.name} is {getattr(self, item.name)}; wanted 0 or more")


@dataclass
class MainArgs:
    coef: float = option(1.0, "coefficient of the logistic loss")


@dataclass
class R1Args:
    coef: float = option(10.0, "coefficient of the gradient penalty; 0 leaves it out")
    hyper_d_reg_every: int = option(16, "computed every N steps, and multiplied by N")

    def __post_init__(self) -> None:
        if self.hyper_d_reg_every < 1:
            raise UserError(f"disc_losses.r1.hyper_d_reg_every is {self.hyper_d_reg_every}; wanted 1 or more")


@dataclass
class DiscLossesArgs:
    """Losses of the discriminator."""

    main: MainArgs = field(default_factory=MainArgs)
    r1: R1Args = field(default_factory=R1Args)


@dataclass
class RangerArgs:
    lr: float = option(1e-4, "learning rate")
    alpha: float = option(0.5, "lookahead: how far the slow weights follow")
    k: int = option(6, "lookahead: steps between two moves of the slow weights")
    N_sma_threshhold: float = option(5, "RAdam: adapt when the moving average is at least this long")
    betas: list[float] = option([0.95, 0.999], "decay of both moments")
    eps: float = option(1e-5, "added to the denominator")
    weight_decay: float = option(0.0, "decay of the weights, times the learning rate")
    use_gc: bool = option(True, "centralise gradients")
    gc_conv_only: bool = option(False, "those of convolutions only")

    def __post_init__(self) -> None:
        check_betas("optimizers.ranger.betas", self.betas)


@dataclass
class AdamArgs:
    lr: float = option(1e-4, "learning rate")
    betas: list[float] = option([0.9, 0.999], "decay of both moments")
    eps: float = option(1e-8, "added to the denominator")
    weight_decay: float = option(0.0, "L2 penalty, added to the gradient")

    def __post_init__(self) -> None:
        check_betas("optimizers.adam.betas", self.betas)


@dataclass
class OptimizersArgs:
    """Options of the optimizers that train.encoder_optimizer and train.disc_optimizer name."""

    ranger: RangerArgs = field(default_factory=RangerArgs)
    adam: AdamArgs = field(default_factory=AdamArgs)


@dataclass
class MetricsArgs:
    """Validation."""

    batch_size: int = option(4, "images at once")

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UserError(f"metrics.batch_size is {self.batch_size}; wanted 1 or more")


@dataclass
class TrainConfig:
    """All options of a training run."""

    exp: TrainExpArgs = field(default_factory=TrainExpArgs)
    data: DataArgs = field(default_factory=DataArgs)
    train: TrainArgs = field(default_factory=TrainArgs)
    model: ModelArgs = field(default_factory=lambda: ModelArgs(tf32=True))
    methods_args: MethodsArgs = field(default_factory=MethodsArgs)
    encoder_losses: EncoderLossesArgs = field(default_factory=EncoderLossesArgs)
    disc_losses: DiscLossesArgs = field(default_factory=DiscLossesArgs)
    optimizers: OptimizersArgs = field(default_factory=OptimizersArgs)
    metrics: MetricsArgs = field(default_factory=MetricsArgs)

    def __post_init__(self) -> None:
        given = self.train.train_runner
        self.train.train_runner = runner_of(self.model.method, "train.train_runner", given, STAGES)
