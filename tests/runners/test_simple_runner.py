"""SimpleRunner and scripts/simple_inference.py on a small domain of random weights: whole runs, and bad input."""

import argparse
import logging
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_domain import SmallDomain

from arguments.flags import named_power
from models.stylegan2.generator import Generator
from runners.simple_runner import SimpleRunner
from utils.errors import UserError
from utils.images import resize, to_image, to_tensor

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def runner(small: SmallDomain) -> SimpleRunner:
    return SimpleRunner(small.editor, small.config)


def features(decoder: Generator, styles: list[torch.Tensor], layer: int) -> torch.Tensor:
    return decoder.trunk(styles, layer)[0]


def decoded(decoder: Generator, styles: list[torch.Tensor], features: torch.Tensor, layer: int) -> torch.Tensor:
    return decoder.head(features, decoder.trunk(styles, layer)[1], styles, layer)


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image, dtype=np.int64)


def test_edit_is_the_formula(runner: SimpleRunner, small: SmallDomain, photo_path: Path, tmp_path: Path) -> None:
    """image = G(editor([F_k, F_w(w_e) − F_w(edit(w_e))]), edit(w)), by hand from the networks."""
    saved = tmp_path / "not" / "there" / "yet.png"
    result = runner.edit(photo_path, "age", 3, saved)
    method = runner.method
    with torch.inference_mode():
        x = to_tensor(resize(Image.open(photo_path).convert("RGB"), 64))[None]
        decoder, layer = method.decoder, method.domain.feature_layer
        offsets, content = method.inverter.fs_backbone(x)
        w, w_e = offsets + decoder.latent_avg, method.e4e(x) + decoder.latent_avg
        fused = method.inverter.fuser(content, features(decoder, decoder.affine(w), layer))
        move = 1.5 * torch.load(small.folder / "age.pt")
        before, after = (features(decoder, decoder.affine(latent), layer) for latent in (w_e, w_e + move))
        edited = method.feature_editor(fused, before - after)
        expected = decoded(decoder, decoder.affine(w + move), edited, layer)
    assert np.abs(pixels(result) - pixels(to_image(expected[0]))).max() <= 1
    assert np.array_equal(pixels(Image.open(saved)), pixels(result))
    assert [path.name for path in saved.parent.iterdir()] == ["yet.png"]


def test_stacked_edits_are_the_formula(
    runner: SimpleRunner, small: SmallDomain, photo_path: Path, tmp_path: Path
) -> None:
    """The moves of W and of StyleSpace are summed, and one delta of the sum goes to the Feature Editor; by hand."""
    result = runner.edit(
        photo_path, edits=[("age", 3), ("glasses", -4), ("age", 1)], save_pth=tmp_path / "both.png", save_strip=True,
        save_e4e=True,
    )  # fmt: skip
    method = runner.method
    decoder, layer = method.decoder, method.domain.feature_layer

    def moved(w: torch.Tensor) -> list[torch.Tensor]:
        styles = decoder.affine(w + 2 * torch.load(small.folder / "age.pt"))
        for conv, channel in ((3, 2), (2, 5)):  # convs are 0, 2, 3, 5, 6, … of the layers
            styles[conv][:, channel] += 3 * -4
        return styles

    with torch.inference_mode():
        x = to_tensor(resize(Image.open(photo_path).convert("RGB"), 64))[None]
        offsets, content = method.inverter.fs_backbone(x)
        w, w_e = offsets + decoder.latent_avg, method.e4e(x) + decoder.latent_avg
        fused = method.inverter.fuser(content, features(decoder, decoder.affine(w), layer))
        delta = features(decoder, decoder.affine(w_e), layer) - features(decoder, moved(w_e), layer)
        expected = to_image(decoded(decoder, moved(w), method.feature_editor(fused, delta), layer)[0])
        of_e4e = to_image(decoder(moved(w_e))[0])
    assert np.abs(pixels(result) - pixels(expected)).max() <= 1
    assert np.abs(pixels(Image.open(tmp_path / "both_e4e_edit.jpg")) - pixels(of_e4e)).mean() < 4  # JPEG's loss
    strip = Image.open(tmp_path / "both_strip.jpg")
    assert strip.width == 3 * 256 and {p.name for p in tmp_path.glob("both*")} == {
        "both.png", "both_strip.jpg", "both_e4e_inversion.jpg", "both_e4e_edit.jpg"
    }  # fmt: skip
    inversion = to_image(method.reconstruct(runner.invert(photo_path).inversion)[0])
    before = resize(Image.open(photo_path).convert("RGB"), 64)
    for i, image in enumerate((before, inversion, result)):
        shown = strip.crop((256 * i, strip.height - 256, 256 * (i + 1), strip.height))
        assert np.abs(pixels(shown) - pixels(resize(image, 256))).mean() < 4


