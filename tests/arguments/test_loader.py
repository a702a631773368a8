"""Options from defaults, YAML and the command line: which one wins, and the errors for wrong ones."""

from pathlib import Path

import pytest

from arguments.loader import load_config, load_options, options_help
from arguments.options import Config
from arguments.train_options import TrainConfig
from utils.errors import UserError


def with_yaml(tmp_path: Path, text: str | bytes) -> list[str]:
    """Arguments that read a YAML of this text."""
    (tmp_path / "run.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    return [f"exp.config_dir={tmp_path}", "exp.config=run.yaml"]


def refused(arguments: list[str], schema: type = Config) -> str:
    with pytest.raises(UserError) as caught:
        load_options(schema, arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_command_line_wins_over_yaml_wins_over_defaults(tmp_path):
    yaml = with_yaml(tmp_path, "model: {batch_size: 7, workers: 2}\ninference: {editings_data: {age: [1]}}\n")
    config = load_config([*yaml, "model.workers=5", "inference.editings_data.glasses=[-10, 3.5]"])
    assert (config.model.device, config.model.batch_size, config.model.workers) == ("0", 7, 5)
    assert config.inference.editings_data == {"age": [1.0], "glasses": [-10.0, 3.5]}
    assert load_config([]).model.batch_size == 4
    assert load_config(["model.workers=5", *yaml]).model.workers == 5  # the order of arguments does not matter
    assert load_config(with_yaml(tmp_path, "")).model.batch_size == 4  # an empty file changes nothing


def test_text_that_looks_like_a_number_or_has_blanks():
    config = load_config(["model.device=0", "exp.name=007", "inference.editings_data={blond hair: [4]}"])
    assert config.model.device == "0"
    assert config.inference.editings_data == {"blond hair": [4.0]}
    assert isinstance(config.exp.name, str)


def test_defaults_belong_to_one_run():
    load_config([]).inference.editings_data["age"] = [1.0]
    assert load_config([]).inference.editings_data == {}


def test_root_comes_from_the_environment(monkeypatch):
    monkeypatch.delenv("EXP_ROOT", raising=False)
    assert load_config([]).exp.root == "."
    monkeypatch.setenv("EXP_ROOT", "/data/runs")
    assert load_config([]).exp.root == "/data/runs"
    assert load_options(TrainConfig, []).exp.root == "/data/runs"
    assert load_config(["exp.root=here"]).exp.root == "here"


@pytest.mark.parametrize(
    ("argument", "key", "what"),
    [
        ("model.devise=cpu", "model.devise", "'device'"),  # unknown: the nearest is named
        ("modle.device=cpu", "modle", "'model'"),
        ("methods_args.fse_full.inverter=a.pt", "methods_args.fse_full.inverter", "'inverter_pth'"),
        ("model.batch_size=many", "model.batch_size", "'many'"),
        ("model.batch_size=2.5", "model.batch_size", "'2.5'"),
        ("model.batch_size=", "model.batch_size", "None"),
        ("model.batch_size=0", "model.batch_size is 0", "1 or more"),
        ("model.workers=-1", "model.workers is -1", "0 or more"),
        ("inference.quality=101", "inference.quality is 101", "1 to 100"),
        ("model=3", "model", "mapping"),
        ("inference.editings_data=[age]", "inference.editings_data", "mapping"),
        ("inference.editings_data={age: x}", "inference.editings_data.age", "'x'"),
        ("inference.report_metrics=[l2", "command line: inference.report_metrics", "line 2"),
        ("model.batch_size={", "command line: model.batch_size", "line 2"),
        ("=3", "'=3'", "group.name=value"),
        ("cpu", "'cpu'", "group.name=value"),
    ],
)
def test_a_wrong_argument(argument, key, what):
    text = refused([argument])
    assert key in text
    assert what in text


def test_numbers_of_training_are_checked():
    for argument, text in (
        ("train.log_step=0", "train.log_step is 0; wanted 1 or more"),
        ("train.precision=fp8", "train.precision is 'fp8'; wanted 'fp32' or 'bf16' or 'fp16'"),
        ("encoder_losses.l2=-1", "encoder_losses.l2 is -1.0; wanted 0 or more"),
        ("encoder_losses.l2=.nan", "encoder_losses.l2 is nan; wanted 0 or more"),
        ("metrics.batch_size=0", "metrics.batch_size is 0; wanted 1 or more"),
    ):
        assert refused([argument], TrainConfig) == text


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("- a\n- b\n", "holds a list"),
        ("3\n", "cannot be read as YAML"),
        ("model: {device: cpu\n", "line 2"),
        ("model:\n\tdevice: cpu\n", "line 2"),
        ("model: {workers: 1}\nmodel: {workers: 2}\n", "duplicate key model"),
        (b"\xff\xfe\x00", "utf-8"),
        ("model: 3\n", "model: wanted a mapping"),
        ("model: {devise: cpu}\n", "model.devise"),
        ("model: {batch_size: many}\n", "model.batch_size"),
    ],
)
def test_a_wrong_yaml(tmp_path, text, what):
    message = refused(with_yaml(tmp_path, text))
    assert str(tmp_path / "run.yaml") in message
    assert what in message


