"""Write docs/configuration.md from the dataclasses of the options.

    python docs/make_reference.py
"""

import inspect
from dataclasses import fields
from pathlib import Path
from typing import Any

from arguments.domain import DomainConfig
from arguments.loader import described
from arguments.loop_options import EncoderTrainConfig, GeneratorTrainConfig, PredictorTrainConfig
from arguments.options import Config
from arguments.train_options import TrainConfig

PAGE = Path(__file__).with_name("configuration.md")
INTRODUCTION = """\
# Configuration

<!-- Made by docs/make_reference.py from the dataclasses in arguments/; do not edit. -->

The config-driven scripts read options as `group.name=value`. Later sources win: the default, then the YAML file
`exp.config_dir/exp.config`, then the command line. An unknown option or a value of the wrong type is an error that
names it.

- Text is taken literally, except that `~` at its beginning is the home folder. `''` is the empty text.
- A list is written `[a, b]`; a list of one element may be given by that element.
- A mapping is written `{a: 1, b: 2}` and replaces that of the YAML file. `group.name.a=1` adds to it or changes one
  entry.
"""
SECTIONS = {
    "Editing folders: `scripts/inference.py`": Config,
    "Stages 1 and 2: `scripts/train.py`": TrainConfig,
    "Generator: `scripts/train_generator.py`": GeneratorTrainConfig,
    "W+ encoder: `scripts/train_encoder.py`": EncoderTrainConfig,
    "Attribute predictor: `scripts/train_predictor.py`": PredictorTrainConfig,
}


def page() -> str:
    parts = [INTRODUCTION]
    for title, schema in SECTIONS.items():
        parts.append(f"## {title}\n")
        config = schema()
        for group in fields(config):
            options = getattr(config, group.name)
            parts.append(f"**{group.name}**: {inspect.getdoc(options)}\n\n{table(options, group.name + '.')}")
    about = inspect.getdoc(DomainConfig)
    parts.append(f"## A domain: `configs/domains/NAME.yaml`\n\n{about}\n\n{table(DomainConfig())}")
    return "\n".join(parts)


def table(options: Any, prefix: str = "") -> str:
    rows = [f"| `{name}` | `{shown(value)}` | {text} |" for name, value, text in described(options, prefix)]
    return "\n".join(["| option | default | meaning |", "|---|---|---|", *rows]) + "\n"


def shown(value: Any) -> str:
    """As it is written on the command line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {shown(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(shown, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else str(value) if value != "" else "''"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
