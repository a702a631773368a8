"""The exported networks in ONNX Runtime against ours."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_domain import SmallDomain

from runners.simple_runner import SimpleRunner
from utils.images import resize, to_tensor

ROOT = Path(__file__).resolve().parents[2]
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


def export(domain: Path, editor: Path, output: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "scripts" / "export_onnx.py", "--domain", domain]
    command += ["--editor_ckpt_pth", editor, "--output_dir", output]
    return subprocess.run([str(part) for part in command], capture_output=True, text=True)


@pytest.mark.parametrize("role", ["editor", "generator", "e4e"])
def test_no_file_overwrites_a_weight_file(small: SmallDomain, role: str, tmp_path: Path) -> None:
    """The weight file has the name of a result, by a link."""
    source, linked = getattr(small, role), tmp_path / "encoder.onnx"
    linked.hardlink_to(source)
    before = source.read_bytes()
    done = export(small.path, small.editor, tmp_path)
    assert done.returncode == 2 and list(tmp_path.iterdir()) == [linked]
    assert done.stderr.splitlines()[-1].startswith(f"error: {linked}: would be overwritten, but it is an input")
    assert "Traceback" not in done.stderr and linked.read_bytes() == source.read_bytes() == before


def test_onnx_runtime_gives_our_numbers(small: SmallDomain, photo_path: Path, tmp_path: Path) -> None:
    """Inversion and an edit in W, through the three files as docs/onnx.md has it."""
    done = export(small.path, small.editor, tmp_path)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"encoder.onnx", "editor.onnx", "decoder.onnx"}

    def run(name: str, **inputs: np.ndarray) -> list[np.ndarray]:
        return onnxruntime.InferenceSession(str(tmp_path / f"{name}.onnx")).run(None, inputs)

    def near(result: np.ndarray, wanted: torch.Tensor) -> bool:
        return np.abs(result - wanted.numpy()).max() <= 1e-3 * wanted.abs().max().item()

    runner = SimpleRunner(small.editor, small.config)
    method, x = runner.method, to_tensor(resize(Image.open(photo_path).convert("RGB"), 64))[None]
    ours = method.complete(method.invert(x))
    w, features, w_e4e = run("encoder", image=x.numpy())
    assert ours.w_e4e is not None
    assert near(w, ours.w) and near(features, ours.features) and near(w_e4e, ours.w_e4e)
    move = 1.5 * torch.load(small.folder / "age.pt").numpy()  # InterfaceGAN: power 3
    edited = run("editor", features=features, w_e4e=w_e4e, w_e4e_edited=w_e4e + move)[0]
    image = run("decoder", edited=edited, w=w + move)[0]
    assert near(image, method.edit(ours, [("age", [3])]))
    unedited = run("editor", features=features, w_e4e=w_e4e, w_e4e_edited=w_e4e)[0]
    assert near(run("decoder", edited=unedited, w=w)[0], method.reconstruct(ours))
