"""Text and mapper edits against what the published code computed (tests/parity)."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from arguments.domain import load_domain
from editings.deltaedit import DeltaMapper
from editings.edit import conv_layers
from editings.styleclip_global import global_direction
from editings.styleclip_mapper import LevelsMapper
from models.stylegan2.generator import Generator
from models.weights import read_tensors
from utils import safe_pickle

Golden = Callable[[str, Tensor], None]
EDITINGS = load_domain("human_faces").editings


def normal(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.Generator(np.random.PCG64(seed)).standard_normal(shape, dtype=np.float32))


def test_styleclip_mapper(standin: Callable[[str], Path], golden: Golden) -> None:
    path = standin("styleclip_mappers/afro.pt")
    mapper = LevelsMapper(read_tensors(path, "state_dict"), EDITINGS["styleclip_mapper"]["levels"], 512, path)
    golden("styleclip_mapper/afro", mapper(normal(31, 2, 18, 512)))


def test_delta_mapper(standin: Callable[[str], Path], golden: Golden) -> None:
    with torch.device("meta"):
        generator = Generator(load_domain("human_faces").generator)
        styles = generator.affine(torch.zeros(1, 18, 512))
    widths = [styles[i].shape[1] for i in conv_layers(len(styles))]
    levels = EDITINGS["deltaedit"]["levels"].items()
    path = standin("delta_mapper.pt")
    mapper = DeltaMapper(read_tensors(path), {level: sum(widths[a:b]) for level, (a, b) in levels}, path)
    assert mapper.sizes == {"coarse": 1536, "medium": 2048, "fine": 2464}
    golden("delta_mapper", mapper(normal(32, 2, 6048), normal(33, 2, 1024)))


def test_global_direction(directions: Path, golden: Golden) -> None:
    spec = EDITINGS["styleclip_global"]
    _, stds = safe_pickle.load(directions / spec["statistics"])
    target, neutral = F.normalize(normal(38, 2, 512), dim=1)
    text = F.normalize(target - neutral, dim=0)
    stds = [torch.from_numpy(std) for std in stds]
    direction = global_direction(0.05 * normal(37, 6048, 512), text, 0.1, stds, spec["conv_layers"])
    golden("styleclip_global/direction", torch.cat(direction))
