"""Every family against its formula, written out here for one row at a time."""

import io
import math
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from direction_files import CONVS, CURLS, DIM, FIRE, N_STYLES, TEMPLATES, WIDTHS, DirectionFiles
from torch import Tensor

from editings.fs_boundaries import FSBoundaries
from editings.interfacegan import InterfaceGAN
from utils.errors import UserError

W_NAMES = ["age", "roundness", "eyes", "fs_smiling", "afro", "depp"]
NAMES = [*W_NAMES, "black hair", FIRE, CURLS]
POWERS = [4.0, -2.5, 0.0]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> DirectionFiles:
    return DirectionFiles(tmp_path_factory.mktemp("directions"))


@pytest.fixture
def w() -> Tensor:
    return torch.randn(3, N_STYLES, DIM, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def image() -> Tensor:
    return torch.rand(3, 3, 128, 128, generator=torch.Generator().manual_seed(2)) * 2 - 1


def edited_w(files: DirectionFiles, w: Tensor, name: str, powers: list[float]) -> Tensor:
    """What the generator's affine gets: the edited w."""
    seen = []
    files.editor().apply(w, [(name, powers)], lambda x: seen.append(x) or files.generator.affine(x))
    return seen[0]


def linear(x: Tensor, tensors: dict[str, Tensor], prefix: str, indices: range) -> Tensor:
    """Equalised linear layers with lr_mul 0.01, each with leaky ReLU · √2."""
    for i in indices:
        weight, bias = tensors[f"{prefix}.{i}.weight"], tensors[f"{prefix}.{i}.bias"]
        x = x @ weight.T * 0.01 / math.sqrt(weight.shape[1]) + 0.01 * bias
        x = torch.where(x > 0, x, 0.2 * x) * 2**0.5
    return x


def normed(x: Tensor, dim: int) -> Tensor:
    return x / (x.pow(2).mean(dim, keepdim=True) + 1e-8).sqrt()


def phrase(files: DirectionFiles, text: str) -> Tensor:
    from open_clip.tokenizer import tokenize

    each = files.clip.encode_text(tokenize([template.format(text) for template in TEMPLATES]))
    mean = (each / each.norm(dim=-1, keepdim=True)).mean(0)
    return mean / mean.norm()


def test_interfacegan(files: DirectionFiles, w: Tensor) -> None:
    result = edited_w(files, w, "age", POWERS)
    for row, power in enumerate(POWERS):
        for style in range(N_STYLES):
            torch.testing.assert_close(result[row, style], w[row, style] + power / 2 * files.direction[0])


@pytest.mark.parametrize(("name", "index", "styles"), [("roundness", 4, range(5)), ("eyes", 5, [7])])
def test_ganspace(files: DirectionFiles, w: Tensor, name: str, index: int, styles: list[int]) -> None:
    result = edited_w(files, w, name, POWERS)
    mean, comp, std = files.pca["mean"][0], files.pca["comp"][index, 0], files.pca["std"][index]
    for row, power in enumerate(POWERS):
        k = torch.dot(w[row, 0] - mean, comp) / std
        for style in range(N_STYLES):
            move = (power - k) * comp * std if style in styles else 0
            torch.testing.assert_close(result[row, style], w[row, style] + move)


def test_fs_boundaries(files: DirectionFiles, w: Tensor) -> None:
    result = edited_w(files, w, "fs_smiling", POWERS)
    for row, power in enumerate(POWERS):
        torch.testing.assert_close(result[row].flatten(), w[row].flatten() + power * files.boundary[0])


@pytest.mark.parametrize(("name", "levels"), [("afro", ["course", "medium"]), ("depp", ["course", "medium", "fine"])])
def test_styleclip_mapper(files: DirectionFiles, w: Tensor, name: str, levels: list[str]) -> None:
    powers = [0.1, 0.0, -0.05]
    result = edited_w(files, w, name, powers)
    spans = {"course": slice(0, 4), "medium": slice(4, 8), "fine": slice(8, 10)}
    for row, power in enumerate(powers):
        wanted = w[row].clone()
        for level in levels:
            part = normed(w[row, spans[level]], 0)  # over the rows
            move = linear(part, files.mappers[name], f"mapper.{level}_mapping.mapping", range(1, 5))
            wanted[spans[level]] += power * move
        torch.testing.assert_close(result[row], wanted)


def test_stylespace(files: DirectionFiles, w: Tensor) -> None:
    unedited = files.generator.affine(w)
    result = files.editor().apply(w, [("black hair", POWERS)], files.generator.affine)
    for row, power in enumerate(POWERS):
        unedited[3][row, 7] += 3 * power
        unedited[12][row, 5] += 3 * power
    torch.testing.assert_close(result, unedited)


def test_a_direction_that_a_family_saves_is_the_move_of_power_1(tmp_path: Path, w: Tensor) -> None:
    files = DirectionFiles(tmp_path)
    one, each = torch.randn(DIM), torch.randn(N_STYLES, DIM)
    InterfaceGAN.save(one, tmp_path / "age.pt")
    FSBoundaries.save(each, tmp_path / "smiling.npy")
    torch.testing.assert_close(edited_w(files, w, "age", [1.0]), w + one)
    torch.testing.assert_close(edited_w(files, w, "fs_smiling", [1.0]), w + each)


def test_styleclip_global(files: DirectionFiles, w: Tensor) -> None:
    unedited = files.generator.affine(w)
    result = files.editor().apply(w, [(FIRE, POWERS)], files.generator.affine)
    difference = phrase(files, "face with fire hair") - phrase(files, "face with hair")
    r = files.delta_i_c @ (difference / difference.norm())
    r[r.abs() < 0.10] = 0
    assert 0 < (r == 0).sum() < len(r)
    r /= r.abs().max()
    first = 0
    for number, layer in enumerate(CONVS):
        part = r[first : first + WIDTHS[layer]] * torch.from_numpy(files.means_stds[1][layer])
        first += WIDTHS[layer]
        if number < 6:
            unedited[layer] += torch.outer(torch.tensor(POWERS) / 1.5, part)
    torch.testing.assert_close(result, unedited)


def test_deltaedit(files: DirectionFiles, w: Tensor, image: Tensor) -> None:
    unedited = files.generator.affine(w)
    result = files.editor().apply(w, [(CURLS, POWERS)], files.generator.affine, image)
    difference = phrase(files, "face with curls") - phrase(files, "face")
    kept = (files.fs3 @ difference).abs() >= 0.02
    assert 0 < kept.sum() < len(kept)
    for row, power in enumerate(POWERS):
        pooled = torch.nn.functional.avg_pool2d(image[row : row + 1], 2)  # 128 → CLIP's 64
        seen = files.clip.encode_image(pooled)[0]
        condition = torch.cat([seen / seen.norm(), difference / difference.norm()])
        s = torch.cat([unedited[i][row] for i in CONVS])
        moves = []
        for level, first, last, rows in (("coarse", 0, 64, 2), ("medium", 64, 128, 2), ("fine", 128, 200, 1)):
            part = s[first:last].reshape(rows, -1)
            part = normed(part, 0) if rows > 1 else normed(part, 1)
            part = linear(part, files.delta_mapper, f"sm_{level}.mapping", range(1, 5))
            given = linear(normed(condition, 0), files.delta_mapper, f"cm_{level}.mapping", range(1, 5))
            both = torch.cat([part, given.expand(rows, -1)], 1)
            moves.append(linear(both, files.delta_mapper, f"fm_{level}.mapping", range(4)).flatten())
        move = (power * torch.cat(moves) * kept).split([WIDTHS[i] for i in CONVS])
        for layer, part in zip(CONVS, move, strict=True):
            torch.testing.assert_close(result[layer][row], unedited[layer][row] + part, rtol=1e-4, atol=1e-4)
    for layer in set(range(len(WIDTHS))) - set(CONVS):
        torch.testing.assert_close(result[layer], unedited[layer])


def test_deltaedit_wants_the_image_and_one_does_for_all(files: DirectionFiles, w: Tensor, image: Tensor) -> None:
    editor, affine = files.editor(), files.generator.affine
    with pytest.raises(ValueError, match="image"):
        editor.apply(w, [(CURLS, 1.0)], affine)
    repeated = editor.apply(w, [(CURLS, 1.0)], affine, image[:1].repeat(3, 1, 1, 1))
    torch.testing.assert_close(editor.apply(w, [(CURLS, 1.0)], affine, image[:1]), repeated)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_batch_is_its_rows(
    files: DirectionFiles, w: Tensor, image: Tensor, name: str, dtype: torch.dtype
) -> None:
    generator = files.generator.to(dtype)
    try:
        editor, w = files.editor(), w.to(dtype)
        batch = editor.apply(w, [(name, torch.tensor(POWERS))], generator.affine, image)
        assert [style.shape[1] for style in batch] == WIDTHS
        assert all(style.dtype == dtype for style in batch)
        assert any((a != b).any() for a, b in zip(batch, generator.affine(w), strict=True))
        for row, power in enumerate(POWERS):
            alone = editor.apply(w[row : row + 1], [(name, power)], generator.affine, image[row : row + 1])
            torch.testing.assert_close([style[row : row + 1] for style in batch], alone, rtol=1e-5, atol=1e-5)
    finally:
        files.generator.float()


def test_stacked_edits_add_up_in_any_order(files: DirectionFiles, w: Tensor, image: Tensor) -> None:
    editor, affine = files.editor(), files.generator.affine
    edits = [("age", POWERS), ("black hair", 2.0), ("roundness", 1.0), (CURLS, 0.5), (FIRE, 3.0)]
    unedited, wanted = affine(w), affine(w)
    for name, powers in edits:  # affine maps are additive in the moves of w too
        alone = editor.apply(w, [(name, powers)], affine, image)
        wanted = [sum_ + one - none for sum_, one, none in zip(wanted, alone, unedited, strict=True)]
    torch.testing.assert_close(editor.apply(w, edits, affine, image), wanted, rtol=1e-4, atol=1e-4)
    reverse = editor.apply(w, edits[::-1], affine, image)
    torch.testing.assert_close(reverse, wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(editor.apply(w, [], affine), unedited)


def test_files_are_read_at_the_first_use_and_never_again(tmp_path: Path, w: Tensor, image: Tensor) -> None:
    folder = tmp_path / "directions"
    folder.mkdir()
    files = DirectionFiles(folder)
    away = folder.rename(tmp_path / "away")
    editor, affine = files.editor(), files.generator.affine
    assert set(editor.available()) == set(files.domain().editings)
    with pytest.raises(UserError, match=r"age\.pt"):
        editor.apply(w, [("age", 1.0)], affine)
    away.rename(folder)
    first = {name: editor.apply(w, [(name, 1.0)], affine, image) for name in NAMES}
    shutil.rmtree(folder)
    for name in NAMES:
        torch.testing.assert_close(editor.apply(w, [(name, 1.0)], affine, image), first[name], rtol=0, atol=0)
    # Another threshold for known phrases needs no file either, and neither family embeds a phrase again.
    editor.apply(w, [(FIRE.replace("0.10", "0.05"), 1.0)], affine)
    editor.apply(w, [("deltaedit_face with hair_face with fire hair_0", 1.0)], affine, image)


def test_an_edit_first_used_for_inference_serves_training(files: DirectionFiles, w: Tensor, image: Tensor) -> None:
    editor = files.editor()
    for name in NAMES:
        with torch.inference_mode():
            editor.apply(w.clone(), [(name, 1.0)], files.generator.affine, image)
        learned = w.clone().requires_grad_()
        styles = editor.apply(learned, [(name, 1.0)], files.generator.affine, image)
        sum(style.square().sum() for style in styles).backward()
        assert learned.grad is not None and learned.grad.abs().sum() > 0, name


def write_pt(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def write_npy(value: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, value, allow_pickle=True)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("file", "content", "name"),
    [
        ("age.pt", b"no tensor", "age"),
        ("age.pt", write_pt(torch.zeros(1, 512)), "age"),
        ("age.pt", write_pt({"a": torch.zeros(1, DIM)}), "age"),
        ("age.pt", pickle.dumps(Path("/")), "age"),
        ("pca.pt", write_pt(torch.zeros(3)), "eyes"),
        ("pca.pt", write_pt({"mean": torch.zeros(1, DIM)}), "eyes"),
        (
            "pca.pt",
            write_pt({"mean": torch.zeros(1, DIM), "std": torch.ones(2), "comp": torch.zeros(2, 1, DIM)}),
            "eyes",
        ),
        (
            "pca.pt",
            write_pt({"mean": torch.zeros(1, 512), "std": torch.ones(6), "comp": torch.zeros(6, 1, 512)}),
            "eyes",
        ),
        ("smiling.npy", write_npy(np.zeros((1, 9216), np.float32)), "fs_smiling"),
        ("smiling.npy", write_npy(np.array([Path("/")], object)), "fs_smiling"),
        ("smiling.npy", b"", "fs_smiling"),
        ("mappers/afro.pt", write_pt({"state_dict": {"x": torch.zeros(2)}}), "afro"),
        ("mappers/afro.pt", write_pt({"a": 1}), "afro"),
        (
            "mappers/afro.pt",
            write_pt({"state_dict": {
                "mapper.fine_mapping.mapping.1.weight": torch.zeros(512, 512),
                "mapper.fine_mapping.mapping.1.bias": torch.zeros(512),
            }}),
            "afro",
        ),
        ("S_mean_std", pickle.dumps([1, 2]), FIRE),
        ("S_mean_std", pickle.dumps([[np.zeros(4, np.float32)]] * 2), FIRE),
        ("S_mean_std", b"cposix\nsystem\n(S'touch /tmp/run-by-a-pickle'\ntR.", FIRE),
        ("delta_i_c.npy", write_npy(np.zeros((6048, 512), np.float32)), FIRE),
        ("templates.txt", b"a photo\n", FIRE),
        ("ViT.pt", write_pt({"state_dict": {"x": torch.zeros(2)}}), FIRE),
        ("ViT.pt", b"\x80\x02", FIRE),
        ("fs3.npy", write_npy(np.zeros((6048, 512), np.float32)), CURLS),
        ("delta_mapper.pt", write_pt({"x": torch.zeros(2)}), CURLS),
        ("delta_mapper.pt", None, CURLS),
        ("ViT.pt", None, FIRE),
        ("templates.txt", None, FIRE),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_bad_file_is_one_line_that_names_it(
    files: DirectionFiles, tmp_path: Path, w: Tensor, image: Tensor, file: str, content: bytes | None, name: str
) -> None:
    kept = tmp_path / "kept"
    shutil.copy(files.folder / file, kept)
    try:
        (files.folder / file).unlink()
        if content is not None:
            (files.folder / file).write_bytes(content)
        with pytest.raises(UserError) as error:
            files.editor().apply(w, [(name, 1.0)], files.generator.affine, image)
    finally:
        shutil.copy(kept, files.folder / file)
    message = str(error.value)
    assert str(files.folder / file) in message
    assert "\n" not in message
    assert not Path("/tmp/run-by-a-pickle").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"gan": {}}, "editings.gan is not a family"),
        ({"stylespace": {"directions": {"hat": {"channels": [[1, 2]]}}}}, "editings.stylespace"),
        ({"interfacegan": {"directions": {"age": {"file": "age.pt", "range": [1]}}}}, "editings.interfacegan"),
        ({"ganspace": None}, "editings.ganspace"),
    ],
)
def test_a_bad_domain_is_an_error_before_any_edit(files: DirectionFiles, changes: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        files.editor(**changes)


@pytest.mark.parametrize(
    ("changes", "name", "words"),
    [
        ({"stylespace": {"directions": {"hat": {"channels": [[3, 479]], "range": [0, 1]}}}}, "hat", "channel 479"),
        ({"stylespace": {"directions": {"hat": {"channels": [[14, 0]], "range": [0, 1]}}}}, "hat", "layer 14"),
        ({"ganspace": {"file": "pca.pt", "directions": {"hat": {"component": 0, "styles": [9, 11], "range": [0, 1]}}}},
         "hat", "9..11"),
    ],
)  # fmt: skip
def test_a_direction_of_another_generator(
    files: DirectionFiles, w: Tensor, changes: dict, name: str, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        files.editor(**changes).apply(w, [(name, 1.0)], files.generator.affine)
