"""The networks and methods compute what the published code computed from the same numbers (tests/parity)."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from conftest import normal
from PIL import Image
from torch import Tensor

from arguments.domain import DomainConfig, load_domain
from criteria.id_loss import IDLoss
from editings.latent_editor import LatentEditor
from models.inference import FSEFull, FSEInverter
from models.sfe import Inversion, decode, decode_coarse
from models.stylegan2.generator import Generator
from models.weights import load_discriminator, load_e4e, load_feature_editor, load_generator
from utils.images import to_tensor

EDITS = {
    "age": [5, -3], "fs_smiling": [6], "face_roundness": [8], "glasses": [-7], "blond hair": [4], "rotation": [2],
}  # fmt: skip


def pool64(x: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(x, 64)


def crop32(x: Tensor) -> Tensor:
    return x[..., 496:528, 496:528]


def sub(x: Tensor) -> Tensor:
    return x[:, ::16, ::4, ::4]


@pytest.fixture(scope="module")
def faces(standin: Callable[[str], Path]) -> DomainConfig:
    """human_faces with the stand-ins' files."""
    domain = load_domain("human_faces")
    names = {
        "generator": "stylegan2-ffhq-config-f.pt", "discriminator": "stylegan2-ffhq-config-f.pkl",
        "e4e": "e4e_ffhq_encode.pt",
    }  # fmt: skip
    domain.weights |= {role: str(standin(name)) for role, name in names.items()}
    return domain


@pytest.fixture(scope="module")
def decoder(faces: DomainConfig) -> Generator:
    return load_generator(Path(faces.weights["generator"]), faces.generator)


@pytest.fixture(scope="module")
def x(photo_path: Path) -> Tensor:
    photo = Image.open(photo_path).convert("RGB").resize((1024, 1024), Image.Resampling.LANCZOS)
    return to_tensor(photo)[None]


@pytest.fixture(scope="module")
def x256(x: Tensor) -> Tensor:
    return F.interpolate(x, size=(256, 256), mode="bilinear", align_corners=False)


@pytest.fixture(scope="module")
def full(faces: DomainConfig, standin: Callable[[str], Path], directions: Path) -> FSEFull:
    path = str(standin("sfe_editor_light.pt"))
    return FSEFull(faces, path, torch.device("cpu"), LatentEditor(faces, directions))


@pytest.fixture(scope="module")
def inversion(full: FSEFull, x: Tensor) -> Inversion:
    return full.invert(x)


@torch.inference_mode()
def test_decoder(decoder: Generator, faces: DomainConfig, golden: Callable[[str, Tensor], None]) -> None:
    w = decoder.latent_avg + 0.5 * normal(101, (2, 18, 512))
    styles = decoder.affine(w)
    convs = [style for i, style in enumerate(styles) if i % 3 != 1]
    golden("stylespace/s6", convs[6])
    golden("stylespace/s16", convs[16])
    golden("stylespace/rgb8", styles[25])
    coarse = decode_coarse(decoder, styles, faces.feature_layer)
    golden("decoder/feat9", sub(coarse.features))
    for image in (decoder(styles), decode(decoder, coarse.features, coarse, faces.feature_layer)):
        golden("decoder/image_pool64", pool64(image))
        golden("decoder/image_crop32", crop32(image))


@torch.inference_mode()
def test_encoders(
    faces: DomainConfig, standin: Callable[[str], Path], x256: Tensor, golden: Callable[[str, Tensor], None]
) -> None:
    inverter, editor = load_feature_editor(standin("sfe_editor_light.pt"), faces)
    offsets, content = inverter.fs_backbone(x256)
    golden("backbone/w_offset", offsets)
    golden("backbone/content", sub(content))
    a, b = normal(102, (1, 1024, 64, 64)).chunk(2, dim=1)
    golden("fuser", sub(inverter.fuser(a, b)))
    golden("editor", sub(editor(a, b)))
    golden("e4e/w_offset", load_e4e(Path(faces.weights["e4e"]), faces)(x256))


