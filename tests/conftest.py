"""Shared fixtures: stand-ins for the published weights, the published direction files, a small random domain."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image
from small_domain import SmallDomain

if TYPE_CHECKING:
    from runners.app.studio import Studio

ROOT = Path(__file__).resolve().parent.parent
PARITY = ROOT / "tests" / "parity"


def normal(seed: int, shape: tuple[int, ...]) -> torch.Tensor:
    """The goldens' inputs: N(0, 1) from PCG64."""
    return torch.from_numpy(np.random.Generator(np.random.PCG64(seed)).standard_normal(shape, dtype=np.float32))


@pytest.fixture(scope="session")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`standin("e4e_ffhq_encode.pt")`: a file in the published layout with seeded numbers, written on demand.

    The environment's SFE_STANDINS may name a folder that holds them already.
    """
    from parity.make_checkpoints import main

    folder = Path(os.environ.get("SFE_STANDINS") or tmp_path_factory.mktemp("standins"))

    def get(name: str) -> Path:
        if not (folder / name).exists():
            main(folder, [name])
        return folder / name

    return get


@pytest.fixture(scope="session")
def directions() -> Path:
    """Folder of the published direction files. The project may not contain them; without them, tests are skipped."""
    for folder in (ROOT / "pretrained_models" / "editings", ROOT.parent / "shared" / "data" / "editings"):
        if (folder / "interfacegan_directions").is_dir():
            return folder
    pytest.skip("the published direction files are not here; scripts/download_weights.py fetches them")


@pytest.fixture(scope="session")
def golden() -> Callable[[str, torch.Tensor], None]:
    """`golden("edit/age/pool64", x)`: x is within 1e-3 of the maximum of what the published code computed."""
    arrays = {**np.load(PARITY / "golden.npz"), **np.load(PARITY / "golden_extras.npz")}

    def check(name: str, result: torch.Tensor) -> None:
        wanted = arrays[name]
        assert tuple(result.shape) == wanted.shape, name
        error = np.abs(result.detach().double().numpy() - wanted).max() / np.abs(wanted).max()
        assert error <= 1e-3, f"{name}: off by {error:.1e} of the maximum"

    return check


@pytest.fixture(scope="session")
def photo_path() -> Path:
    """astronaut(), 512×512: Eileen Collins, NASA, public domain."""
    return ROOT / "assets" / "astronaut.png"


@pytest.fixture(scope="session")
def pair_path(photo_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1200×600, two faces side by side; the first one is the larger."""
    face = Image.open(photo_path).convert("RGB")
    pair = Image.new("RGB", (1200, 600), "grey")
    pair.paste(face, (0, 40))
    pair.paste(face.resize((400, 400)), (700, 100))
    path = tmp_path_factory.mktemp("pair") / "pair.png"
    pair.save(path)
    return path


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallDomain:
    """A 64 px domain of seeded random weights, for tests of arithmetic and of whole runs in seconds."""
    return SmallDomain(tmp_path_factory.mktemp("small_domain"))


@pytest.fixture
def studio(small: SmallDomain, tmp_path: Path) -> Studio:
    """The page's logic for the small domain, with its files in a folder of the test."""
    from runners.app.studio import Studio

    return Studio(small.config, "cpu", tmp_path / "server")


@pytest.fixture
def photo(photo_path: Path, studio: Studio) -> Path:
    """me.png, an upload of the photograph."""
    from app_studio import uploaded

    return uploaded(studio, "me.png", photo_path.read_bytes())
