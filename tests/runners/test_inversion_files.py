"""Inversion files: round trips, those of other weights, damaged and hostile ones, and runs that reuse them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from small_domain import SmallDomain

from arguments.loader import load_config
from models.inference import Method
from models.inversion_file import Origin, load_inversion
from runners.animation_runner import AnimationRunner
from runners.inference_runner import InferenceRunner
from runners.photo import InvertedPhoto
from runners.simple_runner import SimpleRunner
from utils.errors import UserError
from utils.images import resize

ROOT = Path(__file__).resolve().parents[2]
VERSION_1 = ROOT / "tests" / "runners" / "inversion_v1.safetensors"  # of the small domain, by the first version


@pytest.fixture(scope="module")
def runner(small: SmallDomain) -> SimpleRunner:
    return SimpleRunner(small.editor, small.config)


@pytest.fixture(scope="module")
def saved(runner: SimpleRunner, photo_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "me.safetensors"
    runner.invert(photo_path, align=True).save(path)
    return path


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image, dtype=np.int64)


class Counts:
    """How often the two encoders run."""

    def __init__(self, method: Method) -> None:
        self.runs: list[str] = []
        networks = {"backbone": method.inverter.fs_backbone, "e4e": method.e4e}
        for name, network in networks.items():
            network.register_forward_hook(lambda *_, name=name: self.runs.append(name))


def test_round_trip_gives_the_same_images_without_encoders(
    small: SmallDomain, runner: SimpleRunner, photo_path: Path, saved: Path, tmp_path: Path
) -> None:
    fresh = runner.invert(photo_path, align=True)
    runner.edit(fresh, "age", 4, tmp_path / "fresh.png", align=True, save_inversion=True, save_e4e=True)
    other = SimpleRunner(small.editor, small.config)
    counts = Counts(other.method)
    other.edit(saved, "age", 4, tmp_path / "saved.png", align=True, save_inversion=True, save_e4e=True)
    assert counts.runs == []
    for suffix in (".png", "_unaligned.jpg", "_aligned.jpg", "_inversion.jpg", "_e4e_inversion.jpg", "_e4e_edit.jpg"):
        assert (tmp_path / f"saved{suffix}").read_bytes() == (tmp_path / f"fresh{suffix}").read_bytes(), suffix
    again = tmp_path / "again.safetensors"
    InvertedPhoto.load(saved, other.method).save(again)
    assert again.read_bytes() == saved.read_bytes()
    assert again.stat().st_mode == (tmp_path / "fresh.png").stat().st_mode  # as the umask asks for


def test_a_file_of_version_1_is_still_read(runner: SimpleRunner, small: SmallDomain, photo_path: Path) -> None:
    """Random weights differ in their last bits from machine to machine, so their sums are those of the file."""
    with safe_open(VERSION_1, "pt") as file:
        facts = json.loads(file.metadata()["inversion"])
    weights = facts["weights"].items()
    sums, names = ({role: entry[key] for role, entry in weights} for key in ("sum", "file"))
    origin = Origin(facts["domain"]["name"], facts["domain"]["sum"], sums, names)
    result = load_inversion(VERSION_1, small.load(), origin)
    now = runner.method.complete(runner.invert(photo_path).inversion)
    assert np.array_equal(result.crop, resize(Image.open(photo_path).convert("RGB"), 64))
    assert result.photograph.path.name == "astronaut.png" and result.photograph.is_still(photo_path)
    for name in ("image", "w", "features", "w_e4e"):
        old, new = getattr(result.inversion, name), getattr(now, name)
        assert (old - new).abs().max() <= 1e-3 * new.abs().max(), name


def test_every_way_in_takes_a_file(small: SmallDomain, runner: SimpleRunner, photo_path: Path, tmp_path: Path) -> None:
    script = ROOT / "scripts" / "simple_inference.py"
    shared = ["--editor_ckpt_pth", small.editor, "--simple_config_pth", small.config, "--editing_name", "age"]
    for source, power, name in ((photo_path, 3, "a.png"), (tmp_path / "a.safetensors", -3, "b.png")):
        command = [sys.executable, script, "--orig_img_pth", source, "--edited_power", power, *shared]
        command += ["--save_pth", tmp_path / name, "--save_latents"]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert np.array_equal(pixels(Image.open(tmp_path / "b.png")), pixels(runner.edit(photo_path, "age", -3)))
    assert (tmp_path / "b.safetensors").read_bytes() == (tmp_path / "a.safetensors").read_bytes()
    animate = AnimationRunner(runner).photo
    animate(tmp_path / "a.safetensors", [("age", [-2, 2])], tmp_path / "file.gif", frames=4)
    animate(photo_path, [("age", [-2, 2])], tmp_path / "photo.gif", frames=4)
    assert (tmp_path / "file.gif").read_bytes() == (tmp_path / "photo.gif").read_bytes()


def config_of(small: SmallDomain, folder: Path, output: Path, **inference: object) -> list[str]:
    options = yaml.safe_load(small.config.read_text()) | {"inference": inference}
    options["data"] = {"inference_dir": str(folder)}
    options["exp"]["output_dir"] = str(output)
    (output.parent / "run.yaml").write_text(yaml.safe_dump(options))
    return [f"exp.config_dir={output.parent}", "exp.config=run.yaml"]


def run(small: SmallDomain, folder: Path, output: Path, **inference: object) -> list[str]:
    """Run over a folder; which encoders ran."""
    runner = InferenceRunner(load_config(config_of(small, folder, output, **inference)))
    counts = Counts(runner.method)
    assert runner.run() == 0
    return counts.runs


def write_images(folder: Path) -> Path:
    folder.mkdir()
    for i, colour in enumerate(("red", "green", "blue")):
        Image.effect_mandelbrot((64, 64), (-2, -1, 1 + i, 1), 20).convert("RGB").save(folder / f"{colour}.png")
    Image.new("RGB", (64, 64), "teal").save(folder / "red.jpg")  # twins but for the extension
    return folder


def test_a_second_run_skips_all_inversions(
    small: SmallDomain, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, out, plain = write_images(tmp_path / "in"), tmp_path / "out", tmp_path / "plain"
    assert run(small, folder, out, editings_data={"age": [1, 2]}, save_latents=True) == ["backbone", "e4e"] * 4
    with caplog.at_level("INFO"):
        assert run(small, folder, out, editings_data={"glasses": [3, -3]}) == []
    assert "4 of 4 inversions were read from files" in caplog.text
    from_files = tmp_path / "again"  # the inversion files alone, with the images gone
    shutil.move(folder, tmp_path / "moved")
    assert run(small, out / "latents", from_files, editings_data={"glasses": [3, -3]}) == []
    shutil.move(tmp_path / "moved", folder)
    run(small, folder, plain, editings_data={"glasses": [3, -3]})
    results = sorted(path.relative_to(plain) for path in plain.rglob("*.[pj][np]g"))
    assert len(results) == 4 * 3
    for result in results:
        assert (out / result).read_bytes() == (plain / result).read_bytes(), result
        assert (from_files / result).read_bytes() == (plain / result).read_bytes(), result


def test_a_changed_image_is_inverted_again(small: SmallDomain, tmp_path: Path) -> None:
    folder, out = write_images(tmp_path / "in"), tmp_path / "out"
    run(small, folder, out, editings_data={}, save_latents=True)
    Image.new("RGB", (64, 64), "orange").save(folder / "red.png")
    assert run(small, folder, out, editings_data={"age": [1]}, save_latents=True) == ["backbone", "e4e"]
    kept = load_file(out / "latents" / "red.png.safetensors")["crop"]
    assert kept[0, 0].tolist() == [255, 165, 0]


def test_an_image_and_its_file_in_one_folder_are_refused(small: SmallDomain, saved: Path, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "in")
    shutil.copy(saved, folder / "red.png.safetensors")
    with pytest.raises(UserError, match=r"red\.png and its inversion file"):
        run(small, folder, tmp_path / "out")


@pytest.mark.parametrize("role", ["generator", "e4e", "trained part"])
def test_other_weights_are_named(role: str, small: SmallDomain, saved: Path, tmp_path: Path) -> None:
    """One number of one network differs."""
    name = {"generator": "generator.pt", "e4e": "e4e.pt", "trained part": "editor.pt"}[role]
    shutil.copytree(small.folder, tmp_path / "other")
    for file in ("small.yaml", "simple_inference.yaml"):
        path = tmp_path / "other" / file
        path.write_text(path.read_text().replace(str(small.folder), str(tmp_path / "other")))
    content = torch.load(tmp_path / "other" / name)
    tensors = content.get("state_dict", content.get("g_ema"))
    next(iter(tensors.values())).view(-1)[0] += 1
    torch.save(content, tmp_path / "other" / name)
    runner = SimpleRunner(simple_config_pth=tmp_path / "other" / "simple_inference.yaml")
    with pytest.raises(UserError, match=f"another {role} .'{name}', sum .*this run's is .*other/{name}"):
        runner.edit(saved, "age", 1)
    photo = SimpleRunner(small.editor, small.config).invert(saved)
    with pytest.raises(UserError, match=f"another {role}"):  # without a file, too
        runner.edit(photo, "age", 1)


def test_a_copy_of_the_weights_is_the_same(small: SmallDomain, saved: Path, tmp_path: Path) -> None:
    torch.save(torch.load(small.editor), tmp_path / "copy.pt")
    SimpleRunner(tmp_path / "copy.pt", small.config).edit(saved, "age", 1)


def test_another_domain_is_named(small: SmallDomain, saved: Path, tmp_path: Path) -> None:
    larger = SmallDomain(tmp_path, size=128)
    with pytest.raises(UserError, match=r"me\.safetensors: was inverted in the domain 'small' in another version"):
        SimpleRunner(larger.editor, larger.config).edit(saved, "age", 1)


def test_a_photograph_that_is_gone(runner: SimpleRunner, photo_path: Path, tmp_path: Path) -> None:
    """The crop can be edited; pasting it back into another image than its own is refused."""
    photo = shutil.copy(photo_path, tmp_path / "me.png")
    runner.invert(photo, align=True).save(tmp_path / "me.safetensors")
    Image.new("RGB", (512, 512), "red").save(photo)
    runner.edit(tmp_path / "me.safetensors", "age", 2, tmp_path / "out.png")
    assert not (tmp_path / "out_unaligned.jpg").exists()
    with pytest.raises(UserError, match="not the photograph that was inverted; put it back"):
        runner.edit(tmp_path / "me.safetensors", "age", 2, tmp_path / "out.png", align=True)


def facts_of(path: Path) -> dict:
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["inversion"])


def rewritten(saved: Path, target: Path, tensors: dict | None = None, facts: object = None, **changes: object) -> Path:
    """The file with other contents; None takes a tensor away."""
    content = load_file(saved) | (tensors or {})
    content = {key: tensor for key, tensor in content.items() if tensor is not None}
    text = json.dumps(facts_of(saved) | changes) if facts is None else facts
    save_file(content, target, {"inversion": text})
    return target


def nan(tensor: torch.Tensor) -> torch.Tensor:
    tensor = tensor.clone()
    tensor.view(-1)[-1] = float("nan")
    return tensor


def header(text: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


HOSTILE = {
    "empty": (lambda old, t: b"", "not an inversion file"),
    "text": (lambda old, t: b"hello there, no tensors", "its header has"),
    "truncated": (lambda old, t: old.read_bytes()[:-100], "not an inversion file"),
    "truncated header": (lambda old, t: old.read_bytes()[:50], "not an inversion file"),
    "huge header": (lambda old, t: header(b"{}", length=2**63), f"its header has {2**63} bytes"),
    "header of 1 GB": (lambda old, t: header(b"{}", length=2**30), "its header has"),
    "no metadata": (lambda old, t: header(b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', b"0000"), "lacks"),
    "offsets beyond": (
        lambda old, t: header(b'{"w":{"dtype":"F32","shape":[9],"data_offsets":[0,99999]}}', b"0000"),
        "not an inversion file",
    ),
    "petabytes": (
        lambda old, t: header(b'{"w":{"dtype":"F32","shape":[999999999,999999],"data_offsets":[0,4]}}', b"0000"),
        "not an inversion file",
    ),
    "other tensors": (lambda old, t: rewritten(old, t, {"\x1b[2Jzz": torch.zeros(1)}), r"'\x1b[2Jzz' is missing, or"),
    "w is missing": (lambda old, t: rewritten(old, t, {"w": None}), "'w' is missing"),
    "e4e's w is missing": (lambda old, t: rewritten(old, t, {"w_e4e": None}), "w_e4e and the sum"),
    "wrong shape": (lambda old, t: rewritten(old, t, {"w": torch.zeros(1, 9, 16)}), "'w' is F32 [1, 9, 16]; wanted"),
    "batch": (lambda old, t: rewritten(old, t, {"w": torch.zeros(2, 10, 16)}), "'w' is F32 [2, 10, 16]"),
    "wrong dtype": (lambda old, t: rewritten(old, t, {"w": torch.zeros(1, 10, 16).double()}), "'w' is F64"),
    "crop of floats": (lambda old, t: rewritten(old, t, {"crop": torch.zeros(64, 64, 3)}), "'crop' is F32"),
    "flat crop": (lambda old, t: rewritten(old, t, {"crop": torch.zeros(64, 32, 3).byte()}), "'crop' is U8 [64, 32"),
    "huge crop": (lambda old, t: rewritten(old, t, {"crop": torch.zeros(4097, 4097, 3).byte()}), "'crop' is U8"),
    "no crop": (lambda old, t: rewritten(old, t, {"crop": torch.zeros(0).byte()}), "'crop' is U8 [0]"),
    **{
        f"nan in {name}": (
            lambda old, t, name=name: rewritten(old, t, {name: nan(load_file(old)[name])}), f"'{name}' has numbers"
        )
        for name in ("w", "features", "w_e4e", "quad")
    },
    "tiny quad": (lambda old, t: rewritten(old, t, {"quad": load_file(old)["quad"] * 1e-6}), "'quad' is not"),
    "far quad": (lambda old, t: rewritten(old, t, {"quad": load_file(old)["quad"] + 1e12}), "'quad' is not"),
    "twisted quad": (lambda old, t: rewritten(old, t, {"quad": load_file(old)["quad"].flip(0)}), "'quad' is not"),
    "no JSON": (lambda old, t: rewritten(old, t, facts="{"), "JSONDecodeError"),
    "deep JSON": (lambda old, t: rewritten(old, t, facts="[" * 200_000), "RecursionError"),
    "a list": (lambda old, t: rewritten(old, t, facts="[]"), "TypeError"),
    "a later version": (lambda old, t: rewritten(old, t, version=2), "is of version 2; this one reads 1"),
    "version inf": (lambda old, t: rewritten(old, t, version=float("inf")), "OverflowError"),
    "no weights": (lambda old, t: rewritten(old, t, weights={}), "sums of weights are missing"),
    "photograph is a number": (lambda old, t: rewritten(old, t, photograph=5), "TypeError"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_one_line(case: str, runner: SimpleRunner, saved: Path, tmp_path: Path) -> None:
    make, words = HOSTILE[case]
    path = tmp_path / "bad.safetensors"
    if isinstance(content := make(saved, path), bytes):
        path.write_bytes(content)
    with pytest.raises(UserError) as error:
        runner.edit(path, "age", 1)
    text = str(error.value)
    assert words in text and text.startswith(str(path)) and text.isprintable() and len(text) < 500


@pytest.mark.parametrize("path", ["/etc/hostname", "../../../etc/hostname", "/dev/zero", "a\0b", "x" * 5000, "", "/"])
def test_a_path_in_a_file_opens_nothing_else(path: str, runner: SimpleRunner, saved: Path, tmp_path: Path) -> None:
    """Only the photograph itself, as its sum proves, is pasted into; the names of results stay in their folder."""
    other = tmp_path / "in" / "bad.safetensors"
    other.parent.mkdir()
    rewritten(saved, other, photograph={"path": path, "bytes": 0, "sum": ""})
    white = tmp_path / "in" / "white.png"
    Image.new("L", (64, 64), "white").save(white)
    out = tmp_path / "out" / "deep" / "edit.png"
    try:
        runner.edit(other, "age", 1, out, use_mask=True, mask_path=white)
    except UserError as error:
        assert path in ("a\0b", "x" * 5000) and "\n" not in str(error)
    with pytest.raises(UserError, match="not the photograph"):
        runner.edit(other, "age", 1, out, align=True)
    assert {p for p in tmp_path.rglob("*") if p.is_file() and p.parent != out.parent} == {other, white}


def test_a_fifo_or_folder_is_no_file(runner: SimpleRunner, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    for name, words in (("pipe", "not a regular"), ("folder", "not a regular"), ("none", "does not exist")):
        with pytest.raises(UserError, match=words):
            runner.invert(tmp_path / f"{name}.safetensors")


def test_other_names_are_refused(runner: SimpleRunner, saved: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"called \.safetensors"):
        InvertedPhoto.load(saved, runner.method).save(tmp_path / "me.png")


def test_a_killed_writer_leaves_the_old_file(small: SmallDomain, saved: Path, tmp_path: Path) -> None:
    """Many kills at random moments: at each, the file is one of the two whole ones."""
    path = shutil.copy(saved, tmp_path / "me.safetensors")
    program = (
        "from runners.photo import InvertedPhoto; from runners.simple_runner import SimpleRunner\n"
        f"method = SimpleRunner({str(small.editor)!r}, {str(small.config)!r}).method\n"
        f"photo = InvertedPhoto.load({str(path)!r}, method)\n"
        "print('ready', flush=True)\n"
        f"while True: photo.save({str(path)!r})\n"
    )
    for wait in (0.01, 0.037, 0.11):
        process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=ROOT)
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert Path(path).read_bytes() == saved.read_bytes()
