"""What others rely on: names in weight files, flags, options. A failure here breaks somebody's files or commands."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from arguments.domain import DOMAINS_DIR, load_domain
from arguments.loader import load_options
from arguments.loop_options import EncoderTrainConfig, GeneratorTrainConfig, PredictorTrainConfig
from arguments.options import Config
from arguments.train_options import TrainConfig
from criteria.face_embedding import load_arcface, load_curricular_face
from criteria.id_vit import IDViTLoss
from criteria.moco import MocoLoss
from datasets.recipes import read_recipes
from editings.deltaedit import DeltaMapper
from editings.styleclip_mapper import LevelsMapper
from models.e4e import E4E
from models.sfe import FeatureEditor, Inverter
from models.stylegan2.discriminator import Discriminator
from models.stylegan2.generator import Generator

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = sorted(path.name for path in (ROOT / "scripts").glob("*.py"))
ROOMS = ["utils", "arguments", "configs", "datasets", "models", "criteria", "editings", "metrics"]
ROOMS += ["training", "runners"]

# ---- Names and shapes of the published weights ----

Shapes = dict[str, tuple[int, ...]]


def published(name: str, prefix: str = "") -> Shapes:
    """Keys below `prefix` and their shapes in the published file."""
    for manifest in ("checkpoints.json", "checkpoints_extras.json"):
        entries = json.loads((ROOT / "tests" / "parity" / manifest).read_text())
        if name in entries:
            tensors = entries[name]["tensors"].items()
            return {k.removeprefix(prefix): tuple(v["shape"]) for k, v in tensors if k.startswith(prefix)}
    raise AssertionError(f"no manifest has {name}")


def built(make: Callable[[], nn.Module]) -> Shapes:
    with torch.device("meta"):
        return shapes(make())


def shapes(module: nn.Module) -> Shapes:
    return {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}


def test_networks_have_the_published_keys():
    domain = load_domain("human_faces")
    generator = published("stylegan2-ffhq-config-f.pt")
    kernels = {key for key in generator if key.endswith((".blur.kernel", ".upsample.kernel"))}
    assert built(lambda: Generator(domain.generator)) == {k: v for k, v in generator.items() if k not in kernels}
    discriminator = published("stylegan2-ffhq-config-f.pkl")
    filters = {key for key in discriminator if key.endswith("resample_filter")}
    result = built(lambda: Discriminator(domain.generator))
    assert result == {k: v for k, v in discriminator.items() if k not in filters}
    assert built(lambda: E4E(domain)) == published("e4e_ffhq_encode.pt", "encoder.")
    assert built(lambda: Inverter(domain)) == published("sfe_editor_light.pt", "inverter.")
    assert built(lambda: FeatureEditor(domain)) == published("sfe_editor_light.pt", "encoder.")
    prefixes = {key.split(".")[0] for key in published("sfe_editor_light.pt")}
    assert prefixes == {"inverter", "encoder"}


def meta_tensors(name: str) -> dict[str, Tensor]:
    return {key: torch.empty(shape, device="meta") for key, shape in published(name).items()}


def meta_file(name: str, folder: Path, root: str | None = None) -> Path:
    """The published file without its numbers."""
    tensors = meta_tensors(name)
    torch.save({root: tensors} if root else tensors, folder / "file.pt")
    return folder / "file.pt"


def test_networks_of_losses_and_metrics_take_the_published_files(tmp_path):
    for name, load in (
        ("model_ir_se50.pth", load_arcface),
        ("CurricularFace_Backbone.pth", load_curricular_face),
    ):
        assert shapes(load(meta_file(name, tmp_path))) == published(name)
    vit = "Backbone_VITs_Epoch_2_Batch_12000_Time_2021-03-17-04-05_checkpoint.pth"
    wanted = {key: shape for key, shape in published(vit).items() if not key.startswith("loss.")}
    assert sorted(shapes(IDViTLoss(meta_file(vit, tmp_path)).net).values()) == sorted(wanted.values())
    moco = "moco_v2_800ep_pretrain.pt"
    wanted = {k: v for k, v in published(moco, "module.encoder_q.").items() if not k.startswith("fc.")}
    assert shapes(MocoLoss(meta_file(moco, tmp_path, "state_dict")).net) == wanted


def test_networks_of_edits_take_the_published_files():
    domain, path = load_domain("human_faces"), Path("file.pt")
    levels = domain.editings["styleclip_mapper"]["levels"]
    mapper = LevelsMapper(meta_tensors("styleclip_mappers/afro.pt"), levels, domain.generator.style_dim, path)
    result = {k.replace("networks.", "mapper."): v for k, v in shapes(mapper).items()}
    result = {re.sub(r"^(mapper\.\w+)\.", r"\1_mapping.mapping.", k): v for k, v in result.items()}
    assert result == published("styleclip_mappers/afro.pt")
    delta = DeltaMapper(meta_tensors("delta_mapper.pt"), {"coarse": 3 * 512, "medium": 4 * 512, "fine": 2464}, path)
    result = {k.replace("networks.", "").replace(".", ".mapping.", 1): v for k, v in shapes(delta).items()}
    assert result == published("delta_mapper.pt")


# ---- Commands ----

FLAGS = {
    "align_all_parallel.py": "num_threads output_dir root_path",
    "animate.py": "align device edits editor_ckpt_pth fps frames mask_path mask_trashold morph_to orig_img_pth "
    "save_pth simple_config_pth steady use_mask video",
    "app.py": "config device port share",
    "available_directions.py": "check",
    "calculate_metrics.py": "batch_size device fid_stats metrics metrics_dir orig_path reconstr_path report "
    "save_fid_stats workers",
    "download_weights.py": "list only to",
    "evaluate_domain.py": "device domain editor_pth edits input_dir inverter_pth output_dir truth_dir",
    "export_onnx.py": "domain editor_ckpt_pth output_dir",
    "fid_calculation.py": "attr_is_reversed attr_name batch_size celeba_attr_table_pth device fid_stats orig_path "
    "save_fid_stats synt_path transforms workers",
    "find_directions.py": "domain input_dir output_dir recipes samples",
    "generator_fid.py": "domain generators input_dir output_dir samples",
    "inference.py": "report save_latents",
    "make_avatars.py": "count output_dir size split workers",
    "make_people.py": "count output_dir photos size split workers",
    "make_true_edits.py": "config count output_dir workers",
    "mix.py": "align device editor_ckpt_pth layers orig_img_pth other_img_pth save_pth share simple_config_pth",
    "simple_inference.py": "align device edited_power editing_name editor_ckpt_pth edits face landmarks mask_path "
    "mask_trashold orig_img_pth save_e4e save_inversion save_latents save_pth simple_config_pth strip use_mask",
    "shrink_weights.py": "prefix",
    "train.py": "",
    "train_encoder.py": "",
    "train_generator.py": "",
    "train_predictor.py": "",
}
IMPORT_TORCH_FOR_HELP = {"make_avatars.py", "make_people.py", "make_true_edits.py"}  # tools for developers

HELP = """
import runpy, sys
sys.argv = [sys.argv[1], "--help"]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as leaving:
    print("torch" in sys.modules, file=sys.stderr)
    sys.exit(leaving.code)
