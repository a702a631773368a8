"""The small networks of StyleCLIP's mappers and DeltaEdit's: equalised linear layers with activations."""

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from editings.files import wrong_content
from models.stylegan2.layers import EqualLinear, PixelNorm
from models.weights import load_frozen

_LR_MUL = 0.01  # both papers' networks


def mapping_network(tensors: Mapping[str, Tensor], prefix: str, path: Path) -> nn.Sequential:
    """The network whose tensors are `{prefix}.{i}.weight` and `{prefix}.{i}.bias`, frozen, with their sizes.

    The numbers are positions in the network. It starts with PixelNorm if they start at 1, since that has no tensors.
    Raises UserError if there is no such network in the file `path`.
    """
    layers = {key.removeprefix(f"{prefix}."): value for key, value in tensors.items() if key.startswith(f"{prefix}.")}
    indices = sorted(int(key.split(".")[0]) for key in layers if re.fullmatch(r"\d+\.weight", key))
    if not indices or any(layers[f"{i}.weight"].dim() != 2 for i in indices):
        raise wrong_content(path, f"no linear layers {prefix}.*", "a network there")

    def make() -> nn.Sequential:
        modules: list[nn.Module] = [PixelNorm()] if indices[0] == 1 else []
        for i in indices:
            out_dim, in_dim = layers[f"{i}.weight"].shape
            modules.append(EqualLinear(in_dim, out_dim, lr_mul=_LR_MUL, activation=True))
        return nn.Sequential(*modules)

    return load_frozen(make, layers, f"{path}: {prefix}")


def input_dim(network: nn.Sequential) -> int:
    """Features that the network reads."""
    first = next(layer for layer in network if isinstance(layer, EqualLinear))
    return first.weight.shape[1]