def test_a_mapping_replaces_that_of_the_file_and_a_longer_key_adds_to_it(tmp_path):
    file = with_yaml(tmp_path, "inference: {editings_data: {age: [1]}, stacks: {old: {age: 5}}}\n")

    def given(*arguments: str) -> tuple[dict, dict]:
        inference = load_config([*file, *arguments]).inference
        return inference.editings_data, inference.stacks

    assert given("inference.editings_data={hat: [3]}") == ({"hat": [3.0]}, {"old": {"age": 5.0}})
    assert given("inference.editings_data={}", "inference.stacks={}") == ({}, {})
    assert given("inference={editings_data: {hat: 3}}")[0] == {"hat": [3.0]}
    assert given("inference.editings_data.age=7")[0] == {"age": [7.0]}
    assert given("inference.editings_data.a b_0.10=[5]")[0] == {"age": [1.0], "a b_0.10": [5.0]}  # names hold dots
    several = ("inference.editings_data={}", "inference.editings_data.hat=[1]", "inference.editings_data.cap=2")
    assert given(*several)[0] == {"hat": [1.0], "cap": [2.0]}
    assert given("inference.stacks.new.age=2", "inference.stacks.old.hat=1")[1] == {
        "old": {"age": 5.0, "hat": 1.0}, "new": {"age": 2.0}
    }  # fmt: skip
    train = with_yaml(tmp_path, "train: {editings_data: {age: [1]}}\n")
    assert load_options(TrainConfig, [*train, "train.editings_data={hat: [2]}"]).train.editings_data == {"hat": [2.0]}


@pytest.mark.parametrize(
    "text",
    [
        "1.10", "001", "1e3", "null", "true", "set #2", "a: b", "{x", "[1", "${x}", "a\\${x}\\", "$HOME",
        "a,b", "a=b", "it's",
        '"q"', " b ", "-", "*a", "&a", "!x", "%", "@", "größe", "a\tb",
    ],
)  # fmt: skip
def test_text_is_taken_literally(tmp_path, text):
    options = ("exp.name", "data.inference_dir", "methods_args.fse_full.inverter_pth")
    config = load_config([f"{option}={text}" for option in options])
    result = (config.exp.name, config.data.inference_dir, config.methods_args.fse_full.inverter_pth)
    assert result == (text, text, text)
    if not text.startswith("["):
        assert load_options(TrainConfig, [f"train.val_metrics={text}"]).train.val_metrics == [text]


def test_text_of_a_yaml_is_taken_literally(tmp_path):
    config = load_config(with_yaml(tmp_path, "exp: {name: 1.10, output_dir: 007, root: '010'}\nmodel: {device: 0}\n"))
    assert (config.exp.name, config.exp.output_dir, config.exp.root, config.model.device) == ("1.10", "007", "010", "0")
    shared = "exp: &all {name: 001}\ndata: {<<: *all}\n"
    assert "data.name" in refused(with_yaml(tmp_path, shared))


def test_empty_text():
    for empty in ("", "''", '""'):
        assert load_config([f"exp.name={empty}"]).exp.name == ""


def test_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    config = load_config(["exp.output_dir=~/o", "data.inference_dir=~", "data.special_dir=a~b"])
    assert (config.exp.output_dir, config.data.inference_dir) == ("/home/me/o", "/home/me")
    assert config.data.special_dir == "a~b"
    assert load_config(with_yaml(tmp_path, "exp: {output_dir: ~/o}\n")).exp.output_dir == "/home/me/o"


def test_a_list_may_be_given_by_its_only_element(tmp_path):
    arguments = ["train.val_metrics=l2", "train.disc_edits=[a, b c]", "train.editings_data={hat: 2}"]
    train = load_options(TrainConfig, arguments)
    assert (train.train.val_metrics, train.train.disc_edits) == (["l2"], ["a", "b c"])
    assert train.train.editings_data == {"hat": [2.0]}
    file = with_yaml(tmp_path, "train: {val_metrics: l2, editings_data: {age: 5}}\n")
    assert load_options(TrainConfig, file).train.val_metrics == ["l2"]
    assert load_options(TrainConfig, file).train.editings_data == {"age": [5.0]}


def test_configs_of_the_project_from_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config(["exp.config_dir=configs", "exp.config=fse_inference.yaml"]).model.batch_size == 4
    assert load_config(["exp.config=fse_inference.yaml"]).data.transform == "face_1024"
    assert str(tmp_path) in refused(["exp.config=no.yaml"])
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "fse_inference.yaml").write_text("model: {batch_size: 9}")
    assert load_config(["exp.config=fse_inference.yaml"]).model.batch_size == 9


def test_a_yaml_that_is_not_there(tmp_path):
    assert refused([f"exp.config_dir={tmp_path}", "exp.config=no.yaml"]) == (
        f"config file {tmp_path / 'no.yaml'} does not exist"
    )
    folder = refused([f"exp.config_dir={tmp_path.parent}", f"exp.config={tmp_path.name}"])
    assert str(tmp_path) in folder


def test_help_names_every_option_with_its_default():
    text = options_help(TrainConfig)
    for line in ("  model.batch_size=4  ", "  methods_args.fse_full.inverter_pth=  ", "  disc_losses.r1.coef=10.0  "):
        assert line in text
