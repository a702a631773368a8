"""From options to the objects of a run."""

from collections.abc import Iterable

import torch

from arguments.domain import load_domain
from arguments.options import Config
from configs.paths import weight_file
from editings.latent_editor import LatentEditor
from models.inference import METHODS, FSEFull, Method
from utils.devices import resolve_device
from utils.errors import UserError
from utils.malloc import tune_malloc


def build_method(config: Config) -> tuple[Method, LatentEditor]:
    """The method of `model.method` for the domain of `exp.domain`, and the editor with the domain's directions.

    No weights are read yet. Raises UserError for an unknown domain, where no checkpoint is named, or where the
    device cannot do what the options want.
    """
    tune_malloc()
    name = config.model.method
    if not config.model.checkpoint_path:
        raise UserError(f"model.checkpoint_path is empty; {name} wants the file of its trained part")
    device, domain = resolve_device(config.model.device, config.model.tf32), load_domain(config.exp.domain)
    editor, dtype = LatentEditor(domain, device=device), getattr(torch, config.model.dtype)
    if config.model.cuda_graph and device.type != "cuda":
        raise UserError(f"model.cuda_graph is set, but the device is {device.type}; it wants an NVIDIA GPU")
    method = METHODS[name](
        domain, config.model.checkpoint_path, device, editor, dtype, config.model.compile, config.model.cuda_graph
    )
    return method, editor


def check_files(
    method: Method, editor: LatentEditor, names: Iterable[str], e4e: bool = False, latents: bool = False
) -> None:
    """Raises UserError if a file is missing that these edits need, before any image is read or computed.

    `e4e`: its own images are needed, too, which require its weights with every method; `latents`: inversion files are.
    """
    names = list(names)
    roles = ["generator", *(["e4e"] if e4e or ((names or latents) and isinstance(method, FSEFull)) else [])]
    for path in (method.checkpoint, *(weight_file(method.domain.weights[role]) for role in roles)):
        if not path.exists():
            raise UserError(
                f"weight file {path} does not exist; scripts/download_weights.py fetches the published ones"
            )
    editor.check_files(names)
