"""The small networks of StyleCLIP's mappers and DeltaEdit's: equalised linear layers with activations."""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from editings.files import wrong_content
from models.stylegan2.layers import EqualLinear, PixelNorm

_LR_MUL = 0.01  # both papers' networks


def mapping_network(tensors: Mapping[str, Tensor], prefix: str, path: Path) -> nn.Sequential:
    """The network whose tensors are `{prefix}.{i}.weight` and `{prefix}.{i}.bias`, frozen; its sizes are the file's.

    The numbers are positions in the network. It starts with PixelNorm if they start at 1, since that has no tensors.
    """
    own = {key.removeprefix(f"{prefix}."): value for key, value in tensors.items() if key.startswith(f"{prefix}.")}
    indices = sorted(int(key.split(".")[0]) for key in own if re.fullmatch(r"\d+\.weight", key))
    layers: list[nn.Module] = [PixelNorm()] if indices[:1] == [1] else []
    try:
        with torch.device("meta"):  # no numbers are drawn only to be overwritten
            for index in indices:
                out_dim, in_dim = own[f"{index}.weight"].shape
                layers.append(EqualLinear(in_dim, out_dim, lr_mul=_LR_MUL, activation=True))
            network = nn.Sequential(*layers)
        if not indices:
            raise ValueError("no layers")
        network.load_state_dict(own, assign=True)
    except (RuntimeError, ValueError) as error:
        raise wrong_content(path, f"no network of linear layers under {prefix}", "one") from error
    return network.eval().requires_grad_(False)


def input_dim(network: nn.Sequential) -> int:
    """Features that the network reads."""
    first = next(layer for layer in network if isinstance(layer, EqualLinear))
    return first.weight.shape[1]
