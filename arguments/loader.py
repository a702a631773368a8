"""From a dataclass, YAML files and the command line to one checked object; errors name the key."""

from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from utils.errors import UserError

T = TypeVar("T")


def merge(schema: type[T], layers: list[tuple[str, Any]], key_prefix: str = "") -> T:
    """Lay `layers` (source name, values) over the defaults of `schema`, later ones winning.

    Raises UserError naming source and key for an unknown key or a value of the wrong type.
    """
    config = OmegaConf.structured(schema)
    for source, values in layers:
        try:
            config = OmegaConf.merge(config, values)
        except OmegaConfBaseException as error:
            key = error.full_key or ""
            what = str(error.msg or error).split("\n")[0]
            raise UserError(f"{source}: {key_prefix}{key}: {what}") from None
    try:
        return OmegaConf.to_object(config)  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        raise UserError(f"{layers[-1][0]}: {key_prefix}{error.full_key}: {str(error.msg).splitlines()[0]}") from None


def read_yaml(path: Path) -> DictConfig:
    """A YAML mapping. Raises UserError for a missing file, or one that is no YAML mapping."""
    try:
        values = OmegaConf.load(path)
    except FileNotFoundError:
        raise UserError(f"config file {path} does not exist") from None
    except (OSError, YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(values, DictConfig):
        raise UserError(f"{path} holds a list or a value; a mapping of options is wanted")
    return values
