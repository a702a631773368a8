"""Values of options from YAML files and the command line, read according to the option's type.

Options of type text get the literal text: 1.10 stays 1.10, and a name may contain any character. YAML alone would make
a number of the first and an error of the second. `~` at the beginning of a text is the home folder.
"""

import re
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import yaml
from omegaconf import OmegaConf

_EMPTY = ("", "''", '""')


def option(schema: type, key: str) -> tuple[list[str], Any, str]:
    """The option that a dotted key names: the parts of its name, its type (None: there is no such option), the rest.

    There is a rest where the key continues inside a mapping of free names, which may contain dots.
    """
    kind: Any = schema
    names: list[str] = []
    while key and is_dataclass(kind):
        name, _, key = key.partition(".")
        names.append(name)
        kind = get_type_hints(kind).get(name)
    return names, kind, key


def parse(kind: Any, text: str) -> Any:
    """The value of an option of this type from the command line.

    A list may be given by its only element. Raises yaml.YAMLError for what is neither text nor YAML.
    """
    if _is_text(kind) or kind is None:
        return "" if text in _EMPTY else _literal(_at_home(text))
    if get_origin(kind) is list and _is_text(get_args(kind)[0]) and not text.lstrip().startswith("["):
        return [_literal(_at_home(text))]
    return typed(kind, OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]))["value"], text)  # type: ignore[index,call-overload]


def typed(kind: Any, value: Any, source: str) -> Any:
    """The plain content `value` of the YAML `source`, with the literal text wherever `kind` is text."""
    return _typed(kind, value, yaml.load(source, Loader=yaml.BaseLoader))


def put(mapping: dict[str, Any], kind: Any, name: str, text: str) -> dict[str, Any]:
    """The mapping of free names with one entry more; the name of an inner mapping ends at the first dot."""
    inner = get_args(kind)[1]
    if get_origin(inner) is dict and "." in name:
        name, _, rest = name.partition(".")
        return {**mapping, name: put(mapping.get(name) or {}, inner, rest, text)}
    return {**mapping, name: parse(inner, text)}


def is_mapping(kind: Any) -> bool:
    """Whether the option is a mapping of free names."""
    return get_origin(kind) is dict


def _typed(kind: Any, value: Any, text: Any) -> Any:
    """`text` has the shape of `value`, with every scalar as it was written."""
    if value is None:
        return None
    inner = get_args(kind)
    if _is_text(kind):
        return _at_home(text) if isinstance(text, str) else value
    if get_origin(kind) is list:
        values, texts = (value, text) if isinstance(value, list) else ([value], [text])
        return [_typed(inner[0], *both) for both in zip(values, texts, strict=True)]
    if not value or not isinstance(value, dict) or "<<" in text:  # `<<`: of another mapping
        return value
    if get_origin(kind) is dict:
        pairs = zip(value.items(), text.items(), strict=True)
        return {
            (written if inner[0] is str else key): _typed(inner[1], entry, source)
            for (key, entry), (written, source) in pairs
        }
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        return {key: _typed(hints.get(key), entry, text.get(key)) for key, entry in value.items()}
    return value


def _is_text(kind: Any) -> bool:
    return kind is str or kind == str | None


def _at_home(text: str) -> str:
    return str(Path(text).expanduser()) if text.startswith("~") else text


def _literal(text: str) -> str:
    """Escaped for OmegaConf, which would resolve `${…}`."""
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", text)
