"""StyleSpace (Wu et al., arXiv 2011.12799): single channels of single layers."""

import torch

from editings.edit import Edit, LinearS, SFamily
from models.stylegan2.generator import Styles
from utils.errors import UserError


class StyleSpace(SFamily):
    """s[layer][channel] += STEP · p. No files: layers (toRGB counted) and channels are in the domain's YAML."""

    STEP = 3  # the published ranges of powers assume it

    def edit(self, name: str, like: Styles) -> Edit[Styles]:
        direction = [torch.zeros_like(style[0]) for style in like]
        for layer, channel in self.spec["directions"][name]["channels"]:
            if not 0 <= layer < len(like) or not 0 <= channel < like[layer].shape[1]:
                raise UserError(
                    f"editings.stylespace '{name}': channel {channel} of layer {layer}, but the generator has layers "
                    f"of {[style.shape[1] for style in like]} channels"
                )
            direction[layer][channel] += self.STEP
        return LinearS(direction)
