"""A small domain with every file it needs, in the published formats, filled with seeded random numbers."""

from pathlib import Path

import torch
import yaml
from torch import nn

from arguments.domain import DomainConfig, load_domain
from models.e4e import E4E
from models.sfe import FeatureEditor, Inverter
from models.stylegan2.discriminator import Discriminator
from models.stylegan2.generator import Generator


class SmallDomain:
    """Files of a domain of `size` px in `folder`; directions: `age` (InterfaceGAN) and `glasses` (StyleSpace)."""

    def __init__(self, folder: Path, size: int = 64) -> None:
        self.folder = folder
        self.path = folder / "small.yaml"
        self.generator = folder / "generator.pt"
        self.discriminator = folder / "discriminator.pt"
        self.e4e = folder / "e4e.pt"
        self.inverter = folder / "inverter.pt"
        self.editor = folder / "editor.pt"
        self.config = folder / "simple_inference.yaml"
        with torch.random.fork_rng():  # for what the layers draw themselves
            torch.manual_seed(0)
            self._write(size)

    def load(self) -> DomainConfig:
        return load_domain(str(self.path))

    def _write(self, size: int) -> None:
        channels = {2**i: max(8, 64 >> i) for i in range(2, size.bit_length())}
        narrow = {"widths": [8, 8, 8, 16, 16], "blocks": [1, 1, 2, 1]}
        torch.save(torch.randn(1, 16, generator=torch.Generator().manual_seed(5)), self.folder / "age.pt")
        domain = {
            "name": "small",
            "generator": {"size": size, "style_dim": 16, "n_mlp": 2, "channels": channels},
            "encoder_size": size,
            "inverter": {**narrow, "fusion_blocks": 1},
            "e4e": {**narrow, "coarse_styles": 3, "middle_styles": 6},
            "alignment": "ffhq",
            "weights": {
                "generator": str(self.generator), "discriminator": str(self.discriminator), "e4e": str(self.e4e)
            },
            "editings": {
                "interfacegan": {"directions": {"age": {"file": str(self.folder / "age.pt"), "range": [-10, 10]}}},
                "stylespace": {"directions": {"glasses": {"channels": [[3, 2], [2, 5]], "range": [-10, 10]}}},
            },
        }  # fmt: skip
        self.path.write_text(yaml.safe_dump(domain))
        self.config.write_text(yaml.safe_dump({
            "exp": {"domain": str(self.path)},
            "model": {"method": "fse_full", "checkpoint_path": str(self.editor), "device": "cpu"},
        }))  # fmt: skip

        config = self.load()
        generator = randomised(Generator(config.generator), 1)
        torch.save({"g_ema": generator.state_dict(), "latent_avg": 0.1 * torch.ones(16)}, self.generator)
        discriminator = _prefixed("discriminator", randomised(Discriminator(config.generator), 2))
        torch.save({"state_dict": discriminator}, self.discriminator)
        torch.save({"state_dict": _prefixed("encoder", randomised(E4E(config), 3))}, self.e4e)
        inverter = randomised(Inverter(config), 4)
        torch.save({"state_dict": _prefixed("encoder", inverter)}, self.inverter)
        editor = {**_prefixed("encoder", randomised(FeatureEditor(config), 5)), **_prefixed("inverter", inverter)}
        torch.save({"state_dict": editor}, self.editor)


def randomised(module: nn.Module, seed: int) -> nn.Module:
    """Draw every number again, BatchNorm statistics too, so that none is trivially 0 or 1; values stay moderate."""
    source = torch.Generator().manual_seed(seed)
    plain = {f"{name}.weight" for name, part in module.named_modules() if isinstance(part, (nn.Conv2d, nn.Linear))}
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if not tensor.is_floating_point():
                continue
            noise = torch.randn(tensor.shape, generator=source)
            if name.endswith("running_var"):
                tensor.copy_(1 + 0.1 * noise.abs())
            elif name in plain:
                tensor.copy_(noise / tensor[0].numel() ** 0.5)
            elif tensor.dim() > 1:  # equalised layers scale themselves; images should be about in [-1, 1]
                tensor.copy_(noise * (0.15 if "rgb" in name and "modulation" not in name else 1))
            else:
                tensor.copy_(tensor + 0.1 * noise)
    return module


def _prefixed(prefix: str, module: nn.Module) -> dict[str, torch.Tensor]:
    return {f"{prefix}.{key}": value for key, value in module.state_dict().items()}
