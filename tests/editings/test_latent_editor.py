"""Names, powers and the published tables."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from arguments.domain import DomainConfig, load_domain
from configs.paths import ROOT
from editings.latent_editor import FAMILIES, LatentEditor
from models.stylegan2.generator import Generator
from utils.errors import UserError

FIRE = "styleclip_global_face with hair_face with fire hair_0.10"
# What the published commands and configs call directions.
FACES = {
    "interfacegan": "age smile rotation",
    "ganspace": "eye_openness trimmed_beard lipstick face_roundness nose_length eyebrow_thickness head_angle_up "
    "displeased",
    "fs_boundaries": "fs_glasses fs_smiling fs_makeup",
    "stylespace": "black hair,blond hair,grey hair,wavy hair,bangs,receding hairline,smiling,sslipstick,sideburns,"
    "goatee,earrings,glasses,wear suit,gender",
    "styleclip_mapper": "afro angry bobcut bowlcut curly_hair mohawk surprised beyonce hilary_clinton depp purple_hair "
    "taylor_swift trump zuckerberg",
    "styleclip_global": "styleclip_global_{neutral}_{target}_{beta}",
    "deltaedit": "deltaedit_{neutral}_{target}_{threshold}",
}
CARS = {
    "ganspace": "pose_1 pose_2 cube color grass",
    "stylespace": "front,headlights,grill,trees,grass_ss,sky,hubcap,car color,logo,wheel angle",
}


def names(text: str) -> list[str]:
    return text.split("," if "," in text else " ")


@pytest.fixture(scope="module")
def faces() -> LatentEditor:
    return LatentEditor(load_domain("human_faces"))


@pytest.mark.parametrize(("domain", "wanted"), [("human_faces", FACES), ("car", CARS)])
def test_the_published_names_are_there(domain: str, wanted: dict[str, str]) -> None:
    available = LatentEditor(load_domain(domain)).available()
    assert {family: list(directions) for family, directions in available.items()} == {
        family: names(text) for family, text in wanted.items()
    }
    for directions in available.values():
        for low, high in directions.values():
            assert low <= 0 < high


def test_the_published_powers_are_useful(faces: LatentEditor) -> None:
    ranges = {name: span for family in faces.available().values() for name, span in family.items()}
    assert ranges["fs_glasses"] == (-20, 30)
    assert ranges["eye_openness"] == (-30, 45)
    assert ranges["bobcut"] == (0, 0.18)
    assert ranges["blond hair"] == (-10, 7)


def affine_of(domain: DomainConfig) -> tuple[Generator, list[int]]:
    """A generator without memory, to learn the widths of its styles."""
    with torch.device("meta"):
        generator = Generator(domain.generator)
        w = torch.zeros(1, domain.generator.n_styles, domain.generator.style_dim)
    return generator, [style.shape[1] for style in generator.affine(w)]


@pytest.mark.parametrize("name", ["human_faces", "car"])
def test_the_published_direction_files_fit(directions: Path, name: str) -> None:
    domain = load_domain(name)
    _, widths = affine_of(domain)
    editor = LatentEditor(domain, directions)
    w = torch.randn(2, domain.generator.n_styles, domain.generator.style_dim)
    affine = lambda w: [w.mean(dim=(1, 2))[:, None].repeat(1, width) for width in widths]  # noqa: E731
    unedited = affine(w)
    for family in ("interfacegan", "ganspace", "fs_boundaries", "stylespace"):
        for direction, (low, high) in editor.available().get(family, {}).items():
            styles = editor.apply(w, [(direction, [low, high])], affine)
            moved = sum((a - b).abs().sum(dim=1) for a, b in zip(styles, unedited, strict=True))
            assert all(style.isfinite().all() for style in styles)
            assert ((moved > 0) == torch.tensor([low != 0, high != 0])).all(), direction


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("black_hair", "'black hair'"),
        ("Smile", "'smile'"),
        ("bob cut", "'bobcut'"),
        ("styleclip_globl_face_fire_0.1", "styleclip_global_{neutral}_{target}_{beta}"),
        ("xyzzyx", "available_directions.txt"),
        ("", "available_directions.txt"),
        ("styleclip_global_face_fire", "2 parts"),
        ("styleclip_global", "1 parts"),
        ("styleclip_global_face_fire_hair_0.1", "4 parts"),
        ("styleclip_global_face__0.1", "phrase is empty"),
        ("styleclip_global_face_fire_0,1", "beta is '0,1'"),
        ("styleclip_global_face_fire_nan", "beta is 'nan'"),
        ("deltaedit_face_fire_-1", "threshold is '-1'"),
        ("deltaedit_face_fire_", "threshold is ''"),
    ],
)
def test_a_wrong_name_is_an_error_with_a_remedy(faces: LatentEditor, name: str, words: str) -> None:
    with pytest.raises(UserError) as error:
        faces.check(name)
    message = str(error.value)
    assert f"'{name}'" in message
    assert words in message
    assert "\n" not in message
    if name.startswith(("styleclip_global", "deltaedit")):
        assert "for example" in message


@pytest.mark.parametrize("power", [math.nan, math.inf, -math.inf, 1e9, -1000.5])
def test_an_impossible_power_is_an_error_with_the_useful_ones(faces: LatentEditor, power: float) -> None:
    with pytest.raises(UserError, match=r"'age': power .* useful are -10 to 10"):
        faces.check("age", [1, power])
    with pytest.raises(UserError, match="useful are -10 to 10"):
        faces.check(FIRE, power)
    with pytest.raises(UserError, match="useful"):
        faces.apply(torch.zeros(1, 18, 512), [("age", power)], lambda w: [])


def test_good_names_and_powers_pass_without_files(faces: LatentEditor) -> None:
    for name in ("age", "black hair", "afro", FIRE, "deltaedit_face_face with bangs_3e-2"):
        faces.check(name, [-1000, 0, 1000])


def test_powers_are_one_or_one_for_each(faces: LatentEditor) -> None:
    with pytest.raises(UserError, match="3 powers for 2 images"):
        faces.apply(torch.zeros(2, 18, 512), [("age", [1, 2, 3])], lambda w: [])


def test_available_directions_txt_equals_the_data() -> None:
    script = [sys.executable, "scripts/available_directions.py", "--check"]
    done = subprocess.run(script, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    text = (ROOT / "available_directions.txt").read_text()
    for table in (FACES, CARS):
        for name in (name for names_ in table.values() for name in names(names_)):
            assert f"    {name} " in text
    assert FIRE in text


def test_every_family_is_used_by_a_domain() -> None:
    assert set(FAMILIES) == set(FACES)


def test_importing_the_editor_loads_no_clip() -> None:
    code = "import sys, editings.latent_editor; sys.exit('open_clip' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
