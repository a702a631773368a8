"""Weight files of every format and kind, good and bad, on the small domain's networks."""

import io
import os
import pickle
import sys
import types
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from models import weights
from models.stylegan2.generator import Generator
from models.weight_kinds import WeightKind
from utils.errors import UserError

INVERTER_SLOT = "model.checkpoint_path of fse_inverter wants an Inverter checkpoint"
EDITOR_SLOT = "model.checkpoint_path of fse_full wants a Feature Editor checkpoint"


@pytest.fixture
def domain(small):
    return small.load()


def tensors_of(path: Path) -> dict[str, Tensor]:
    return torch.load(path, weights_only=True)["state_dict"]


def full_checkpoint(small, light: Path, path: Path) -> Path:
    """As training writes them: every network's tensors, the optimizer's state, numbers and names."""
    others = {
        **{f"decoder.{k}": v for k, v in torch.load(small.generator, weights_only=True)["g_ema"].items()},
        **tensors_of(small.discriminator),
        **{f"e4e_{k}": v for k, v in tensors_of(small.e4e).items()},
    }
    optimizer = {"state": {0: {"step": 3, "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 1e-4}]}
    state = {**others, **tensors_of(light)}
    torch.save({"state_dict": state, "encoder_opt": optimizer, "step": 15000, "opts": {"a": "b"}}, path)
    return path


def one_line(path: Path, load, *args) -> str:
    """What the UserError says, which names the file."""
    with pytest.raises(UserError) as caught:
        load(path, *args)
    text = str(caught.value)
    assert str(path) in text
    assert "\n" not in text
    return text


def same_tensors(module: torch.nn.Module, wanted: dict[str, Tensor], prefix: str) -> None:
    own = {k.removeprefix(prefix): v for k, v in wanted.items() if k.startswith(prefix)}
    result = module.state_dict()
    assert own
    assert set(result) == set(own)
    assert all(torch.equal(result[key], own[key]) for key in own)


# ---- Kinds of checkpoint ----


@pytest.mark.parametrize("full", [False, True])
def test_the_right_kind_of_file(small, domain, tmp_path, full):
    files = {"inverter": small.inverter, "editor": small.editor}
    if full:
        files = {name: full_checkpoint(small, light, tmp_path / f"{name}.pt") for name, light in files.items()}
    same_tensors(weights.load_inverter(files["inverter"], domain), tensors_of(small.inverter), "encoder.")
    inverter, editor = weights.load_feature_editor(files["editor"], domain)
    same_tensors(inverter, tensors_of(small.editor), "inverter.")
    same_tensors(editor, tensors_of(small.editor), "encoder.")
    for module in (inverter, editor):
        assert not any(part.training for part in module.modules())
        assert not any(parameter.requires_grad for parameter in module.parameters())


def test_a_wrong_kind_of_file_is_named_with_the_wanted_one(small, domain, tmp_path):
    full_inverter = full_checkpoint(small, small.inverter, tmp_path / "full_inverter.pt")
    full_editor = full_checkpoint(small, small.editor, tmp_path / "full_editor.pt")
    for path, result, load, wanted in (
        (small.editor, "a Feature Editor", weights.load_inverter, INVERTER_SLOT),
        (full_editor, "a Feature Editor (full checkpoint)", weights.load_inverter, INVERTER_SLOT),
        (small.inverter, "an Inverter", weights.load_feature_editor, EDITOR_SLOT),
        (full_inverter, "an Inverter (full checkpoint)", weights.load_feature_editor, EDITOR_SLOT),
        (small.e4e, "an e4e encoder", weights.load_feature_editor, EDITOR_SLOT),
        (small.e4e, "an e4e encoder", weights.load_inverter, INVERTER_SLOT),
        (small.generator, "no StyleFeatureEditor network", weights.load_inverter, INVERTER_SLOT),
        (small.discriminator, "no StyleFeatureEditor network", weights.load_feature_editor, EDITOR_SLOT),
    ):
        assert one_line(path, load, domain) == f"{path} holds {result}; {wanted}"
    assert "methods_args.fse_full.inverter_pth wants" in one_line(
        small.editor, weights.load_inverter, domain, "methods_args.fse_full.inverter_pth"
    )


def test_other_networks_in_the_wrong_place(small, domain):
    assert "'g_ema'" in one_line(small.inverter, weights.load_generator, domain.generator)
    assert "misses key 'input_layer.0.weight'" in one_line(small.inverter, weights.load_e4e, domain)
    assert "misses key 'b64.fromrgb.weight'" in one_line(small.e4e, weights.load_discriminator, domain.generator)
    assert "'state_dict'" in one_line(small.generator, weights.load_e4e, domain)


def test_keys_and_shapes_that_do_not_fit(small, domain, tmp_path):
    path, key = tmp_path / "editor.pt", "inverter.fuser.conv.weight"
    good = tensors_of(small.editor)
    for tensors, wanted in (
        ({k: v for k, v in good.items() if k != key}, "misses key 'fuser.conv.weight'"),
        ({**good, "inverter.fuser.extra": torch.ones(1)}, "has the unknown key 'fuser.extra'"),
        ({**good, key: good[key][:, 1:]}, "'fuser.conv.weight' has shape (8, 15, 1, 1); the domain's Inverter wants"),
    ):
        torch.save({"state_dict": tensors}, path)
        assert wanted in one_line(path, weights.load_feature_editor, domain)


def test_a_generator_needs_its_average(small, domain, tmp_path):
    content = torch.load(small.generator, weights_only=True)
    for average in (None, torch.ones(15)):
        torch.save({**content, "latent_avg": average}, tmp_path / "g.pt")
        assert "'latent_avg' of 16" in one_line(tmp_path / "g.pt", weights.load_generator, domain.generator)


def test_light_export(small, domain, tmp_path):
    full, light = full_checkpoint(small, small.editor, tmp_path / "full.pt"), tmp_path / "light.pt"
    assert weights.export_light(full, light) == WeightKind.FEATURE_EDITOR
    written, wanted = tensors_of(light), tensors_of(small.editor)
    assert set(written) == set(wanted)
    assert all(torch.equal(written[key], wanted[key]) for key in wanted)
    assert "wanted a checkpoint of training" in one_line(small.e4e, weights.export_light, light)
    assert set(tensors_of(light)) == set(wanted)  # the refused export wrote nothing


# ---- Formats ----


def test_legacy_and_safetensors_files(small, domain, tmp_path):
    tensors = tensors_of(small.editor)
    legacy, safe = tmp_path / "legacy.pth", tmp_path / "editor.safetensors"
    torch.save({"state_dict": tensors}, legacy, _use_new_zipfile_serialization=False)
    save_file(tensors, safe)
    for path in (legacy, safe):
        inverter, editor = weights.load_feature_editor(path, domain)
        same_tensors(inverter, tensors, "inverter.")
        same_tensors(editor, tensors, "encoder.")


def mapped(path: Path) -> list[range]:
    """Addresses of this process to which the file is mapped."""
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(str(path))]
    return [range(*(int(address, 16) for address in line[0].split("-"))) for line in lines]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux shows a process's mappings")
def test_a_loaded_network_lies_in_the_mapped_file(small, domain):
    networks = {
        small.editor: weights.load_feature_editor(small.editor, domain),
        small.generator: [weights.load_generator(small.generator, domain.generator)],
        small.e4e: [weights.load_e4e(small.e4e, domain)],
    }
    for path, modules in networks.items():
        places = mapped(path)
        for module in modules:
            assert all(any(p.data_ptr() in place for place in places) for p in module.parameters())


def test_training_takes_memory_of_its_own(small, domain):
    before = small.inverter.read_bytes()
    inverter = weights.trainable(weights.load_inverter(small.inverter, domain))
    assert inverter.training
    assert all(parameter.requires_grad for parameter in inverter.parameters())
    places = mapped(small.inverter)
    assert not any(p.data_ptr() in place for place in places for p in [*inverter.parameters(), *inverter.buffers()])
    with torch.no_grad():
        for parameter in inverter.parameters():
            parameter.zero_()
    assert small.inverter.read_bytes() == before


def test_files_of_no_format(small, domain, tmp_path):
    assert "does not exist" in one_line(tmp_path / "none.pt", weights.load_inverter, domain)
    assert "does not exist" in one_line(tmp_path / "none.pkl", weights.load_generator, domain.generator)
    assert "does not exist" in one_line(tmp_path, weights.load_inverter, domain)
    whole, legacy = small.inverter.read_bytes(), io.BytesIO()
    torch.save({"state_dict": tensors_of(small.inverter)}, legacy, _use_new_zipfile_serialization=False)
    for content in (
        b"", b"hello, no weights here\n", whole[:5000], whole[:-100], legacy.getvalue()[:50], legacy.getvalue()[:-5]
    ):  # fmt: skip
        for suffix in (".pt", ".pth", ".safetensors"):
            path = tmp_path / f"bad{suffix}"
            path.write_bytes(content)
            assert "is damaged, or" in one_line(path, weights.load_inverter, domain)
    torch.save([1, 2], tmp_path / "list.pt")
    assert "holds a list" in one_line(tmp_path / "list.pt", weights.load_inverter, domain)
    torch.save({"state_dict": {"encoder.fs_backbone.conv.0.weight": 3}}, tmp_path / "numbers.pt")
    assert "holds no StyleFeatureEditor network" in one_line(tmp_path / "numbers.pt", weights.load_inverter, domain)


class MakeFolder:
    """Pickled, it makes the folder when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("suffix", [".pt", ".pth", ".pkl"])
@pytest.mark.parametrize("writer", ["pickle", "pickle 2", "zip", "legacy"])
def test_a_file_that_would_run_code_is_refused(domain, tmp_path, suffix, writer):
    trace, path = tmp_path / "trace", tmp_path / f"evil{suffix}"
    evil = {"g_ema": {"style.1.weight": MakeFolder(trace)}, "G_ema": MakeFolder(trace)}
    del evil["G_ema" if suffix != ".pkl" else "g_ema"]
    pickle.loads(pickle.dumps(evil))
    trace.rmdir()  # it was there, so the attack is a real one
    if writer.startswith("pickle"):
        path.write_bytes(pickle.dumps(evil, 2 if writer == "pickle 2" else None))
    else:
        torch.save(evil, path, _use_new_zipfile_serialization=writer == "zip")
    text = one_line(path, weights.load_generator, domain.generator)
    assert not trace.exists()
    assert "weights_only" not in text  # PyTorch's own text says how to let the file run
    if writer != "pickle" and suffix != ".pkl":
        assert f"names {os.mkdir.__module__}.mkdir, which might run code" in text


# ---- NVIDIA's pickles ----


class Persistent:
    """An object as torch_utils.persistence of NVIDIA's repositories pickles it; its source text raises if it is run."""

    def __init__(self, name: str, state: dict) -> None:
        source = "raise RuntimeError('source text inside a checkpoint must never run')"
        self.meta = {"type": "class", "version": 6, "module_src": source, "class_name": name, "state": state}

    def __reduce__(self):
        return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (self.meta,)


@pytest.fixture
def nvidia_file(monkeypatch, tmp_path):
    """`nvidia_file("G_ema", tensors, **init_kwargs)`: the file of such a network, modules nested by the keys' dots."""

    def _reconstruct_persistent_obj(meta):
        raise AssertionError("never called")

    module = types.ModuleType("torch_utils.persistence")
    _reconstruct_persistent_obj.__module__ = module.__name__
    _reconstruct_persistent_obj.__qualname__ = _reconstruct_persistent_obj.__name__
    module._reconstruct_persistent_obj = _reconstruct_persistent_obj
    monkeypatch.setitem(sys.modules, "torch_utils", types.ModuleType("torch_utils"))
    monkeypatch.setitem(sys.modules, "torch_utils.persistence", module)
    buffers = {"resample_filter", "noise_const", "w_avg"}

    def part(tensors: dict[str, Tensor], kwargs: dict) -> Persistent:
        own = {k: v for k, v in tensors.items() if "." not in k}
        children = OrderedDict()
        for name in dict.fromkeys(k.split(".")[0] for k in tensors if "." in k):
            inside = {k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(f"{name}.")}
            children[name] = part(inside, {})
        return Persistent("Network", {
            "_parameters": OrderedDict((k, torch.nn.Parameter(v)) for k, v in own.items() if k not in buffers),
            "_buffers": OrderedDict((k, v) for k, v in own.items() if k in buffers),
            "_modules": children, "_init_args": (), "_init_kwargs": kwargs,
        })  # fmt: skip

    def write(network: str, tensors: dict[str, Tensor], **kwargs) -> Path:
        path = tmp_path / "nvidia.pkl"
        path.write_bytes(pickle.dumps({"training_set_kwargs": None, network: part(tensors, kwargs)}, protocol=4))
        return path

    return write


def as_nvidia(generator: Generator) -> dict[str, Tensor]:
    """The same numbers under NVIDIA's names: a block per resolution with conv0 (up), conv1 and torgb."""
    state, result = generator.state_dict(), {"mapping.w_avg": generator.latent_avg}
    for i in range(generator.config.n_mlp):
        for name in ("weight", "bias"):
            result[f"mapping.fc{i}.{name}"] = state[f"style.{i + 1}.{name}"]
    result["synthesis.b4.const"] = state["input.input"][0]
    layers = {"b4.conv1": ("conv1", 0), "b4.torgb": ("to_rgb1", None)}
    for k, size in enumerate(generator.config.resolutions[1:]):
        layers[f"b{size}.conv0"] = (f"convs.{2 * k}", 2 * k + 1)
        layers[f"b{size}.conv1"] = (f"convs.{2 * k + 1}", 2 * k + 2)
        layers[f"b{size}.torgb"] = (f"to_rgbs.{k}", None)
    for name, (ours, noise) in layers.items():
        result[f"synthesis.{name}.weight"] = state[f"{ours}.conv.weight"][0]
        result[f"synthesis.{name}.affine.weight"] = state[f"{ours}.conv.modulation.weight"]
        result[f"synthesis.{name}.affine.bias"] = state[f"{ours}.conv.modulation.bias"]
        if noise is None:
            result[f"synthesis.{name}.bias"] = state[f"{ours}.bias"].flatten()
        else:
            result[f"synthesis.{name}.bias"] = state[f"{ours}.activate.bias"]
            result[f"synthesis.{name}.noise_strength"] = state[f"{ours}.noise.weight"][0]
            result[f"synthesis.{name}.noise_const"] = state[f"noises.noise_{noise}"][0, 0]
            result[f"synthesis.{name}.resample_filter"] = torch.ones(4, 4)
    return result


def test_a_generator_of_nvidia_gives_the_same_image(small, domain, nvidia_file):
    ours = weights.load_generator(small.generator, domain.generator)
    path = nvidia_file("G_ema", as_nvidia(ours), img_resolution=64)
    theirs = weights.load_generator(path, domain.generator)
    assert torch.equal(theirs.latent_avg, ours.latent_avg)
    assert not theirs.training
    z = torch.randn(2, 16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        latents = [g.mapping(z)[:, None].expand(-1, domain.generator.n_styles, -1) for g in (ours, theirs)]
        images = [g(g.affine(w)) for g, w in zip((ours, theirs), latents, strict=True)]
    assert images[0].shape == (2, 3, 64, 64)
    assert images[0].std() > 0
    assert torch.equal(*images)


def test_a_generator_of_nvidia_that_does_not_fit(small, domain, nvidia_file):
    tensors = as_nvidia(weights.load_generator(small.generator, domain.generator))
    path = nvidia_file("G_ema", {k: v for k, v in tensors.items() if not k.startswith("synthesis.b64.")})
    assert "not a skip-architecture StyleGAN2 of 64 px" in one_line(path, weights.load_generator, domain.generator)
    path = nvidia_file("G_ema", {**tensors, "synthesis.b4.const": torch.ones(7, 4, 4)})
    assert "has shape (1, 7, 4, 4)" in one_line(path, weights.load_generator, domain.generator)
    path = nvidia_file("D", tensors)
    assert "has no network 'G_ema'" in one_line(path, weights.load_generator, domain.generator)


@pytest.mark.parametrize(
    ("kwargs", "group", "clamp"),
    [
        ({}, 4, None),  # NVIDIA's defaults
        ({"conv_clamp": 2.0, "epilogue_kwargs": {"mbstd_group_size": 2}}, 2, 2.0),
        ({"conv_clamp": None, "epilogue_kwargs": {"mbstd_group_size": None}}, None, None),
    ],
)
def test_a_discriminator_of_nvidia_keeps_its_options(small, domain, nvidia_file, kwargs, group, clamp):
    """As training.networks.Discriminator was called: conv_clamp for all its blocks, the group for the epilogue."""
    tensors = {k.removeprefix("discriminator."): v for k, v in tensors_of(small.discriminator).items()}
    path = nvidia_file("D", {**tensors, "b64.resample_filter": torch.ones(4, 4)}, block_kwargs={}, **kwargs)
    theirs = weights.load_discriminator(path, domain.generator)
    assert theirs.b4.group_size == group
    convs = [part for part in theirs.modules() if hasattr(part, "clamp")]
    assert len(convs) == 3 * 4 + 2  # conv0, conv1 and skip of four blocks, fromrgb, the epilogue's conv
    assert {conv.clamp for conv in convs if conv.bias is not None} == {clamp}
    ours = weights.load_discriminator(small.discriminator, domain.generator)
    x = 10 * torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        same = torch.equal(ours(x), theirs(x))
    assert same == (not kwargs)
