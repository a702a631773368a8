"""All weight formats: reads files into frozen networks.

Files are memory-mapped and networks are built on the meta device, so that loading is cheap and unused parts are
never read. Nothing in a file can run code: `.pt` and `.pth` are read with weights_only, `.pkl` by
utils.safe_pickle.
"""

import argparse
import logging
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from arguments.domain import DomainConfig, GeneratorConfig
from configs.paths import weight_file
from models import nvidia
from models.e4e import E4E
from models.predictor import Predictor
from models.sfe import FeatureEditor, Inverter
from models.stylegan2.discriminator import Discriminator
from models.stylegan2.generator import Generator
from models.weight_kinds import WeightKind, kind_of
from utils.errors import UserError
from utils.files import atomic_path, check_apart

logger = logging.getLogger(__name__)

Tensors = dict[str, Tensor]
M = TypeVar("M", bound=nn.Module)

# iresnet50 -> Backbone; the third stage's stride differs, which no key shows
_IRESNET_NAMES = {"conv1.": "conv.0.", "bn1.": "conv.1.", "prelu.": "conv.2."} | {
    f"layer{i}.": f"block_{i}." for i in range(1, 5)
}


def read(path: Path) -> dict:
    """The mapping that a `.pt`, `.pth` or `.safetensors` file holds, memory-mapped where the format allows it.

    Raises UserError for a file that is missing, unreadable, or would run code.
    """
    if not path.is_file():
        raise UserError(f"weight file {path} does not exist; scripts/download_weights.py fetches the published ones")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals([argparse.Namespace]):  # harmless; some files store their options as one
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:  # PyTorch's text advises to read the file with weights_only=False
        name = re.search(r"GLOBAL ([\w.]+)", str(error))
        why = f"it names {name[1]}, which might run code" if name else "it is damaged, or holds more than tensors"
        raise UserError(f"{path} is refused: {why}; take a file from a source that you trust") from error
    except (OSError, RuntimeError, EOFError, LookupError, ValueError, SafetensorError) as error:
        raise UserError(f"{path} is damaged, or no weight file ({type(error).__name__}); download it again") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}; a mapping of tensors is wanted")
    return content


def read_tensors(path: Path, root: str | None = None, prefix: str = "") -> Tensors:
    """The tensors of a file: under the key `root`, if given, those named `prefix`…, without the prefix."""
    content = read(path)
    if root is not None and not isinstance(content.get(root), dict):
        raise UserError(f"{path} has no '{root}'; it holds {', '.join(map(str, list(content)[:5]))}")
    tensors = content if root is None else content[root]
    return {k.removeprefix(prefix): v for k, v in tensors.items() if isinstance(v, Tensor) and k.startswith(prefix)}


def load_frozen(make: Callable[[], M], tensors: Tensors, source: str, ignored: tuple[str, ...] = ()) -> M:
    """The module of `make()` with `tensors` as its state, which are not copied; frozen and in eval mode.

    Keys that start with one of `ignored` are left out. Raises UserError naming the first key that is missing, unknown,
    or of another shape.
    """
    with torch.device("meta"):
        module = make()
    wanted = module.state_dict()
    tensors = {k: v for k, v in tensors.items() if k in wanted or not k.startswith(ignored or ("\0",))}
    for key in [k for k in wanted if k not in tensors] + [k for k in tensors if k not in wanted]:
        if key.endswith("num_batches_tracked"):  # a counter that frozen networks do not read
            tensors[key] = torch.zeros((), dtype=torch.int64)
            continue
        state = "misses" if key in wanted else "has the unknown"
        raise UserError(f"{source} does not fit {type(module).__name__}: it {state} key '{key}'")
    for key, tensor in tensors.items():
        if key in wanted and tensor.shape != wanted[key].shape:
            shape, want = tuple(tensor.shape), tuple(wanted[key].shape)
            name = type(module).__name__
            raise UserError(f"{source}: '{key}' has shape {shape}; the domain's {name} wants {want}")
    tensors = {key: t.float() if t.dtype == torch.float16 else t for key, t in tensors.items()}  # halved to save space
    module.load_state_dict(tensors, strict=False, assign=True)
    return freeze(module)


