"""From a dataclass, YAML files and the command line to one checked object; errors name the key."""

import inspect
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from arguments.options import Config, ExpArgs
from arguments.train_options import TrainConfig
from utils.errors import UserError

T = TypeVar("T")


def merge(schema: type[T], layers: list[tuple[str, Any]]) -> T:
    """Lay `layers` (source name, values) over the defaults of `schema`, later ones winning.

    Raises UserError naming source and key for an unknown key or a value of the wrong type.
    """
    config = OmegaConf.structured(schema)
    for source, values in layers:
        plain = [OmegaConf.to_container(OmegaConf.create(layer)) for layer in (config, values)]
        odd = _misplaced(*plain)  # type: ignore[arg-type]
        if odd:
            raise UserError(f"{source}: {odd}: wanted a mapping, as in {{name: value}}")
        try:
            config = OmegaConf.merge(config, values)
        except OmegaConfBaseException as error:
            key = error.full_key or ""
            what = str(error.msg or error).split("\n")[0]
            raise UserError(f"{source}: {key}: {what}") from None
    try:
        return OmegaConf.to_object(config)  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        raise UserError(f"{layers[-1][0]}: {error.full_key}: {str(error.msg).splitlines()[0]}") from None


def _misplaced(config: dict, values: dict) -> str:
    """The first key whose value should be a mapping and is none, which OmegaConf does not name; "" if all are right."""
    for key, value in values.items():
        known = config.get(key)
        if isinstance(known, dict) and not isinstance(value, (dict, type(None))):
            return str(key)
        inner = _misplaced(known, value) if isinstance(known, dict) and value else ""
        if inner:
            return f"{key}.{inner}"
    return ""


def _yaml_problem(error: Exception) -> str:
    """The place and what is wrong there, where PyYAML knows them."""
    mark = getattr(error, "problem_mark", None)
    return f"line {mark.line + 1}: {getattr(error, 'problem', '')}" if mark else str(error).splitlines()[0]


def read_yaml(path: Path) -> DictConfig:
    """A YAML mapping. Raises UserError for a missing file, or one that is no YAML mapping."""
    try:
        values = OmegaConf.load(path)
    except FileNotFoundError:
        raise UserError(f"config file {path} does not exist") from None
    except (OSError, YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as YAML: {_yaml_problem(error)}") from None
    if not isinstance(values, DictConfig):
        raise UserError(f"{path} holds a list or a value; a mapping of options is wanted")
    return values


def load_config(arguments: list[str]) -> Config:
    """Options of the scripts that invert and edit; see `load_options`."""
    return load_options(Config, arguments)


def load_train_config(arguments: list[str]) -> TrainConfig:
    """Options of scripts/train.py; see `load_options`."""
    return load_options(TrainConfig, arguments)


def load_options(schema: type[T], arguments: list[str]) -> T:
    """Options from `group.name=value` arguments: defaults < YAML (exp.config_dir/exp.config) < `arguments`.

    Raises UserError that names the key for an unknown key, a wrong type or a malformed argument.
    """
    for argument in arguments:
        if "=" not in argument:
            raise UserError(f"'{argument}' is no option; options read group.name=value, as in model.device=cpu")
    try:
        overrides = OmegaConf.from_dotlist(arguments)
    except YAMLError as error:
        raise UserError(f"command line: a value is no YAML: {_yaml_problem(error)}") from None
    layers: list[tuple[str, Any]] = [("command line", overrides)]
    name = OmegaConf.select(overrides, "exp.config")
    if name:
        path = Path(OmegaConf.select(overrides, "exp.config_dir") or ExpArgs().config_dir) / str(name)
        layers.insert(0, (str(path), read_yaml(path)))
    return merge(schema, layers)


def command_line_options(schema: type[T], about: str) -> T:
    """Options from the command line; without any, or with --help, prints `about` and all options, and leaves with 0."""
    arguments = sys.argv[1:]
    if not arguments or {"-h", "--help"} & set(arguments):
        print(about + options_help(schema))
        raise SystemExit(0)
    return load_options(schema, arguments)


def options_help(schema: type = Config) -> str:
    """Every option with its default and meaning, one a line."""
    lines, config = [], schema()
    for group in fields(config):
        options = getattr(config, group.name)
        lines += ["", f"{group.name}: {inspect.getdoc(options)}", *_describe(group.name, options)]
    return "\n".join(lines)


def _describe(prefix: str, group: Any) -> list[str]:
    lines = []
    for item in fields(group):
        value = getattr(group, item.name)
        if is_dataclass(value):
            lines += _describe(f"{prefix}.{item.name}", value)
        else:
            lines.append(f"  {prefix}.{item.name}={value}  {item.metadata.get('help', '')}")
    return lines
