"""A 64 px domain with the files of all seven families, in the published formats, of seeded random numbers."""

import pickle
from pathlib import Path

import numpy as np
import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from torch import Tensor

from arguments.domain import DomainConfig, GeneratorConfig
from editings.latent_editor import LatentEditor
from models.stylegan2.generator import Generator

DIM, N_STYLES, EMBEDDING = 32, 10, 16
CHANNELS = {4: 32, 8: 32, 16: 16, 32: 16, 64: 8}
WIDTHS = [32, 32, 32, 32, 32, 32, 16, 16, 16, 16, 16, 16, 8, 8]  # input channels: conv, rgb, (conv, conv, rgb) × 4
CONVS = [0, 2, 3, 5, 6, 8, 9, 11, 12]
N_CHANNELS = 32 * 4 + 16 * 4 + 8
TEMPLATES = ["a photo of a {}.", "the {} in a video game."]
FIRE = "styleclip_global_face with hair_face with fire hair_0.10"
CURLS = "deltaedit_face_face with curls_0.02"


class DirectionFiles:
    """Writes the files into `folder`; `editor()` reads them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._source = torch.Generator().manual_seed(7)
        with torch.random.fork_rng():
            torch.manual_seed(7)
            self.generator = Generator(GeneratorConfig(64, DIM, 2, CHANNELS)).requires_grad_(False)
            self.clip = tiny_clip()
        self.direction = self.random(1, DIM)
        self.boundary = self.random(1, N_STYLES * DIM)
        self.pca = {"mean": self.random(1, DIM), "comp": self.random(6, 1, DIM), "std": self.random(6).abs() + 0.5}
        self.mappers = {
            name: {k: v for level in levels for k, v in self._linear(f"mapper.{level}_mapping.mapping", DIM, DIM, 1)}
            for name, levels in {"afro": ["course", "medium"], "depp": ["course", "medium", "fine"]}.items()
        }
        self.delta_mapper = dict(
            pair
            for level, size in {"coarse": 32, "medium": 32, "fine": 72}.items()
            for pair in (
                *self._linear(f"sm_{level}.mapping", size, size, 1),
                *self._linear(f"cm_{level}.mapping", 2 * EMBEDDING, size, 1),
                *self._linear(f"fm_{level}.mapping", 2 * size, size, 0),
            )
        )
        self.delta_i_c = 0.2 * self.random(N_CHANNELS, EMBEDDING)
        self.fs3 = self.random(N_CHANNELS, EMBEDDING)
        self.means_stds = [[self.random(width).abs().numpy() for width in WIDTHS] for _ in range(2)]
        self._write()

    def editor(self, **changes: dict) -> LatentEditor:
        return LatentEditor(self.domain(**changes), self.folder)

    def domain(self, **changes: dict) -> DomainConfig:
        text = {"clip": str(self.folder / "ViT.pt"), "templates": "templates.txt", "range": [-10, 10]}
        layers = {"course": [0, 4], "medium": [4, 8], "fine": [8, None]}
        editings = {
            "interfacegan": {"directions": {"age": {"file": "age.pt", "range": [-10, 10]}}},
            "ganspace": {
                "file": "pca.pt",
                "directions": {
                    "roundness": {"component": 4, "styles": [0, 5], "range": [-20, 15]},
                    "eyes": {"component": 5, "styles": [7, 8], "range": [-30, 45]},
                },
            },
            "fs_boundaries": {"directions": {"fs_smiling": {"file": "smiling.npy", "range": [-10, 10]}}},
            "stylespace": {"directions": {"black hair": {"channels": [[3, 7], [12, 5]], "range": [-7, 10]}}},
            "styleclip_mapper": {
                "folder": str(self.folder / "mappers"),
                "levels": layers,
                "directions": {"afro": {"range": [0, 0.14]}, "depp": {"range": [0, 0.12]}},
            },
            "styleclip_global": {
                **text, "relevance": "delta_i_c.npy", "statistics": "S_mean_std", "conv_layers": 6
            },
            "deltaedit": {
                **text, "relevance": "fs3.npy", "mapper": str(self.folder / "delta_mapper.pt"),
                "levels": {"coarse": [0, 2], "medium": [2, 4], "fine": [4, None]},
            },
        }  # fmt: skip
        return DomainConfig(name="tiny", editings={**editings, **changes})

    def random(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self._source)

    def _linear(self, prefix: str, in_dim: int, out_dim: int, first: int) -> list[tuple[str, Tensor]]:
        """Four layers, numbered from `first`, as wide inside as at the end."""
        tensors = []
        for i in range(4):
            tensors.append((f"{prefix}.{first + i}.weight", 100 * self.random(out_dim, in_dim if i == 0 else out_dim)))
            tensors.append((f"{prefix}.{first + i}.bias", 10 * self.random(out_dim)))
        return tensors

    def _write(self) -> None:
        (self.folder / "mappers").mkdir()
        torch.save(self.direction, self.folder / "age.pt")
        torch.save(self.pca, self.folder / "pca.pt")
        np.save(self.folder / "smiling.npy", self.boundary.numpy())
        for name, tensors in self.mappers.items():
            torch.save({"state_dict": tensors, "opts": {"description": name}}, self.folder / "mappers" / f"{name}.pt")
        torch.save(self.delta_mapper, self.folder / "delta_mapper.pt")
        np.save(self.folder / "delta_i_c.npy", self.delta_i_c.numpy())
        np.save(self.folder / "fs3.npy", self.fs3.numpy())
        (self.folder / "S_mean_std").write_bytes(pickle.dumps(self.means_stds, protocol=3))
        (self.folder / "templates.txt").write_text("\r\n".join(TEMPLATES) + "\n")
        torch.save(self.clip.state_dict(), self.folder / "ViT.pt")


def tiny_clip(quick_gelu: bool = True) -> CLIP:
    """One block wide, but of CLIP's layout and with its vocabulary."""
    vision = CLIPVisionCfg(layers=1, width=64, patch_size=32, image_size=64)
    text = CLIPTextCfg(layers=1, width=64, heads=1)
    return CLIP(EMBEDDING, vision, text, quick_gelu=quick_gelu).eval().requires_grad_(False)