def freeze(module: M) -> M:
    """Eval mode, no gradients."""
    return module.eval().requires_grad_(False)


def load_generator(path: Path, config: GeneratorConfig) -> Generator:
    """From `{g_ema, latent_avg}` (`.pt`), or from `G_ema` of an NVIDIA `.pkl`."""
    if path.suffix == ".pkl":
        tensors = nvidia.generator_tensors(nvidia.read_network(path, "G_ema")[0], config, path)
        latent_avg = tensors.pop("latent_avg")
    else:
        tensors, average = read_tensors(path, "g_ema"), read(path).get("latent_avg")
        if not isinstance(average, Tensor) or average.numel() != config.style_dim:
            raise UserError(f"{path} has no 'latent_avg' of {config.style_dim} numbers")
        latent_avg = average
    constants = [k for k in tensors if k.endswith((".blur.kernel", ".upsample.kernel"))]
    generator = load_frozen(lambda: Generator(config), tensors, str(path), ignored=tuple(constants))
    generator.latent_avg = latent_avg.reshape(-1).float()
    return generator


def load_discriminator(path: Path, config: GeneratorConfig) -> Discriminator:
    """From `D` of an NVIDIA `.pkl`, with its group size and clamp, or `discriminator.*` of a full checkpoint."""
    if path.suffix == ".pkl":
        tensors, options = nvidia.read_network(path, "D")
        group = options.get("epilogue_kwargs", {}).get("mbstd_group_size", 4)
        clamp = options.get("conv_clamp")
    else:
        tensors, group, clamp = read_tensors(path, "state_dict", "discriminator."), 4, None
    constants = tuple(k for k in tensors if k.endswith("resample_filter"))
    return load_frozen(lambda: Discriminator(config, group, clamp), tensors, str(path), ignored=constants)


def load_e4e(path: Path, domain: DomainConfig) -> E4E:
    """From `encoder.*` under `state_dict`; the file's latent_avg and decoder are not used."""
    return load_frozen(lambda: E4E(domain), read_tensors(path, "state_dict", "encoder."), str(path))


def load_predictor(path: Path) -> Predictor:
    """From `save_predictor`'s file: `attributes` (name -> list of values) and `state_dict`."""
    attributes = read(path).get("attributes")
    if not isinstance(attributes, dict) or not all(isinstance(values, list) for values in attributes.values()):
        raise UserError(f"{path} has no 'attributes'; wanted a predictor, as scripts/train_predictor.py writes it")
    return load_frozen(lambda: Predictor(attributes), read_tensors(path, "state_dict"), str(path))


def save_predictor(predictor: Predictor, path: Path) -> None:
    save({"attributes": predictor.attributes, "state_dict": predictor.state_dict()}, path)


def load_inverter(path: Path, domain: DomainConfig, option: str = "model.checkpoint_path of fse_inverter") -> Inverter:
    """The Inverter of a stage-1 checkpoint, light or full. The error for another file names `option`."""
    tensors = _expect(path, WeightKind.INVERTER, option)
    return load_frozen(lambda: Inverter(domain), _under(tensors, "encoder."), str(path))


def load_feature_editor(
    path: Path, domain: DomainConfig, option: str = "model.checkpoint_path of fse_full"
) -> tuple[Inverter, FeatureEditor]:
    """The Inverter and the Feature Editor of a stage-2 checkpoint, light or full."""
    tensors = _expect(path, WeightKind.FEATURE_EDITOR, option)
    inverter = load_frozen(lambda: Inverter(domain), _under(tensors, "inverter."), str(path))
    return inverter, load_frozen(lambda: FeatureEditor(domain), _under(tensors, "encoder."), str(path))


