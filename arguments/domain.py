"""A domain: the generator's geometry, the encoders' sizes, the weight files and the editing directions, as data."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from arguments.loader import merge, read_yaml
from utils.errors import UserError

DOMAINS_DIR = Path(__file__).resolve().parent.parent / "configs" / "domains"


@dataclass
class GeneratorConfig:
    """StyleGAN2 with skip architecture (config-f layout)."""

    size: int = 0  # pixels, a power of two
    style_dim: int = 512
    n_mlp: int = 8  # layers of the mapping network
    channels: dict[int, int] = field(default_factory=dict)  # resolution -> channels, 4 to `size`

    @property
    def resolutions(self) -> list[int]:
        """4, 8, … size."""
        return sorted(self.channels)

    @property
    def n_styles(self) -> int:
        """Style vectors in W+: 2·log2(size) − 2."""
        return 2 * len(self.channels)


@dataclass
class InverterConfig:
    """Feature-Style backbone (iresnet) and Fuser; the Feature Editor has the Fuser's shape."""

    widths: list[int] = field(default_factory=lambda: [64, 64, 128, 256, 512])  # stem, then the four stages
    blocks: list[int] = field(default_factory=lambda: [3, 4, 14, 3])  # residual blocks of each stage
    strides: list[int] = field(default_factory=lambda: [2, 2, 1, 2])  # of each stage; the third sets F's resolution
    fusion_blocks: int = 5  # residual blocks of Fuser and Feature Editor


@dataclass
class E4EConfig:
    """IR-SE body with a feature pyramid: images to W+."""

    widths: list[int] = field(default_factory=lambda: [64, 64, 128, 256, 512])  # stem, then the four stages
    blocks: list[int] = field(default_factory=lambda: [3, 4, 14, 3])
    coarse_styles: int = 3  # styles 0 … 2 read the coarse map
    middle_styles: int = 7  # styles 3 … 6 the middle one, the others the fine one


@dataclass
class Trait:
    """A yes-or-no question to the attribute predictor: does the attribute have one of these values?"""

    attribute: str = ""
    values: list[str] = field(default_factory=list)


@dataclass
class DomainConfig:
    """Everything that differs between domains, such as faces and cars."""

    name: str = ""
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    encoder_size: int = 256  # pixels, of the encoders' input
    inverter: InverterConfig = field(default_factory=InverterConfig)
    e4e: E4EConfig = field(default_factory=E4EConfig)
    mirror: bool = True  # a mirrored image belongs to the domain too: training flips half of them
    weights: dict[str, str] = field(default_factory=dict)  # role -> field of configs/paths.py, or a file
    alignment: str | None = None  # "ffhq": crops are made by the FFHQ rule; None: images are not aligned
    traits: dict[str, Trait] = field(default_factory=dict)  # what directions are searched for
    editings_dir: str = "editings_dir"  # folder of the direction files: a field of configs/paths.py, or a folder
    editings: dict[str, Any] = field(default_factory=dict)  # family -> its directions

    @property
    def feature_size(self) -> int:
        """Pixels of F, those of the Inverter's content map: its third stage makes it."""
        return self.encoder_size // math.prod(self.inverter.strides[:3])

    @property
    def feature_layer(self) -> int:
        """The decoder layer whose output F replaces: the second conv at `feature_size`."""
        return 2 * self.generator.resolutions.index(self.feature_size) + 1

    @property
    def feature_channels(self) -> int:
        return self.generator.channels[self.feature_size]


def load_domain(name: str, domains_dir: Path = DOMAINS_DIR) -> DomainConfig:
    """Read configs/domains/{name}.yaml, or a YAML file given by its path.

    Raises UserError for an unknown name, an unknown key or a wrong type.
    """
    path = Path(name).expanduser() if name.endswith((".yaml", ".yml")) else domains_dir / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in domains_dir.glob("*.yaml")))
        raise UserError(f"exp.domain is '{name}', but {path} does not exist; there are: {known}")
    domain = merge(DomainConfig, [(str(path), read_yaml(path, DomainConfig))])
    _check(domain, path)
    return domain


def _check(domain: DomainConfig, path: Path) -> None:
    generator = domain.generator
    wanted = [2**i for i in range(2, generator.size.bit_length())]
    if not wanted or generator.size != wanted[-1]:
        raise UserError(f"{path}: generator.size is {generator.size}; it must be a power of two")
    if generator.resolutions != wanted:
        raise UserError(f"{path}: generator.channels has resolutions {generator.resolutions}; wanted {wanted}")
    if min(generator.channels.values()) < 1:
        raise UserError(f"{path}: generator.channels has {min(generator.channels.values())}; wanted 1 or more")
    for name, encoder in (("inverter", domain.inverter), ("e4e", domain.e4e)):
        if (len(encoder.widths), len(encoder.blocks)) != (5, 4):
            raise UserError(f"{path}: {name} wants 5 widths (stem, then four stages) and 4 blocks (one number a stage)")
    strides = domain.inverter.strides
    if len(strides) != 4 or min(strides) < 1:
        raise UserError(f"{path}: inverter.strides is {strides}; wanted 4 numbers (one a stage), 1 or more")
    factor = math.prod(strides[:3])
    if domain.feature_size not in wanted or domain.encoder_size % factor:
        raise UserError(
            f"{path}: encoder_size is {domain.encoder_size}; wanted {factor} times (inverter.strides of the first "
            f"three stages) one of the resolutions {wanted}"
        )
    if domain.alignment not in (None, "ffhq"):
        raise UserError(f"{path}: alignment is '{domain.alignment}'; wanted ffhq or nothing")