def test_a_stack_of_one_is_the_edit_and_zero_powers_are_the_inversion(runner: SimpleRunner, photo_path: Path) -> None:
    photo = runner.invert(photo_path)
    assert np.array_equal(pixels(runner.edit(photo, edits=[("age", 2)])), pixels(runner.edit(photo, "age", 2)))
    unmoved = runner.edit(photo, edits=[("age", 0), ("glasses", 0)])
    assert np.array_equal(pixels(unmoved), pixels(to_image(runner.method.reconstruct(photo.inversion)[0])))


def test_an_inverted_photo_skips_the_inversion(runner: SimpleRunner, photo_path: Path, tmp_path: Path) -> None:
    runs: list[str] = []
    networks = {"backbone": runner.method.inverter.fs_backbone, "e4e": runner.method.e4e}
    hooks = [net.register_forward_hook(lambda *_, name=name: runs.append(name)) for name, net in networks.items()]
    photo = runner.invert(photo_path)
    once = runner.edit(photo, "glasses", -4)
    assert np.array_equal(pixels(runner.edit(photo, "glasses", -4)), pixels(once))
    assert not np.array_equal(pixels(runner.edit(photo, "glasses", 4)), pixels(once))
    assert runs == ["backbone", "e4e"]
    for hook in hooks:
        hook.remove()
    assert np.array_equal(pixels(runner.edit(photo_path, "glasses", -4)), pixels(once))