def new_inverter(domain: DomainConfig) -> Inverter:
    """An Inverter to be trained. Its backbone's stages start from the domain's `backbone` file (ArcFace iresnet50)."""
    inverter = Inverter(domain)
    path = weight_file(domain.weights.get("backbone", "arcface_model_path"))
    if "backbone" not in domain.weights or not path.is_file():
        logger.warning("the Inverter's backbone starts from random numbers, as there is no backbone file (%s)", path)
        return inverter
    tensors = {
        new + key.removeprefix(old): tensor
        for key, tensor in read_tensors(path).items()
        for old, new in _IRESNET_NAMES.items()
        if key.startswith(old)
    }
    backbone = inverter.fs_backbone
    wanted = {key for key in backbone.state_dict() if not key.startswith(("content_layer.", "styles."))}
    if wanted != set(tensors):
        odd = min(wanted ^ set(tensors))
        raise UserError(f"{path} does not fit the Inverter's backbone: '{odd}' is in only one of them")
    try:
        backbone.load_state_dict(tensors, strict=False)
    except RuntimeError as error:  # after a title, each line names a tensor
        raise UserError(f"{path} does not fit the Inverter's backbone: {str(error).splitlines()[1].strip()}") from None
    logger.info("the Inverter's backbone starts from %s", path)
    return inverter


def trainable(module: M) -> M:
    """Train mode, gradients, and a copy of the tensors, which may be mapped to a file."""
    for parameter in module.parameters():
        parameter.data = parameter.data.clone()
    for buffer in module.buffers():
        buffer.data = buffer.data.clone()
    return module.train().requires_grad_(True)


def save(content: dict, path: Path) -> None:
    """Write a `.pt` file, whole or not at all."""
    with atomic_path(path) as temporary:
        torch.save(content, temporary)


def export_light(full: Path, light: Path) -> WeightKind:
    """Write what inference needs of a training checkpoint in the light format. Returns what it holds."""
    check_apart([light], [full])
    tensors = _averaged(read_tensors(full, "state_dict"))
    kind = kind_of(tensors)
    if kind not in (WeightKind.INVERTER, WeightKind.FEATURE_EDITOR):
        raise UserError(f"{full} holds {_described(tensors)}; wanted a checkpoint of training")
    save({"state_dict": {k: v for k, v in tensors.items() if k.startswith(("encoder.", "inverter."))}}, light)
    return kind


def save_as_float16(source: Path, target: Path, prefix: str = "") -> None:
    """Write the networks of a weight file as float16, which loading turns into float32 again.

    `prefix`: only tensors of `state_dict` with this prefix are kept. What only training needs is left out.
    """
    check_apart([target], [source])
    content = read(source)
    kept = {key: content[key] for key in ("state_dict", "g_ema", "latent_avg", "attributes") if key in content}
    if "state_dict" in kept:
        kept["state_dict"] = {key: value for key, value in kept["state_dict"].items() if key.startswith(prefix)}
    if not kept.get("state_dict") and "g_ema" not in kept:
        raise UserError(f"{source} holds no network{f' called {prefix}…' if prefix else ''}; wanted a weight file")
    save(_halved(kept), target)


def _halved(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _halved(item) for key, item in value.items()}
    return value.half() if isinstance(value, Tensor) and value.is_floating_point() else value


def _expect(path: Path, kind: WeightKind, option: str) -> Tensors:
    content = read(path)
    tensors = content.get("state_dict", content)  # a .safetensors file has no levels
    tensors = {k: v for k, v in tensors.items() if isinstance(v, Tensor)} if isinstance(tensors, dict) else {}
    if kind_of(tensors) != kind:
        raise UserError(f"{path} holds {_described(tensors)}; {option} wants {kind.value} checkpoint")
    return _averaged(tensors)


def _averaged(tensors: Tensors) -> Tensors:
    """With the trained network's moving average in its place, if training kept one (train.ema)."""
    return tensors | {f"encoder.{key}": value for key, value in _under(tensors, "ema.").items()}


def _described(tensors: Tensors) -> str:
    """What a state dict holds, in words."""
    kind = kind_of(tensors)
    full = any(name.startswith(("decoder.", "discriminator.")) for name in tensors)
    return f"{kind.value} (full checkpoint)" if full and kind != WeightKind.OTHER else kind.value


def _under(tensors: Tensors, prefix: str) -> Tensors:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