"""


@pytest.fixture(scope="module")
def helps() -> dict[str, subprocess.CompletedProcess[str]]:
    """What each script says to --help; stderr tells whether torch was imported."""

    def ask(name: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", HELP, str(ROOT / "scripts" / name)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(SCRIPTS, pool.map(ask, SCRIPTS), strict=True))


def test_flags_are_frozen(helps):
    assert set(SCRIPTS) >= set(FLAGS)
    for name, flags in FLAGS.items():
        usage = helps[name].stdout.partition("\n\n")[0] if helps[name].stdout.startswith("usage:") else ""
        assert set(re.findall(r"--(\w+)", usage)) == set(flags.split()), name


def test_every_script_has_help_without_torch(helps):
    for name, result in helps.items():
        assert result.returncode == 0, f"{name}: {result.stderr}"
        assert len(result.stdout) > 100, name
        if name not in IMPORT_TORCH_FOR_HELP:
            assert result.stderr == "False\n", f"{name} imports torch before it has read its options"


# ---- Options ----

OPTIONS = {
    "exp": "config_dir config name exp_dir output_dir seed root domain wandb wandb_project",
    "data": "input_train_dir input_val_dir special_dir inference_dir transform",
    "train": "train_runner encoder_optimizer disc_optimizer resume_path val_metrics start_step steps log_step "
    "checkpoint_step val_step train_dis dis_train_start_step bs_used_before_adv_loss disc_edits",
    "model": "method device batch_size workers checkpoint_path",
    "inference": "inference_runner editings_data stacks",
    "methods_args": "fse_full",
    "methods_args.fse_full": "inverter_pth",
    "encoder_losses": "l2 lpips lpips_scale id id_vit moco adv feat_rec feat_rec_l1 l2_latent",
    "disc_losses": "main r1",
    "disc_losses.main": "coef",
    "disc_losses.r1": "coef hyper_d_reg_every",
    "optimizers": "ranger adam",
    "optimizers.ranger": "lr alpha k N_sma_threshhold betas eps weight_decay use_gc gc_conv_only",
    "metrics": "",
}


def options(prefix: str, group: object) -> dict[str, set[str]]:
    """Option names by group, dotted."""
    result = {prefix: {item.name for item in fields(group)}} if prefix else {}
    for item in fields(group):
        value = getattr(group, item.name)
        if is_dataclass(value):
            result |= options(f"{prefix}.{item.name}".lstrip("."), value)
    return result


def test_option_names_are_kept():
    result: dict[str, set[str]] = {}
    for config in (Config(), TrainConfig()):
        for group, names in options("", config).items():
            result[group] = result.get(group, set()) | names
    for group, names in OPTIONS.items():
        assert group in result
        assert result[group] >= set(names.split()), group
    for shared in ("exp", "data", "model", "methods_args"):  # a YAML can be given to both
        assert options("", Config())[shared] == options("", TrainConfig())[shared]


RUNS = {
    "avatars_editor_train.yaml": TrainConfig,
    "avatars_inference.yaml": Config,
    "avatars_inverter_train.yaml": TrainConfig,
    "avatars_simple_inference.yaml": Config,
    "fse_editor_train.yaml": TrainConfig,
    "fse_inference.yaml": Config,
    "fse_inverter_inference.yaml": Config,
    "fse_inverter_train.yaml": TrainConfig,
    "people_editor_train.yaml": TrainConfig,
    "people_inference.yaml": Config,
    "people_inverter_train.yaml": TrainConfig,
    "people_simple_inference.yaml": Config,
    "simple_inference.yaml": Config,
}
LOOPS = {  # options of arguments/loop_options.py
    "avatars_generator_train.yaml": GeneratorTrainConfig,
    "avatars_encoder_train.yaml": EncoderTrainConfig,
    "avatars_predictor_train.yaml": PredictorTrainConfig,
    "people_generator_paired.yaml": GeneratorTrainConfig,
    "people_generator_train.yaml": GeneratorTrainConfig,
    "people_encoder_train.yaml": EncoderTrainConfig,
    "people_predictor_train.yaml": PredictorTrainConfig,
}
RECIPES = {"people_directions.yaml"}  # no options: datasets/recipes.py


@pytest.mark.parametrize("name", sorted(RUNS))
def test_run_configs_load(name):
    config = load_options(RUNS[name], [f"exp.config_dir={ROOT / 'configs'}", f"exp.config={name}"])
    assert load_domain(config.exp.domain).name == config.exp.domain
    assert config.model.method == ("fse_inverter" if "inverter" in name else "fse_full")


@pytest.mark.parametrize("name", sorted(LOOPS))
def test_configs_of_network_trainings_load(name):
    config = load_options(LOOPS[name], [f"exp.config_dir={ROOT / 'configs'}", f"exp.config={name}"])
    assert load_domain(config.exp.domain).name == config.exp.domain
    assert config.exp.name


def test_recipes_load():
    for name in RECIPES:
        assert {"age", "smile", "rotation", "fs_glasses"} <= set(read_recipes(ROOT / "configs" / name))


def test_every_run_config_is_in_the_table():
    names = {path.name for path in (ROOT / "configs").glob("*.yaml")}
    assert names == {*RUNS, *LOOPS, *RECIPES}


@pytest.mark.parametrize("path", sorted(DOMAINS_DIR.glob("*.yaml")), ids=lambda path: path.stem)
def test_domain_configs_load(path):
    assert load_domain(path.stem).name == path.stem


# ---- Imports ----

IMPORTS = """
import importlib, sys
import torch, torch.utils.cpp_extension as extension

def no_compiler(*args, **kwargs):
    raise SystemExit(f"something is compiled at import: {args}")

extension.load = extension.load_inline = no_compiler
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


def test_every_module_imports_and_compiles_nothing(tmp_path):
    files = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py")) if path.stem != "__main__"]
    modules = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in files]
    assert len(modules) > 50
    command = [sys.executable, "-c", IMPORTS, *modules]
    env = {**os.environ, "TORCH_EXTENSIONS_DIR": str(tmp_path)}  # where nothing has been compiled yet
    result = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    assert list(tmp_path.iterdir()) == []


# ---- Style ----


def test_files_are_short():
    """Of the rooms, 300 lines; scripts, 60."""
    limits = {room: 300 for room in ROOMS} | {"scripts": 60}
    lengths = {
        path.relative_to(ROOT): (len(path.read_text(encoding="utf-8").splitlines()), limit)
        for folder, limit in limits.items()
        for path in (ROOT / folder).rglob("*.py")
    }
    assert {str(path): length for path, (length, limit) in lengths.items() if length > limit} == {}
