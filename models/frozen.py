"""Frozen networks made fast: BatchNorm folded into the convs, weights in the layout and dtype that run best.

The results stay the same, which tests/models/test_frozen.py and the goldens check. Everything is decided when a network
is made ready: a forward changes nothing in it, so that copies and compiled graphs of it are right.
"""

import copy
from collections.abc import Iterable
from typing import TypeVar

import torch
from torch import Tensor, nn

from models.backbone import IResNetBlock
from models.e4e import StyleHeads
from models.frozen_layers import (
    FrozenConv,
    FrozenLinear,
    FrozenStyledConv,
    FrozenStyleHeads,
    FrozenToRGB,
    SizedConv,
)
from models.irse import IRBlock
from models.sfe import FusionBlock
from models.stylegan2.layers import EqualLinear, StyledConv, ToRGB

M = TypeVar("M", bound=nn.Module)

CAST: dict[type[nn.Module], tuple[str, ...]] = {  # what autocast casts: kind of layer -> its tensors
    nn.Conv2d: ("weight", "bias"),
    nn.Linear: ("weight", "bias"),
    nn.PReLU: ("weight",),
    FrozenConv: ("weight", "bias", "slope"),
    FrozenStyledConv: ("weight",),
    FrozenToRGB: ("bias",),
}


def optimize(
    module: M, *inputs: Tensor | list[Tensor], winograd: bool = True, layout: torch.memory_format = torch.channels_last
) -> M:
    """Replace the parts of a frozen module by faster equivalents; returns the module.

    Args:
        inputs: of the module's forward, with batch size 0: the sizes that it is optimized for. Others work too, but are
            slower.
        winograd: use Winograd's convs where they are faster; they are for float32 on the CPU.
        layout: of the convs' weights, which results take on.
    """
    module = _fast(module)  # type: ignore[assignment]
    for conv, x in _conv_inputs(module, inputs):
        conv.make_ready(x, winograd, layout)
    return module


def cast_once(network: M, dtype: torch.dtype) -> M:
    """The network with weights in the dtype to which autocast would cast them at each use; all else is shared.

    For frozen networks, optimized or plain, under autocast to `dtype`: results stay the same. What autocast leaves in
    float32 stays so, and with float32 the network is returned.
    """
    if dtype == torch.float32:
        return network
    network = copy.deepcopy(network, {id(tensor): tensor for tensor in [*network.parameters(), *network.buffers()]})
    for part in network.modules():
        for name in next((names for kind, names in CAST.items() if isinstance(part, kind)), ()):
            tensor = getattr(part, name)
            if tensor is not None:
                cast = tensor.detach().to(dtype)
                parameter = isinstance(tensor, nn.Parameter)
                setattr(part, name, nn.Parameter(cast, requires_grad=False) if parameter else cast)
    return network


def _conv_inputs(module: nn.Module, inputs: tuple) -> list[tuple[SizedConv, Tensor]]:
    """The module's convs with what each reads when the module reads `inputs`."""
    read: list[tuple[SizedConv, Tensor]] = []
    convs = [part for part in module.modules() if isinstance(part, SizedConv)]
    hooks = [conv.register_forward_pre_hook(lambda conv, inputs: read.append((conv, inputs[0]))) for conv in convs]
    with torch.inference_mode():
        module(*inputs)
    for hook in hooks:
        hook.remove()
    return read


def _fast(module: nn.Module) -> nn.Module:
    if isinstance(module, FusionBlock):
        return FrozenResidual(module.body, nn.Identity())
    if isinstance(module, IResNetBlock):
        return FrozenResidual(module.branch(), _fast(module.downsample))
    if isinstance(module, IRBlock):
        return FrozenResidual(module.res_layer, _fast(module.shortcut_layer))
    if isinstance(module, EqualLinear):
        return FrozenLinear(module)
    if isinstance(module, StyleHeads):
        return FrozenStyleHeads(module)
    if isinstance(module, StyledConv):
        return FrozenStyledConv(module)
    if isinstance(module, ToRGB):
        return FrozenToRGB(module)
    if isinstance(module, nn.Sequential) and any(isinstance(layer, nn.BatchNorm2d) for layer in module):
        return nn.Sequential(*_fold(module))
    for name, child in module.named_children():
        setattr(module, name, _fast(child))
    return module


def _fold(layers: Iterable[nn.Module]) -> list[nn.Module]:
    """Convs with the BN and PReLU around them folded in; other layers are unchanged."""
    result: list[nn.Module] = []
    before: nn.BatchNorm2d | None = None
    for layer in layers:
        last = result[-1] if result else None
        if isinstance(layer, nn.Conv2d):
            result.append(FrozenConv(layer, before))
            before = None
        elif isinstance(layer, nn.BatchNorm2d) and isinstance(last, FrozenConv) and last.slope is None:
            last.fold(layer)
        elif isinstance(layer, nn.BatchNorm2d):
            before = layer
        elif isinstance(layer, nn.PReLU) and isinstance(last, FrozenConv):
            last.slope = layer.weight
        else:
            result.append(layer)
    return result


class FrozenResidual(nn.Module):
    """branch(x) + shortcut(x)."""

    def __init__(self, branch: Iterable[nn.Module], shortcut: nn.Module) -> None:
        super().__init__()
        self.branch = nn.ModuleList(_fold(branch))
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.shortcut(x)
        *layers, last = self.branch
        for layer in layers:
            x = layer(x)
        return last(x, shortcut) if isinstance(last, FrozenConv) else last(x) + shortcut
