"""Checks of a training run before torch is imported, so that a mistake costs a second and not a minute."""

from pathlib import Path

from arguments.domain import DomainConfig, load_domain
from arguments.train_options import TrainConfig
from configs.paths import weight_file
from models.weight_kinds import WeightKind, kind_of
from utils.errors import UserError
from utils.files import IMAGE_SUFFIXES, check_outside, check_writable, list_images
from utils.torch_zip import strings

INVERTER_OPTION = "methods_args.fse_full.inverter_pth"


def check(config: TrainConfig) -> DomainConfig:
    """The domain of the run. Raises UserError naming the option at fault."""
    _check_experiment(config)
    _check_images("data.input_train_dir", config.data.input_train_dir, required=True)
    _check_images("data.input_val_dir", config.data.input_val_dir, least=2)  # FID wants two
    _check_images("data.special_dir", config.data.special_dir)
    _check_losses(config)
    domain = load_domain(config.exp.domain)
    roles = {"generator"}
    if config.train.train_runner == "fse_editor":
        _check_stage_2(config)
        roles.add("e4e")
    else:
        _check_kind("model.checkpoint_path", config.model.checkpoint_path, WeightKind.INVERTER)
        if config.train.true_edits:
            raise UserError("train.true_edits is for stage 2 (model.method=fse_full); stage 1 learns no edits")
        roles |= {"e4e"} if config.encoder_losses.l2_latent else set()
    roles |= {"predictor"} if config.encoder_losses.predictor else set()
    roles |= {"discriminator"} if config.train.train_dis else set()
    for role in sorted(roles):
        if role not in domain.weights:
            raise UserError(f"domain {domain.name}: weights.{role} is missing; training wants that file")
        path = weight_file(domain.weights[role])
        if not path.is_file():
            raise UserError(f"domain {domain.name}: weights.{role}: {path} does not exist; download or train it first")
    return domain


def experiments_dir(config: TrainConfig) -> Path:
    return Path(config.exp.root) / config.exp.exp_dir


def _check_experiment(config: TrainConfig) -> None:
    if not config.exp.name or Path(config.exp.name).name != config.exp.name:
        raise UserError(f"exp.name is '{config.exp.name}'; wanted a name that can be a folder's")
    check_writable(experiments_dir(config) / config.exp.name)
    for images in (config.data.input_train_dir, config.data.input_val_dir, config.data.special_dir):
        if images:
            check_outside(experiments_dir(config), images, "exp.exp_dir")
    resume = config.train.resume_path
    if resume and not Path(resume).is_file():
        raise UserError(f"train.resume_path: {resume} does not exist; wanted a checkpoint or a save_options.json")
    if config.train.start_step > config.train.steps:
        raise UserError(f"train.start_step is {config.train.start_step}, behind train.steps = {config.train.steps}")


def _check_images(option: str, folder: str, required: bool = False, least: int = 1) -> None:
    if not folder:
        if required:
            raise UserError(f"{option} is empty; wanted a folder of aligned images")
        return
    if not Path(folder).is_dir():
        raise UserError(f"{option}: {folder} is not a folder; wanted one of aligned images")
    count = len(list_images(folder))
    if count < least:
        suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
        raise UserError(f"{option}: {folder} has {count} images ({suffixes}); wanted {least} or more")


def _check_losses(config: TrainConfig) -> None:
    losses = vars(config.encoder_losses)
    if not any(losses.values()):
        raise UserError("encoder_losses: every coefficient is 0, so there is nothing to learn")
    for group in (config.train.encoder_optimizer, config.train.disc_optimizer):
        if group not in vars(config.optimizers):
            raise UserError(f"train: no optimizer is called '{group}'; there are: {', '.join(vars(config.optimizers))}")


def _check_stage_2(config: TrainConfig) -> None:
    inverter = config.methods_args.fse_full.inverter_pth
    if not inverter and not config.model.checkpoint_path:
        raise UserError(f"{INVERTER_OPTION} is empty; stage 2 wants the Inverter that stage 1 trained")
    _check_kind(INVERTER_OPTION, inverter, WeightKind.INVERTER)
    _check_kind("model.checkpoint_path", config.model.checkpoint_path, WeightKind.FEATURE_EDITOR)
    for name in ("feat_rec", "feat_rec_l1", "l2_latent"):
        if vars(config.encoder_losses)[name]:
            raise UserError(f"encoder_losses.{name} must be 0 in stage 2: it reads the Inverter, which is frozen there")
    powers = config.train.editings_data
    if not powers or not all(powers.values()):
        raise UserError("train.editings_data wants a direction at least, and for each a list of powers")
    for name in config.train.disc_edits:
        if name not in powers:
            raise UserError(f"train.disc_edits names '{name}', which train.editings_data has not")


def _check_kind(option: str, file: str, kind: WeightKind) -> None:
    """Check that a checkpoint, if one is named, is of this kind."""
    if not file:
        return
    path = weight_file(file)
    if not path.is_file():
        raise UserError(f"{option}: {path} does not exist; wanted a checkpoint")
    actual = kind_of(strings(path))
    if actual not in (kind, WeightKind.OTHER):  # OTHER may be a format that is not read here
        raise UserError(f"{option}: {path} holds {actual.value}; wanted the checkpoint of {kind.value}")
