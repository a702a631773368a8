"""StyleCLIP's global directions (Patashnik et al., arXiv 2103.17249): from a text to channels of StyleSpace."""

import logging
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from editings.edit import Edit, LinearS, conv_layers
from editings.files import check_shape, read_array, read_pickle, wrong_content
from editings.text_edit import TextFamily
from models.stylegan2.generator import Styles

logger = logging.getLogger(__name__)

# One unit of power is a move of 1/1.5, as for the published powers.
_POWER_SCALE = 1.5


class StyleCLIPGlobal(TextFamily):
    """s + p/1.5 · direction.

    Files: `relevance` (`.npy`, C×E over the conv channels: how each moves the image in CLIP's space) and `statistics`
    (a pickle of [means, stds], a vector per layer each).
    """

    prefix = "styleclip_global"
    number = "beta"
    example = "styleclip_global_face with hair_face with fire hair_0.10"

    @cached_property
    def _relevance(self) -> Tensor:
        return read_array(self.resources.folder / self.spec["relevance"])

    @cached_property
    def _stds(self) -> list[Tensor]:
        path = self.resources.folder / self.spec["statistics"]
        try:
            _, stds = read_pickle(path)
            return [torch.from_numpy(std) for std in stds]
        except (TypeError, ValueError) as error:
            raise wrong_content(path, "something else", "[means, stds], a list of arrays each") from error

    def edit(self, name: str, like: Styles) -> Edit[Styles]:
        edit = self.parse(name)
        sizes = [style.shape[1] for style in like]
        if (widths := [len(std) for std in self._stds]) != sizes:
            raise wrong_content(self.resources.folder / self.spec["statistics"], f"layers of {widths} channels", sizes)
        text = F.normalize(self.text_difference(edit), dim=-1).cpu()
        channels = sum(sizes[i] for i in conv_layers(len(sizes)))
        check_shape(self.resources.folder / self.spec["relevance"], self._relevance, channels, len(text))

        direction = global_direction(self._relevance, text, edit.threshold, self._stds, self.spec["conv_layers"])
        if not any(layer.any() for layer in direction):
            logger.warning("'%s' changes nothing: no channel reaches %s %g", name, self.number, edit.threshold)
        return LinearS([layer.to(like[0]) / _POWER_SCALE for layer in direction])


def global_direction(relevance: Tensor, text: Tensor, beta: float, stds: list[Tensor], n_convs: int) -> list[Tensor]:
    """The direction in StyleSpace, one vector per layer.

    Args:
        relevance: C×E, over the channels of all convs in order.
        text: E, difference of two phrases, norm 1.
        beta: channels whose |relevance · text| is smaller do not move.
        stds: the channels' standard deviations, one vector per layer, toRGB too.
        n_convs: only the first N convs are moved; all of them determine the scale.
    """
    strength = relevance @ text  # C
    strength = torch.where(strength.abs() < beta, 0, strength)
    peak = strength.abs().max()
    if peak > 0:
        strength = strength / peak
    direction = [torch.zeros_like(std) for std in stds]
    convs = conv_layers(len(stds))
    for layer, part in list(zip(convs, strength.split([len(stds[i]) for i in convs]), strict=True))[:n_convs]:
        direction[layer] = part * stds[layer]
    return direction
