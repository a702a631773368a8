"""From options to the parts of a training run."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Adam, Optimizer

from arguments.domain import DomainConfig
from arguments.train_options import OptimizersArgs, TrainConfig
from configs.paths import weight_file
from editings.latent_editor import LatentEditor
from models.e4e import E4E
from models.frozen import cast_once, optimize
from models.sfe import FeatureEditor
from models.stylegan2.discriminator import Discriminator
from models.stylegan2.generator import Generator
from models.weights import (
    load_discriminator,
    load_e4e,
    load_feature_editor,
    load_generator,
    load_inverter,
    new_inverter,
    read_tensors,
    trainable,
)
from training.optimizers import Ranger
from training.precision import DTYPES, in_layout
from training.preflight import INVERTER_OPTION
from training.stages import EditorStage, InverterStage, Stage
from utils.devices import conv_layout

LIGHT_NAMES = {"fse_inverter": "sfe_inverter_light.pt", "fse_editor": "sfe_editor_light.pt"}
OPTIMIZERS: dict[str, type[Optimizer]] = {"ranger": Ranger, "adam": Adam}


def build_stage(
    config: TrainConfig, domain: DomainConfig, device: torch.device, directions: Iterable[str] = ()
) -> Stage:
    """The stage of train.train_runner, its trained network in train mode.

    directions: further ones that it needs, besides those of train.editings_data.
    """
    dtype = DTYPES[config.train.precision]
    decoder = _decoder(domain, dtype)
    start = config.model.checkpoint_path
    stage: Stage
    if config.train.train_runner == "fse_inverter":
        inverter = load_inverter(weight_file(start), domain) if start else new_inverter(domain)
        e4e = _e4e(domain, dtype) if config.encoder_losses.l2_latent else None
        stage = InverterStage(domain, trainable(inverter), decoder, config.train.feature_ramp, e4e)
    else:
        latent_editor = LatentEditor(domain, device=device)
        for name in (*config.train.editings_data, *directions):
            latent_editor.check(name)
        latent_editor.check_files([*config.train.editings_data, *directions])
        if start:
            inverter, editor = load_feature_editor(weight_file(start), domain)
        else:
            path = weight_file(config.methods_args.fse_full.inverter_pth)
            inverter, editor = load_inverter(path, domain, INVERTER_OPTION), FeatureEditor(domain)
        stage = EditorStage(
            domain, trainable(editor), inverter, decoder, _e4e(domain, dtype), latent_editor,
            config.train.editings_data, config.train.disc_edits, dtype,
        )  # fmt: skip
    stage = stage.to(device).train()
    # On a CPU, frozen weights stay in their mapped files: a copy of e4e's alone takes 1 GB.
    for network in (stage.encoder, decoder.input) if device.type == "cpu" else (stage,):
        in_layout(network, conv_layout(device, dtype))
    return stage


def _decoder(domain: DomainConfig, dtype: torch.dtype) -> Generator:
    """The frozen decoder. In half precision, the layers of inference: others scale and cast each weight at each use."""
    decoder = load_generator(weight_file(domain.weights["generator"]), domain.generator)
    if dtype == torch.float32:
        return decoder
    styles = decoder.affine(torch.empty(0, domain.generator.n_styles, domain.generator.style_dim))
    return cast_once(optimize(decoder, styles, winograd=False), dtype)


def _e4e(domain: DomainConfig, dtype: torch.dtype) -> E4E:
    return cast_once(load_e4e(weight_file(domain.weights["e4e"]), domain), dtype)


def build_discriminator(config: TrainConfig, domain: DomainConfig, device: torch.device) -> Discriminator:
    """The domain's, with the weights of the checkpoint that this stage starts from, if that has one."""
    discriminator = load_discriminator(weight_file(domain.weights["discriminator"]), domain.generator)
    start = config.model.checkpoint_path or config.methods_args.fse_full.inverter_pth
    tensors = read_tensors(weight_file(start), "state_dict", "discriminator.") if start else {}
    if tensors:
        discriminator.load_state_dict(tensors)
    return in_layout(trainable(discriminator).to(device), conv_layout(device, DTYPES[config.train.precision]))


def build_optimizer(name: str, parameters: Iterable[nn.Parameter], options: OptimizersArgs) -> Optimizer:
    """The optimizer of that name, with the options of its group."""
    values: dict[str, Any] = dict(vars(getattr(options, name)))
    return OPTIMIZERS[name](parameters, **{**values, "betas": tuple(values["betas"])})
