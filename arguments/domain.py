"""A domain: the generator's geometry, the encoders' sizes, the weight files and the editing directions, as data."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from arguments.loader import merge, read_yaml
from arguments.options import option
from utils.errors import UserError

DOMAINS_DIR = Path(__file__).resolve().parent.parent / "configs" / "domains"


@dataclass
class GeneratorConfig:
    """StyleGAN2 with skip architecture (config-f layout)."""

    size: int = option(0, "pixels, a power of two")
    style_dim: int = option(512, "numbers of a style vector")
    n_mlp: int = option(8, "layers of the mapping network")
    channels: dict[int, int] = option({}, "resolution -> channels, from 4 to generator.size")

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

    widths: list[int] = option([64, 64, 128, 256, 512], "channels of the stem, then of the four stages")
    blocks: list[int] = option([3, 4, 14, 3], "residual blocks of each stage")
    strides: list[int] = option([2, 2, 1, 2], "of each stage; the product of the first three sets F's resolution")
    fusion_blocks: int = option(5, "residual blocks of Fuser and Feature Editor")


@dataclass
class E4EConfig:
    """The W+ encoder: an IR-SE body with a feature pyramid."""

    widths: list[int] = option([64, 64, 128, 256, 512], "channels of the stem, then of the four stages")
    blocks: list[int] = option([3, 4, 14, 3], "residual blocks of each stage")
    coarse_styles: int = option(3, "styles below this number read the coarse map")
    middle_styles: int = option(7, "the others below this number read the middle map, the rest the fine map")
    head_width: int = option(0, "channels of the styles' heads; 0: as many as w has numbers")


@dataclass
class Trait:
    """A yes-or-no question to the attribute predictor: does the attribute have one of these values?"""

    attribute: str = ""
    values: list[str] = field(default_factory=list)


@dataclass
class DomainConfig:
    """Everything that differs between domains, such as faces and cars."""

    name: str = option("", "name of the domain")
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    encoder_size: int = option(256, "pixels of the images that the encoders read")
    inverter: InverterConfig = field(default_factory=InverterConfig)
    e4e: E4EConfig = field(default_factory=E4EConfig)
    mirror: bool = option(True, "mirrored images belong to the domain, too; training then mirrors half of them")
    weights: dict[str, str] = option({}, "role -> weight file, or a field of configs/paths.py")
    alignment: str | None = option(None, "ffhq: --align cuts faces out by FFHQ's rule; null: images are not aligned")
    traits: dict[str, Trait] = option({}, "trait that a direction can be found for -> attribute and values")
    editings_dir: str = option("editings_dir", "folder of the direction files, or a field of configs/paths.py")
    editings: dict[str, Any] = option({}, "family -> its directions")

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
