"""StyleGAN2's custom ops. The only package of the project that exports names: nothing here is heavy to import."""

from models.stylegan2.ops.functional import blur_bias_act, fused_bias_act, upfirdn2d
from models.stylegan2.ops.winograd import (
    winograd_conv,
    winograd_down,
    winograd_fits,
    winograd_up,
    winograd_up_weight,
    winograd_weight,
)

__all__ = [
    "blur_bias_act", "fused_bias_act", "upfirdn2d", "winograd_conv", "winograd_down", "winograd_fits", "winograd_up",
    "winograd_up_weight", "winograd_weight",
]  # fmt: skip
