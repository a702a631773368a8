"""From a dataclass, YAML files and the command line to one checked object; errors name the key."""

import inspect
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from arguments.options import Config, ExpArgs
from arguments.values import is_mapping, option, parse, put, typed
from utils.errors import UserError

T = TypeVar("T")

ROOT = Path(__file__).resolve().parent.parent
VALUES = """
Text is taken literally, except that ~ at its beginning is the home folder. A list may be given by its only element.
A mapping given here replaces that of the YAML file; group.name.key=value adds to it or changes one entry.
"""


def merge(schema: type[T], layers: list[tuple[str, Any]]) -> T:
    """Lay `layers` (source name, values) over the defaults of `schema`, later ones winning.

    A mapping of free names replaces that of an earlier layer; those of the schema's own names are merged.

    Raises UserError naming source and key for an unknown key or a value of the wrong type.
    """
    config = OmegaConf.structured(schema)
    for source, values in layers:
        plain = [OmegaConf.to_container(OmegaConf.create(layer)) for layer in (config, values)]
        odd = _misplaced(*plain)  # type: ignore[arg-type]
        if odd:
            raise UserError(f"{source}: {odd}: wanted a mapping, as in {{name: value}}")
        try:
            for key in _mappings(schema, plain[1]):  # type: ignore[arg-type]
                OmegaConf.update(config, key, {}, merge=False)
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
    """The first key whose value should be a mapping but is not, which OmegaConf does not name; "" if there is none."""
    for key, value in values.items():
        known = config.get(key)
        if isinstance(known, dict) and not isinstance(value, (dict, type(None))):
            return str(key)
        inner = _misplaced(known, value) if isinstance(known, dict) and value else ""
        if inner:
            return f"{key}.{inner}"
    return ""


def _mappings(schema: Any, values: dict, prefix: str = "") -> Iterator[str]:
    """The dotted keys of the mappings of free names in `values`."""
    for name, kind in get_type_hints(schema).items():
        if isinstance(values.get(name), dict):
            if is_mapping(kind):
                yield prefix + name
            elif is_dataclass(kind):
                yield from _mappings(kind, values[name], f"{prefix}{name}.")


def _yaml_problem(error: Exception) -> str:
    """The line and what is wrong there, if PyYAML reports them."""
    mark = getattr(error, "problem_mark", None)
    return f"line {mark.line + 1}: {getattr(error, 'problem', '')}" if mark else str(error).splitlines()[0]


def read_yaml(path: Path, schema: type | None = None) -> DictConfig:
    """A YAML mapping; with `schema`, options of type text get the literal text of the file.

    A relative path starts at the working directory or, where nothing is there, at the project's folder. Raises
    UserError for a missing file, or one that is not a YAML mapping.
    """
    if not path.exists() and (ROOT / path).exists():
        path = ROOT / path
    try:
        source = path.read_text(encoding="utf-8")
        values = OmegaConf.load(path)
        if isinstance(values, DictConfig) and schema is not None:
            values = OmegaConf.create(typed(schema, OmegaConf.to_container(values), source))
    except FileNotFoundError:
        elsewhere = "" if path.is_absolute() else f" in {Path.cwd()}, nor in {ROOT}"
        raise UserError(f"config file {path} does not exist{elsewhere}") from None
    except (OSError, YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as YAML: {_yaml_problem(error)}") from None
    if not isinstance(values, DictConfig):
        raise UserError(f"{path} holds a list or a value; a mapping of options is wanted")
    return values


def load_config(arguments: list[str]) -> Config:
    """Options of the scripts that invert and edit; see `load_options`."""
    return load_options(Config, arguments)


def load_options(schema: type[T], arguments: list[str]) -> T:
    """Options from `group.name=value` arguments: defaults < YAML (exp.config_dir/exp.config) < `arguments`.

    Raises UserError that names the key for an unknown key, a wrong type or a malformed argument.
    """
    layers: list[tuple[str, Any]] = []
    exp = OmegaConf.create(_values(schema, arguments, {}).get("exp"))
    if isinstance(exp, DictConfig) and exp.get("config"):
        path = Path(exp.get("config_dir") or ExpArgs().config_dir) / str(exp.config)
        layers.append((str(path), read_yaml(path, schema)))
    file = OmegaConf.to_container(layers[0][1]) if layers else {}
    return merge(schema, [*layers, ("command line", _values(schema, arguments, file))])


def _values(schema: type, arguments: list[str], file: Any) -> dict[str, Any]:
    """The values of the arguments as nested mappings.

    An entry of a mapping of free names is added to what earlier arguments or, without them, the `file` has there.
    """
    values: dict[str, Any] = {}
    for argument in arguments:
        key, equals, text = argument.partition("=")
        if not key or not equals:
            raise UserError(f"'{argument}' is not an option; options read group.name=value, as in model.device=cpu")
        names, kind, rest = option(schema, key)
        try:
            if rest and is_mapping(kind):
                here = next((entry for tree in (values, file) if isinstance(entry := _at(tree, names), dict)), {})
                value: Any = put(here, kind, rest, text)
            else:
                names += rest.split(".") if rest else []
                value = parse(None if rest else kind, text)
        except YAMLError as error:
            raise UserError(f"command line: {key}: the value is not YAML: {_yaml_problem(error)}") from None
        group = values
        for name in names[:-1]:
            if not isinstance(group.get(name), dict):
                group[name] = {}
            group = group[name]
        group[names[-1]] = value
    return values


def _at(values: Any, names: list[str]) -> Any:
    """What a nested mapping has at the end of `names`; None where it ends before."""
    for name in names:
        values = values.get(name) if isinstance(values, dict) else None
    return values


def command_line_options(schema: type[T], about: str) -> T:
    """Options from the command line; without any, or with --help, prints `about` and all options, and leaves with 0."""
    arguments = sys.argv[1:]
    if not arguments or {"-h", "--help"} & set(arguments):
        print(about + options_help(schema))
        raise SystemExit(0)
    return load_options(schema, arguments)


def options_help(schema: type = Config) -> str:
    """Every option with its default and meaning, one a line."""
    lines, config = [VALUES.rstrip()], schema()
    for group in fields(config):
        options = getattr(config, group.name)
        lines += ["", f"{group.name}: {inspect.getdoc(options)}"]
        lines += [f"  {name}={value}  {text}" for name, value, text in described(options, f"{group.name}.")]
    return "\n".join(lines)


def described(options: Any, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """Name, value and meaning of every option in a dataclass, and in the dataclasses that it holds."""
    for item in fields(options):
        value = getattr(options, item.name)
        if is_dataclass(value):
            yield from described(value, f"{prefix}{item.name}.")
        else:
            yield prefix + item.name, value, item.metadata.get("help", "")
