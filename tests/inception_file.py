"""Stand-in for the published Inception of FID: its names and shapes, random numbers that keep activations alive."""

from pathlib import Path

import torch
from torch import nn

from metrics.fid import inception

NAME = "pt_inception-2015-12-05-6726825d.pth"


def write_inception(folder: Path) -> Path:
    """Written to `folder`/pretrained_models, where it is looked for from the working directory `folder`."""
    network = inception()
    source = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        if parameter.dim() == 4:
            parameter.data = torch.randn(parameter.shape, generator=source) * (2 / parameter[0].numel()) ** 0.5
    network.fc = nn.Linear(2048, 1008)  # the file has it, FID does not use it
    path = folder / "pretrained_models" / NAME
    path.parent.mkdir(exist_ok=True)
    torch.save(network.state_dict(), path)
    return path
