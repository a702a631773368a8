"""NVIDIA's StyleGAN2 pickles (`G`, `D`, `G_ema`), under our names of tensors."""

from pathlib import Path
from typing import Any

from torch import Tensor

from arguments.domain import GeneratorConfig
from utils import safe_pickle
from utils.errors import UserError
from utils.pickle_builders import PersistentObject


def read_network(path: Path, network: str) -> tuple[dict[str, Tensor], dict]:
    """Tensors and constructor options of one network of a pickle. Raises UserError if it is missing or damaged."""
    if not path.is_file():
        raise UserError(f"weight file {path} does not exist; scripts/download_weights.py fetches the published ones")
    content = safe_pickle.load(path)
    if not isinstance(content, dict) or network not in content:
        raise UserError(f"{path} has no network '{network}'")
    module = content[network]
    return module_tensors(module), _dict(module.state.get("_init_kwargs"))


def module_tensors(module: Any) -> dict[str, Tensor]:
    """Parameters and buffers of a network and its parts, under state-dict keys like `b1024.conv0.weight`.

    Raises UserError if it is not a tree of NVIDIA's modules.
    """
    tensors: dict[str, Tensor] = {}
    seen: set[int] = set()

    def visit(part: Any, prefix: str) -> None:
        # A file may contain a part in many places, or inside itself, which would never end.
        if not isinstance(part, PersistentObject) or id(part) in seen or prefix.count(".") > 32:
            raise UserError(f"expected NVIDIA's modules at {prefix or 'the top'!r}; download the file again")
        seen.add(id(part))
        for group in ("_parameters", "_buffers"):
            for name, value in _dict(part.state.get(group)).items():
                if isinstance(value, Tensor):  # a parameter that is switched off is None
                    tensors[f"{prefix}{name}"] = value
        for name, child in _dict(part.state.get("_modules")).items():
            if child is not None:
                visit(child, f"{prefix}{name}.")

    visit(module, "")
    return tensors


def _dict(value: Any) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}


def generator_tensors(tensors: dict[str, Tensor], config: GeneratorConfig, path: Path) -> dict[str, Tensor]:
    """The tensors of a generator, renamed and reshaped to ours. `path` is for errors."""
    names = {"affine.weight": "conv.modulation.weight", "affine.bias": "conv.modulation.bias", "weight": "conv.weight"}

    def convert(source: str, target: str, styled: bool) -> None:
        prefix = f"synthesis.{source}."
        layer = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        for old, new in names.items():
            result[f"{target}.{new}"] = layer[old][None] if old == "weight" else layer[old]
        if styled:
            result[f"{target}.activate.bias"] = layer["bias"]
            result[f"{target}.noise.weight"] = layer["noise_strength"].reshape(1)
            noise = 0 if target == "conv1" else int(target.split(".")[1]) + 1
            result[f"noises.noise_{noise}"] = layer["noise_const"][None, None]
        else:
            result[f"{target}.bias"] = layer["bias"].reshape(1, 3, 1, 1)

    result: dict[str, Tensor] = {}
    try:
        result["latent_avg"] = tensors["mapping.w_avg"]
        for i in range(config.n_mlp):
            for name in ("weight", "bias"):
                result[f"style.{i + 1}.{name}"] = tensors[f"mapping.fc{i}.{name}"]
        result["input.input"] = tensors["synthesis.b4.const"][None]
        convert("b4.conv1", "conv1", styled=True)
        convert("b4.torgb", "to_rgb1", styled=False)
        for k, size in enumerate(config.resolutions[1:]):
            convert(f"b{size}.conv0", f"convs.{2 * k}", styled=True)
            convert(f"b{size}.conv1", f"convs.{2 * k + 1}", styled=True)
            convert(f"b{size}.torgb", f"to_rgbs.{k}", styled=False)
    except KeyError as error:
        kind = f"a skip-architecture StyleGAN2 of {config.size} px"
        raise UserError(f"{path}: 'G_ema' is not {kind}: {error} is missing") from None
    return result