def test_aligned_edit_with_everything_beside_it(
    runner: SimpleRunner, photo_path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        runner.edit(
            photo_path, "age", 5, tmp_path / "older.png", align=True, use_mask=True, save_e4e=True, save_inversion=True
        )
    beside = ["_aligned", "_unaligned", "_inversion", "_e4e_inversion", "_e4e_edit"]
    masks = [f"astronaut_{part}.jpg" for part in ("mask", "back", "face")]
    assert {p.name for p in tmp_path.iterdir()} == {"older.png", *masks, *(f"older{s}.jpg" for s in beside)}
    original = Image.open(photo_path)
    assert Image.open(tmp_path / "older_unaligned.jpg").size == original.size
    far_away = np.abs(pixels(Image.open(tmp_path / "older_unaligned.jpg")) - pixels(original))[400:, :150]
    assert far_away.mean() < 4  # JPEG's loss; the face is at the top right


def test_mask_says_what_is_left_unedited(runner: SimpleRunner, photo_path: Path, tmp_path: Path) -> None:
    """White everywhere: delta is 0 and only w moves. Masks of other sizes and modes are read too."""
    photo = runner.invert(photo_path)
    for mode, size in (("L", (300, 200)), ("RGBA", (17, 64)), ("1", (64, 64))):
        Image.new(mode, size, "white").save(tmp_path / "white.png")
        masked = runner.edit(photo, "age", 8, use_mask=True, mask_path=tmp_path / "white.png")
        method = runner.method
        with torch.inference_mode():
            styles = runner.latent_editor.apply(photo.inversion.w, [("age", 8.0)], method.decoder.affine)
            fused = photo.inversion.features
            edited = method.feature_editor(fused, torch.zeros_like(fused))
            expected = decoded(method.decoder, styles, edited, method.layer)
        assert np.abs(pixels(masked) - pixels(to_image(expected[0]))).max() <= 1
    Image.new("L", (64, 64), "black").save(tmp_path / "black.png")
    unmasked = runner.edit(photo, "age", 8, use_mask=True, mask_path=tmp_path / "black.png")
    assert np.array_equal(pixels(unmasked), pixels(runner.edit(photo, "age", 8)))
    assert not np.array_equal(pixels(unmasked), pixels(masked))


def test_powers_and_images_in_one_batch_are_the_single_edits(runner: SimpleRunner) -> None:
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    mask = torch.rand(2, 1, 9, 9, generator=torch.Generator().manual_seed(2))
    method = runner.method
    together = method.edit(method.invert(x), [("age", [2, -3, 7])], mask)
    for i in range(2):
        for j, power in enumerate([2, -3, 7]):
            single = method.edit(method.invert(x[i : i + 1]), [("age", [power])], mask[i : i + 1])
            assert (together[3 * i + j] - single[0]).abs().max() <= 1e-4 * single.abs().max()


def test_steps_of_a_stack_in_one_batch_are_the_single_stacks(runner: SimpleRunner) -> None:
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    method, ages, glasses = runner.method, [2, -3, 7], [5, 0, -1]
    together = method.edit(method.invert(x), [("age", ages), ("glasses", glasses)])
    of_e4e = method.e4e_images(method.invert(x), [("age", ages), ("glasses", glasses)])
    assert len(together) == len(of_e4e) == 6
    for i in range(2):
        for j, (age, glass) in enumerate(zip(ages, glasses, strict=True)):
            stack = [("age", [age]), ("glasses", [glass])]
            single = method.edit(method.invert(x[i : i + 1]), stack)
            assert (together[3 * i + j] - single[0]).abs().max() <= 1e-4 * single.abs().max()
            single = method.e4e_images(method.invert(x[i : i + 1]), stack)
            assert (of_e4e[3 * i + j] - single[0]).abs().max() <= 1e-4 * single.abs().max()


@pytest.mark.parametrize(
    ("edits", "words"),
    [
        ([], "given: no edit"),
        ([("age", [])], "given: 0 for 'age'"),
        ([("age", [1, 2]), ("glasses", [3])], "given: 2 for 'age', 1 for 'glasses'"),
    ],
)
def test_a_ragged_stack_is_refused(runner: SimpleRunner, photo_path: Path, edits: list, words: str) -> None:
    with pytest.raises(UserError, match=words):
        runner.method.edit(runner.invert(photo_path).inversion, edits)


def test_first_edit_loads_only_what_it_uses(small: SmallDomain, photo_path: Path, tmp_path: Path) -> None:
    """With every other file gone, discriminator and other directions included, an edit still runs."""
    program = (
        "import sys, pathlib\n"
        "from runners.simple_runner import SimpleRunner\n"
        "opened = []\n"
        "sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == 'open' else None)\n"
        f"SimpleRunner({str(small.editor)!r}, {str(small.config)!r}).edit({str(photo_path)!r}, 'glasses', 2)\n"
        f"print(sorted({{pathlib.Path(p).name for p in opened if p.startswith({str(small.folder)!r})}}))\n"
        "heavy = 'facer dlib open_clip wandb lpips facenet_pytorch matplotlib torch._dynamo sympy'.split()\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    files, modules = done.stdout.splitlines()
    assert files == str(["e4e.pt", "editor.pt", "generator.pt", "simple_inference.yaml", "small.yaml"])
    assert modules == "[]"


STACKED = {"editing_name": None, "edited_power": None}


def bad_inputs(folder: Path, small: SmallDomain) -> dict[str, tuple[dict, str]]:
    """What is wrong -> (arguments of an edit that differ from a good one, words of the error)."""
    (folder / "text.jpg").write_text("no image")
    (folder / "empty.png").touch()
    photo = (ROOT / "assets" / "astronaut.png").read_bytes()
    (folder / "truncated.png").write_bytes(photo[: len(photo) // 2])
    Image.new("RGB", (1, 1)).save(folder / "dot.png")
    Image.new("RGB", (300, 300), "green").save(folder / "green.png")
    Image.new("1", (20_000, 15_000)).save(folder / "bomb.png")
    (folder / "garbage.pt").write_bytes(b"garbage" * 100)

    class Attack:
        def __reduce__(self) -> tuple:
            return (Path.touch, (folder / "attacked",))

    (folder / "attack.pt").write_bytes(pickle.dumps({"state_dict": Attack()}))
    return {
        "missing image": ({"orig_img_pth": folder / "nowhere.jpg"}, "nowhere.jpg"),
        "text file": ({"orig_img_pth": folder / "text.jpg"}, "text.jpg"),
        "empty file": ({"orig_img_pth": folder / "empty.png"}, "empty.png"),
        "truncated": ({"orig_img_pth": folder / "truncated.png"}, "truncated.png"),
        "one pixel": ({"orig_img_pth": folder / "dot.png"}, "1×1"),
        "bomb": ({"orig_img_pth": folder / "bomb.png"}, "megapixels"),
        "no face": ({"orig_img_pth": folder / "green.png", "align": True}, "green.png: no face"),
        "unknown direction": ({"editing_name": "agee"}, "'age'"),
        "power nan": ({"edited_power": float("nan")}, "nan"),
        "power 1e9": ({"edited_power": 1e9}, "1e+09"),
        "no edit": ({"editing_name": None, "edited_power": None}, "wanted either editing_name with edited_power, or"),
        "name without power": ({"edited_power": None}, "edited_power=None"),
        "both ways": ({"edits": [("age", 1)]}, "wanted either"),
        "empty stack": ({**STACKED, "edits": []}, "edits is []"),
        "no pairs": ({**STACKED, "edits": ["age"]}, "edits is ['age']; wanted pairs"),
        "no power": ({**STACKED, "edits": [("age", "five")]}, "edits is [('age', 'five')]; wanted pairs"),
        "unknown in a stack": ({**STACKED, "edits": [("age", 1), ("agee", 1)]}, "'agee'"),
        "power in a stack": ({**STACKED, "edits": [("age", 1), ("glasses", float("inf"))]}, "'glasses': power inf"),
        "missing mask": ({"use_mask": True, "mask_path": folder / "mask.png"}, "mask.png"),
        "text mask": ({"use_mask": True, "mask_path": folder / "text.jpg"}, "text.jpg"),
        "mask without use_mask": ({"mask_path": folder / "mask.png"}, "has an effect only with use_mask"),
        "threshold 50": ({"use_mask": True, "mask_trashold": 50}, "mask_trashold is 50; wanted a probability"),
        "threshold nan": ({"use_mask": True, "mask_trashold": float("nan")}, "mask_trashold is nan"),
        "unknown extension": ({"save_pth": folder / "out" / "result.docx"}, ".docx"),
        "missing checkpoint": ({"editor_ckpt_pth": folder / "nowhere.pt"}, "nowhere.pt"),
        "unreadable checkpoint": ({"editor_ckpt_pth": folder / "garbage.pt"}, "garbage.pt"),
        "wrong slot": ({"editor_ckpt_pth": small.inverter}, "holds an Inverter; model.checkpoint_path of fse_full"),
        "attack": ({"editor_ckpt_pth": folder / "attack.pt"}, "attack.pt"),
    }


CASES = [
    "missing image", "text file", "empty file", "truncated", "one pixel", "bomb", "no face", "unknown direction",
    "power nan", "power 1e9", "no edit", "name without power", "both ways", "empty stack", "no pairs", "no power",
    "unknown in a stack", "power in a stack", "missing mask", "text mask", "mask without use_mask", "threshold 50",
    "threshold nan", "unknown extension", "missing checkpoint",
    "unreadable checkpoint", "wrong slot", "attack",
]  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_line_and_leaves_old_results(
    case: str, small: SmallDomain, photo_path: Path, tmp_path: Path
) -> None:
    changes, words = bad_inputs(tmp_path, small)[case]
    old = tmp_path / "out" / "result.png"
    old.parent.mkdir()
    old.write_bytes(b"an old result")
    arguments = {"orig_img_pth": photo_path, "editing_name": "age", "edited_power": 5.0, "save_pth": old, **changes}
    checkpoint = arguments.pop("editor_ckpt_pth", small.editor)
    with pytest.raises(UserError) as error:
        SimpleRunner(checkpoint, small.config).edit(**arguments)
    assert words in str(error.value) and "\n" not in str(error.value)
    assert [path.name for path in old.parent.iterdir()] == ["result.png"] and old.read_bytes() == b"an old result"
    assert not (tmp_path / "attacked").exists()


def test_missing_direction_file(small: SmallDomain, photo_path: Path, tmp_path: Path) -> None:
    text = small.path.read_text().replace(str(small.folder / "age.pt"), str(tmp_path / "gone.pt"))
    (tmp_path / "domain.yaml").write_text(text)
    config = small.config.read_text().replace(str(small.path), str(tmp_path / "domain.yaml"))
    (tmp_path / "config.yaml").write_text(config)
    with pytest.raises(UserError, match=r"gone\.pt"):
        SimpleRunner(small.editor, tmp_path / "config.yaml").edit(photo_path, "age", 1)


def script(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "simple_inference.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_script(small: SmallDomain, runner: SimpleRunner, photo_path: Path, tmp_path: Path) -> None:
    good = {
        "--orig_img_pth": photo_path, "--editing_name": "age", "--edited_power": "2", "--save_pth": tmp_path / "a.png",
        "--editor_ckpt_pth": small.editor, "--simple_config_pth": small.config, "--device": "cuda:7",
    }  # fmt: skip
    done = script(*(word for item in good.items() for word in item))
    assert done.returncode == 0, done.stderr
    assert "cuda:7" in done.stderr  # falls back to the CPU, and says so
    assert np.array_equal(pixels(Image.open(tmp_path / "a.png")), pixels(runner.edit(photo_path, "age", 2)))

    good["--edited_power"] = "nan"
    done = script(*(word for item in good.items() for word in item))
    assert done.returncode == 2
    assert [line[:7] for line in done.stderr.splitlines() if "cuda:7" not in line] == ["error: "]

    del good["--edited_power"], good["--editing_name"]
    done = script(*(word for item in good.items() for word in item), "--strip", "--edits", "age=2", "glasses=-1.5")
    assert done.returncode == 0, done.stderr
    stacked = runner.edit(photo_path, edits=[("age", 2), ("glasses", -1.5)])
    assert np.array_equal(pixels(Image.open(tmp_path / "a.png")), pixels(stacked))
    assert (tmp_path / "a_strip.jpg").exists()


def test_edits_of_the_command_line() -> None:
    assert named_power("blond hair=-3") == ("blond hair", -3.0)
    assert named_power("styleclip_global_a=b_c_0.1=2e-1") == ("styleclip_global_a=b_c_0.1", 0.2)
    for wrong in ("age", "=5", "age=", "age=five", ""):
        with pytest.raises(argparse.ArgumentTypeError, match="wanted name=power"):
            named_power(wrong)


def test_images_of_every_kind_are_read(runner: SimpleRunner, tmp_path: Path) -> None:
    photo = Image.open(ROOT / "assets" / "astronaut.png").resize((80, 80))
    kinds = {"cmyk.jpg": "CMYK", "grey.png": "L", "16 bit.png": "I;16", "palette.png": "P", "alpha.png": "RGBA"}
    for name, mode in kinds.items():
        image = photo.convert("L").convert("I").point(lambda v: v * 257).convert("I;16") if mode == "I;16" else photo
        image.convert(mode).save(tmp_path / name)
        result = runner.edit(tmp_path / name, "age", 1, tmp_path / f"{name}.png")
        assert result.size == (64, 64) and (tmp_path / f"{name}.png").exists()


def test_align_of_an_inverted_photo_writes_both_images(
    runner: SimpleRunner, photo_path: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="align"):
        runner.edit(runner.invert(photo_path), "age", 1, align=True)
    photo = runner.invert(photo_path, align=True)
    for align, count in ((False, 1), (True, 3)):
        folder = tmp_path / str(align)
        edited = runner.edit(photo, "age", 1, folder / "a.png", align=align)
        assert edited.size == (64, 64) and len(list(folder.iterdir())) == count
    assert photo.put_back(edited).size == photo.original().size
    assert runner.edited(photo, [("age", 1)]) == edited


def test_no_result_overwrites_an_input(runner: SimpleRunner, photo_path: Path, tmp_path: Path) -> None:
    """Of every file that is written beside the result."""
    me, mask = tmp_path / "me.png", tmp_path / "me_mask.jpg"
    me.write_bytes(photo_path.read_bytes())
    Image.new("L", (64, 64), "white").save(mask)
    face = tmp_path / "older_inversion.jpg"
    Image.open(photo_path).convert("RGB").save(face)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    cases = [
        ({"orig_img_pth": me, "save_pth": tmp_path / "new" / ".." / "me.png"}, "me.png"),
        ({"orig_img_pth": me, "save_pth": tmp_path / "a.jpg", "use_mask": True, "mask_path": mask}, "me_mask.jpg"),
        ({"orig_img_pth": face, "save_pth": tmp_path / "older.jpg", "save_inversion": True}, "older_inversion.jpg"),
        ({"orig_img_pth": runner.invert(face), "save_pth": tmp_path / "older.jpg", "save_inversion": True}, "older_"),
    ]
    for arguments, name in cases:
        with pytest.raises(UserError, match=f"{name}.*: would be overwritten, but it is an input"):
            runner.edit(editing_name="age", edited_power=5, **arguments)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    runner.edit(face, "age", 5, tmp_path / "older.jpg")  # without the inversion beside it, nothing is overwritten
    assert face.read_bytes() == before[face]


def test_masks_of_one_colour_and_of_ones_are_logged(
    runner: SimpleRunner, photo_path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    photo, masks = runner.invert(photo_path), {"black": 0, "white": 255}
    edited = {}
    for name, level in masks.items():
        Image.new("L", (64, 64), level).save(tmp_path / f"{name}.png")
        edited[name] = runner.edit(photo, "age", 8, use_mask=True, mask_path=tmp_path / f"{name}.png")
    assert "black.png is black: the whole image is edited" in caplog.text
    assert "white.png is white: the whole image is left unedited" in caplog.text
    Image.new("L", (64, 64), 1).save(tmp_path / "ones.png")
    ones = runner.edit(photo, "age", 8, use_mask=True, mask_path=tmp_path / "ones.png")
    assert np.array_equal(pixels(ones), pixels(edited["white"])) and "1 is read as white" in caplog.text
    caplog.clear()
    runner.edit(runner.invert(photo_path, align=True), "age", 8, use_mask=True, mask_trashold=0)
    assert "the mask of mask_trashold 0 is white" in caplog.text


def test_squashed_and_sideways_photographs_are_logged(
    runner: SimpleRunner, photo_path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Image.open(photo_path) as photo:
        photo.crop((0, 0, 450, 150)).save(tmp_path / "wide.png")
        photo.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "lying.png")
    runner.invert(tmp_path / "wide.png")
    assert "wide.png: has 450×150 pixels and is squashed" in caplog.text and "--align" in caplog.text
    lying, upright = (runner.invert(path, align=True) for path in (tmp_path / "lying.png", photo_path))
    assert "lying.png: it shows no upright face; one was found after rotating by 90° clockwise" in caplog.text
    assert np.abs(pixels(lying.crop) - pixels(upright.crop)).mean() < 3
    assert len(caplog.messages) == 2


def test_missing_files_are_errors_before_anything_is_computed(
    small: SmallDomain, photo_path: Path, tmp_path: Path
) -> None:
    """Of the direction, of the trained part, of e4e: with a photograph that would take long, nothing is read."""
    text = small.path.read_text().replace(str(small.folder / "age.pt"), str(tmp_path / "gone.pt"))
    (tmp_path / "domain.yaml").write_text(text)
    config = small.config.read_text().replace(str(small.path), str(tmp_path / "domain.yaml"))
    (tmp_path / "config.yaml").write_text(config)
    runner = SimpleRunner(small.editor, tmp_path / "config.yaml")
    with pytest.raises(UserError, match=r"gone\.pt \(editing 'age'\) does not exist"):
        runner.edit(photo_path, edits=[("glasses", 1), ("age", 1)])
    assert "_trained" not in vars(runner.method) and "decoder" not in vars(runner.method)
    runner.edit(photo_path, "glasses", 1)  # the other one needs no file
    (tmp_path / "domain.yaml").write_text(text.replace(str(small.e4e), str(tmp_path / "no_e4e.pt")))
    with pytest.raises(UserError, match=r"no_e4e\.pt does not exist"):
        SimpleRunner(small.editor, tmp_path / "config.yaml").edit(photo_path, "glasses", 1)
