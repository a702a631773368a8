"""LPIPS v0.1 (arXiv 1801.03924) by the `lpips` package, with backbones from files: nothing is ever downloaded."""

import warnings
from pathlib import Path
from typing import Literal

import lpips
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from configs.paths import weight_file
from models.weights import load_frozen, read_tensors
from utils.errors import UserError

# torchvision's names of its ImageNet weights
_BACKBONES = {"vgg": "vgg16-397923af.pth", "alex": "alexnet-owt-7be5be79.pth"}


class LPIPSLoss(nn.Module):
    """LPIPS distance, averaged over the batch."""

    def __init__(self, net: Literal["vgg", "alex"] = "vgg", path: Path | None = None) -> None:
        """As load_lpips."""
        super().__init__()
        self.net = load_lpips(net, path)

    def distances(self, fake: Tensor, real: Tensor) -> Tensor:
        """Two B×3×H×W in [-1, 1] → B distances."""
        return self.net(fake, real).flatten()

    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        """Two B×3×H×W in [-1, 1] → one number."""
        return self.distances(fake, real).mean()


class LPIPSScaleLoss(LPIPSLoss):
    """Sum of the LPIPS distances at 256, 128 and 64 px."""

    SIZES = (256, 128, 64)

    def distances(self, fake: Tensor, real: Tensor) -> Tensor:
        pairs = ((_resize(fake, size), _resize(real, size)) for size in self.SIZES)
        return torch.stack([super(LPIPSScaleLoss, self).distances(*pair) for pair in pairs]).sum(0)


def _resize(x: Tensor, size: int) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def _find(name: str) -> Path:
    """The backbone's file in pretrained_models/ or where torchvision keeps its downloads."""
    places = [weight_file(f"pretrained_models/{name}"), Path(torch.hub.get_dir()) / "checkpoints" / name]
    for path in places:
        if path.is_file():
            return path
    raise UserError(
        f"{name}, which LPIPS needs, is neither at {places[0]} nor at {places[1]}; "
        f"fetch it with: python scripts/download_weights.py --only {name}"
    )


def load_lpips(net: Literal["vgg", "alex"], path: Path | None = None) -> lpips.LPIPS:
    """The package's network, frozen: its linear heads on torchvision's backbone. Two B×3×H×W → B×1×1×1.

    VGG16 is for training, AlexNet for the metric. `path`: the backbone's file; None: that in
    pretrained_models/ or torchvision's downloads. Raises UserError if it is in neither, or does not fit.
    """
    path = path or _find(_BACKBONES[net])

    def make() -> lpips.LPIPS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the package calls torchvision with old arguments
            return lpips.LPIPS(net=net, pnet_rand=True, pretrained=False, verbose=False)

    with torch.device("meta"):
        wanted = list(make().state_dict())
    heads = read_tensors(Path(lpips.__file__).parent / "weights" / "v0.1" / f"{net}.pth")
    features = read_tensors(path, prefix="features.")
    tensors = {f"scaling_layer.{key}": value for key, value in lpips.ScalingLayer().state_dict().items()}
    for key in wanted:
        # The module has the heads twice, lin0.… and lins.0.…, and the backbone in slices: net.slice1.0.weight.
        group, _, rest = key.partition(".")
        if group == "lins":
            tensors[key] = heads[f"lin{rest}"]
        elif group in ("lin0", "lin1", "lin2", "lin3", "lin4"):
            tensors[key] = heads[key]
        elif group == "net" and (name := rest.partition(".")[2]) in features:
            tensors[key] = features[name]
    return load_frozen(make, tensors, str(path))
