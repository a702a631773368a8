"""Domains: the geometry that follows from the data, and the errors for invalid files."""

from pathlib import Path

import pytest

from arguments.domain import DOMAINS_DIR, load_domain
from utils.errors import UserError

SMALL = "generator: {size: 64, channels: {4: 8, 8: 8, 16: 8, 32: 8, 64: 8}}\nencoder_size: 64\n"


@pytest.mark.parametrize(
    ("name", "n_styles", "feature_layer", "feature_size", "feature_channels"),
    [("human_faces", 18, 9, 64, 512), ("car", 16, 9, 64, 512)],
)
def test_geometry_of_the_published_domains(name, n_styles, feature_layer, feature_size, feature_channels):
    domain = load_domain(name)
    assert domain.name == name
    assert domain.generator.n_styles == n_styles
    result = (domain.feature_layer, domain.feature_size, domain.feature_channels)
    assert result == (feature_layer, feature_size, feature_channels)


def test_a_domain_of_ones_own(tmp_path):
    (tmp_path / "own.yaml").write_text(SMALL)
    domain = load_domain(str(tmp_path / "own.yaml"))
    assert (domain.generator.n_styles, domain.feature_size, domain.feature_layer) == (10, 16, 5)
    assert load_domain("own", tmp_path) == domain
    (tmp_path / "finer.yaml").write_text(SMALL + "inverter: {strides: [2, 1, 1, 2]}\n")
    finer = load_domain("finer", tmp_path)
    assert (finer.feature_size, finer.feature_layer) == (32, 7)


def refused(path: Path | str) -> str:
    with pytest.raises(UserError) as caught:
        load_domain(str(path))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_unknown_names():
    text = refused("human_face")
    assert "exp.domain is 'human_face'" in text
    assert "car" in text.split("there are:")[1]
    assert "human_faces" in text.split("there are:")[1]
    assert "none.yaml does not exist" in refused("none.yaml")


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("size: 64,", "size: 63,", "generator.size is 63"),
        ("size: 64,", "size: -64,", "generator.size is -64"),
        ("size: 64,", "size: 0,", "generator.size is 0"),
        ("size: 64,", "size: 128,", "resolutions [4, 8, 16, 32, 64]; wanted [4, 8, 16, 32, 64, 128]"),
        ("32: 8,", "", "generator.channels has resolutions [4, 8, 16, 64]"),
        ("32: 8", "32: 0", "generator.channels has 0"),
        ("encoder_size: 64", "encoder_size: 512", "encoder_size is 512"),
        ("encoder_size: 64", "encoder_size: 66", "encoder_size is 66"),
        ("encoder_size: 64", "alignment: dlib\nencoder_size: 64", "alignment is 'dlib'"),
        ("encoder_size: 64", "inverter: {widths: [8, 8]}\nencoder_size: 64", "inverter wants 5 widths"),
        ("encoder_size: 64", "inverter: {strides: [2, 2]}\nencoder_size: 64", "inverter.strides is [2, 2]"),
        ("encoder_size: 64", "inverter: {strides: [2, 0, 1, 2]}\nencoder_size: 64", "inverter.strides is [2, 0, 1, 2]"),
        ("encoder_size: 64", "inverter: {strides: [8, 8, 8, 1]}\nencoder_size: 64", "wanted 512 times"),
        ("encoder_size: 64", "e4e: {blocks: [1]}\nencoder_size: 64", "e4e wants 5 widths"),
        ("encoder_size: 64", "encoder_size: big", "encoder_size: Value 'big'"),
        ("size: 64,", "sise: 64,", "generator.sise: Key 'sise' not in 'GeneratorConfig'. Did you mean: 'size'?"),
        ("encoder_size: 64", "editings: [age]", "editings: wanted a mapping"),
        ("generator:", "- generator:", "holds a list"),
        ("{size", "{{size", "cannot be read as YAML: line"),
    ],
)  # fmt: skip
def test_a_domain_that_makes_no_sense(tmp_path, old, new, what):
    path = tmp_path / "own.yaml"
    text = SMALL.splitlines()[0] + "\n" if new.startswith("- ") else SMALL
    assert old in text
    path.write_text(text.replace(old, new, 1))
    message = refused(path)
    assert str(path) in message
    assert what in message


def test_every_domain_of_the_project_loads():
    paths = sorted(DOMAINS_DIR.glob("*.yaml"))
    assert {path.stem for path in paths} >= {"human_faces", "car"}
    for path in paths:
        assert load_domain(path.stem).name == path.stem