def test_inversion(full: FSEFull, inversion: Inversion, golden: Callable[[str, Tensor], None]) -> None:
    golden("invert/w", inversion.w)
    golden("invert/fused", sub(inversion.features))
    image = full.reconstruct(inversion)
    golden("invert/image_pool64", pool64(image))
    golden("invert/image_crop32", crop32(image))


@pytest.mark.parametrize("name", EDITS)
def test_edit(full: FSEFull, inversion: Inversion, name: str, golden: Callable[[str, Tensor], None]) -> None:
    images = full.edit(inversion, [(name, EDITS[name])])
    golden(f"edit/{name}/pool64", pool64(images))
    golden(f"edit/{name}/crop32", crop32(images))


def test_masked_edit_and_discriminator(
    full: FSEFull, inversion: Inversion, faces: DomainConfig, decoder: Generator, x: Tensor,
    golden: Callable[[str, Tensor], None],
) -> None:  # fmt: skip
    mask = torch.zeros(1, 1, 1024, 1024)
    mask[:, :, :512] = 1
    masked = full.edit(inversion, [("age", [5])], mask)
    golden("edit_masked/age/pool64", pool64(masked))

    with torch.inference_mode():
        first = decoder(decoder.affine(decoder.latent_avg + 0.5 * normal(101, (2, 18, 512))[:1]))
        batch = torch.cat([full.reconstruct(inversion), masked, x, first])
        discriminator = load_discriminator(Path(faces.weights["discriminator"]), faces.generator)
        golden("discriminator/logits", discriminator(batch))


def test_id_loss(
    full: FSEFull, inversion: Inversion, x: Tensor, standin: Callable[[str], Path],
    golden: Callable[[str, Tensor], None],
) -> None:  # fmt: skip
    images = [F.adaptive_avg_pool2d(image, 256) for image in (full.reconstruct(inversion), x)]
    with torch.inference_mode():
        golden("id_loss/value", IDLoss(standin("model_ir_se50.pth"))(*images).reshape(1))


def test_without_compiled_kernels(standin: Callable[[str], Path], directions: Path) -> None:
    """Inversion and an edit again, in a process where plain PyTorch does what the ops do."""
    environment = {**os.environ, "SFE_OPS": "native", "SFE_STANDINS": str(standin("sfe_editor_light.pt").parent)}
    tests = ["-k", "test_inversion or test_edit and rotation"]
    command = [sys.executable, "-m", "pytest", "-o", "addopts=", __file__, *tests]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "2 passed" in done.stdout, done.stdout


def test_discriminator_groups_are_interleaved(faces: DomainConfig, golden: Callable[[str, Tensor], None]) -> None:
    small = 0.5 * normal(45, (8, 3, 16, 16))
    batch = F.interpolate(small, size=1024, mode="bicubic", align_corners=False)
    with torch.inference_mode():
        discriminator = load_discriminator(Path(faces.weights["discriminator"]), faces.generator)
        golden("discriminator/logits8", discriminator(batch))


def test_stage_1_method(
    faces: DomainConfig, standin: Callable[[str], Path], x: Tensor, golden: Callable[[str, Tensor], None]
) -> None:
    path = str(standin("sfe_inverter_light.pt"))
    method = FSEInverter(faces, path, torch.device("cpu"), LatentEditor(faces))
    inversion = method.invert(x)
    image = method.reconstruct(inversion)
    golden("fse_inverter/pool64", pool64(image))
    golden("fse_inverter/crop32", crop32(image))
    with torch.inference_mode():
        coarse = decode_coarse(method.decoder, method.decoder.affine(inversion.w), method.layer)
        mixed = torch.lerp(coarse.features, inversion.features, 0.3)
        scaled = decode(method.decoder, mixed, coarse, method.layer)
    golden("fse_inverter/scale0.3/pool64", pool64(scaled))
