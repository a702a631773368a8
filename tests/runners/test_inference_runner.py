"""Whole data sets, by the real script in real processes: layout, resume, shards, bad files, memory."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_domain import SmallDomain
from warm_python import ROOT, WarmPython

from arguments.loader import load_config
from datasets.images import output_names
from runners.inference_runner import InferenceRunner
from runners.simple_runner import SimpleRunner
from utils.errors import UserError

EDITS = "{age: [-5, 5, 2.5], glasses: [3]}"
PER_IMAGE = 5  # results: the inversion and four edits


@pytest.fixture(scope="module")
def warm() -> Iterator[WarmPython]:
    # Building networks makes torch import _dynamo, which takes seconds.
    python = WarmPython("runners.inference_runner", "torch._dynamo", "PIL.PngImagePlugin", "PIL.JpegImagePlugin")
    yield python
    python.close()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 images of 64 px in two folders that use the same names."""
    folder = tmp_path_factory.mktemp("images")
    write_images(folder, 200)
    return folder


@pytest.fixture(scope="module")
def unbroken(
    warm: WarmPython, small: SmallDomain, images: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    """What one process writes for them without interruption."""
    out = tmp_path_factory.mktemp("unbroken")
    assert warm.run("inference.py", *options(small, images, out), log=out.with_name("unbroken.log")) == 0
    return results(out)


def write_images(folder: Path, count: int) -> None:
    draw = np.random.default_rng(7)
    for i in range(count):
        path = folder / "ab"[i % 2] / f"{i // 2}{'.png' if i % 3 else '.jpg'}"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize((64, 64)).save(path)


def options(small: SmallDomain, images: Path, out: Path, *more: str, edits: str = EDITS) -> list[str]:
    return [
        f"exp.domain={small.path}", f"model.checkpoint_path={small.editor}", "model.device=cpu", "model.workers=2",
        f"data.inference_dir={images}", f"exp.output_dir={out}", f"inference.editings_data={edits}", *more,
    ]  # fmt: skip


def results(out: Path) -> dict[str, bytes]:
    """Every file below, of any name, except the manifest."""
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in out.rglob("*")
        if path.is_file() and path.name != "manifest.jsonl"
    }


def manifest(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]


def states(out: Path) -> dict[str, str]:
    return {entry["image"]: entry["state"] for entry in manifest(out) if "image" in entry}


def test_layout_and_pixels(small: SmallDomain, tmp_path: Path) -> None:
    """Every result is in its place of the published layout, and equals that of a single photograph's run."""
    (tmp_path / "in").mkdir()
    write_images(tmp_path / "in", 3)
    runner = InferenceRunner(load_config(options(small, tmp_path / "in", tmp_path / "out", "inference.format=png")))
    assert runner.run() == 0
    folders = [f"age/edit_power_{power}" for power in ("-5.0000", "5.0000", "2.5000")] + ["glasses/edit_power_3.0000"]
    wanted = {f"{f}/{name}.png" for f in ["inversion", *folders] for name in ("a/0", "a/1", "b/0")}
    assert set(results(tmp_path / "out")) == wanted

    single = SimpleRunner(simple_config_pth=small.config, device="cpu")
    photo = single.invert(tmp_path / "in" / "a" / "1.png")
    for name, power, folder in (("age", -5.0, folders[0]), ("age", 2.5, folders[2]), ("glasses", 3.0, folders[3])):
        alone = np.asarray(single.edit(photo, name, power), dtype=int)
        assert np.abs(alone - np.asarray(Image.open(tmp_path / "out" / folder / "a/1.png"), dtype=int)).max() <= 1
        assert alone.std() > 1  # not all clipped
    assert {entry["state"] for entry in manifest(tmp_path / "out")[1:]} == {"done"}


def test_stacks_lie_in_folders_of_their_names(small: SmallDomain, tmp_path: Path) -> None:
    """Made beside single edits, added later, resumed where files are missing, and never changed under their name."""
    (tmp_path / "in").mkdir()
    write_images(tmp_path / "in", 2)
    out = tmp_path / "out"
    stacks = ["old: {age: 5}", "both: {age: 5, glasses: -3}"]

    def run(*chosen: str) -> None:
        arguments = options(small, tmp_path / "in", out, edits="{age: [2]}")
        stacked = f"inference.stacks={{{', '.join(chosen)}}}"
        assert InferenceRunner(load_config([*arguments, "inference.format=png", stacked])).run() == 0

    run(stacks[0])
    run(*stacks)
    folders = ("inversion", "age/edit_power_2.0000", "old", "both")
    assert set(results(out)) == {f"{folder}/{name}.png" for folder in folders for name in ("a/0", "b/0")}
    single = SimpleRunner(simple_config_pth=small.config, device="cpu")
    alone = np.asarray(single.edit(tmp_path / "in" / "b/0.png", edits=[("glasses", -3), ("age", 5)]), dtype=int)
    assert np.abs(alone - np.asarray(Image.open(out / "both" / "b/0.png"), dtype=int)).max() <= 1

    before = results(out)
    for lost in ("both/a/0.png", "age/edit_power_2.0000/a/0.png", "old/b/0.png"):
        (out / lost).unlink()
    run(*stacks)
    assert results(out) == before
    with pytest.raises(UserError, match=r"its inference.stacks.both is \{'age': 5.0, 'glasses': -3.0\}, now it is"):
        run(stacks[0], "both: {age: 4, glasses: -3}")


def test_equal_names_in_different_folders_do_not_collide(images: Path, unbroken: dict[str, bytes]) -> None:
    assert len(unbroken) == 200 * PER_IMAGE
    twins = [unbroken["inversion/a/1.png"], unbroken["inversion/b/1.jpg"], unbroken["inversion/b/2.png"]]
    assert len(set(twins)) == 3
    assert unbroken["inversion/b/1.jpg"][:3] == b"\xff\xd8\xff"


def test_one_format_for_all_keeps_twins_apart() -> None:
    names = ["a.jpg", "a.png", "b.png", "sub/a.png"]
    outputs = {"a.jpg": "a.jpg.webp", "a.png": "a.png.webp", "b.png": "b.webp", "sub/a.png": "sub/a.webp"}
    assert output_names(names, ".webp") == outputs
    assert output_names(names, "") == {name: name for name in names}
    with pytest.raises(UserError, match=r"a\.jpg and a\.jpg\.png would both"):
        output_names(["a.jpg", "a.png", "a.jpg.png"], ".jpg")


def test_killed_ten_times_gives_the_same_bytes(
    warm: WarmPython, small: SmallDomain, images: Path, unbroken: dict[str, bytes], tmp_path: Path
) -> None:
    out, log, chance = tmp_path / "out", tmp_path / "log", random.Random(3)
    arguments = options(small, images, out)
    counts = [0]
    for _ in range(10):
        pid = warm.start("inference.py", *arguments, log=log)
        stop = counts[-1] + chance.randint(1, 80)  # results, of 1000 in all
        wait_until(lambda stop=stop: count_results(out) >= stop, log)
        time.sleep(chance.uniform(0, 0.02))  # anywhere in the work on an image
        os.kill(pid, signal.SIGKILL)
        assert warm.wait(pid) == -signal.SIGKILL
        for path in out.rglob("[!.]*.*g"):  # every file with a final name is complete
            if path.is_file():
                assert path.read_bytes() == unbroken[path.relative_to(out).as_posix()], path
        counts.append(count_results(out))
    assert sorted(set(counts)) == counts  # each start went on where the last one was killed
    assert counts[-1] < len(unbroken)
    times = {path: path.stat().st_mtime_ns for path in out.rglob("[!.]*.*g")}
    assert warm.run("inference.py", *arguments, log=log) == 0
    assert results(out) == unbroken
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())  # what was there was not done again
    assert states(out) == dict.fromkeys(states(out), "done") and len(states(out)) == 200


def test_a_finished_run_does_nothing_and_new_edits_are_added(
    warm: WarmPython, small: SmallDomain, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    write_images(tmp_path / "in", 4)
    out, log = tmp_path / "out", tmp_path / "log"
    plan = (("{age: [1]}", 8, 4), ("{age: [1]}", 8, 0), ("{age: [1, 2], glasses: [3]}", 16, 4))
    for edits, count, to_do in plan:
        before = {path: path.stat().st_mtime_ns for path in out.rglob("*.*g")}
        assert warm.run("inference.py", *options(small, tmp_path / "in", out, edits=edits), log=log) == 0
        assert len(results(out)) == count
        assert all(path.stat().st_mtime_ns == time for path, time in before.items())
        assert f"{to_do} of 4 images to do" in log.read_text()


def test_two_processes_give_what_one_gives(
    small: SmallDomain, images: Path, unbroken: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = torchrun(2, "inference.py", *options(small, images, out))
    assert done.returncode == 0, done.stderr
    assert results(out) == unbroken
    listed = [entry["image"] for entry in manifest(out)[1:]]
    assert len(listed) == len(set(listed)) == 200  # every image was done once, by one of them
    assert done.stderr.count("100 of 100 images to do") == 2


def test_bad_files_do_not_end_the_run(warm: WarmPython, small: SmallDomain, tmp_path: Path) -> None:
    """30 bad files of many kinds among 100: 70 results, 30 errors that name the file, exit code 3."""
    folder, out, log = tmp_path / "in", tmp_path / "out", tmp_path / "log"
    folder.mkdir()
    write_images(folder, 70)
    bad = {folder / name for name in write_bad_files(folder)}
    assert len(bad) == 30
    arguments = options(small, folder, out, edits="{age: [4]}")
    assert warm.run("inference.py", *arguments, log=log) == 3
    assert len(results(out)) == 2 * 70
    errors = [line for line in log.read_text().splitlines() if line.startswith("ERROR ")]
    assert len(errors) == 30 and all(sum(f"{path}:" in line for line in errors) == 1 for path in bad)
    failed = {entry["image"]: entry["error"] for entry in manifest(out) if entry.get("state") == "failed"}
    assert {folder / name for name in failed} == bad
    assert list(states(out).values()).count("done") == 70

    mended = sorted(bad)[0]
    Image.new("RGB", (64, 64), "red").save(mended, "PNG")
    assert warm.run("inference.py", *arguments, log=log) == 3
    assert len(results(out)) == 2 * 71
    assert states(out)[mended.relative_to(folder).as_posix()] == "done"


def test_bad_files_in_one_process_do_not_end_the_others(small: SmallDomain, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name in ("0.png", "2.png"):  # both in the first process's share, which is done at once
        (folder / name).write_bytes(b"not an image")
    draw = np.random.default_rng(0)
    for i in range(1, 40, 2):
        Image.fromarray(draw.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    good = [f"{i}.png" for i in range(1, 40, 2)]
    done = torchrun(2, "inference.py", *options(small, folder, out, edits="{age: [4]}"))
    assert done.returncode == 1 and "exitcode  : 3" in done.stderr
    assert set(results(out)) == {f"{part}/{name}" for part in ("inversion", "age/edit_power_4.0000") for name in good}


def test_memory_does_not_grow(warm: WarmPython, small: SmallDomain, tmp_path: Path) -> None:
    """Resident memory after 400 images is that after 20. Kept, images and results would take 60 MB."""
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    draw = np.random.default_rng(0)
    for i in range(4):
        Image.fromarray(draw.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    for i in range(400):
        (folder / f"{i:04}.png").symlink_to(tmp_path / f"{i % 4}.png")
    pid = warm.start("inference.py", *options(small, folder, out, edits="{age: [4]}"), log=tmp_path / "log")
    first = last = 0
    path, running = out / "manifest.jsonl", True
    while running:
        time.sleep(0.02)
        lines = path.read_bytes().count(b"\n") if path.exists() else 0
        memory = resident(pid)
        running = memory > 0 and lines < 401
        if lines >= 21 and not first:
            first = memory
        last = memory or last
    assert warm.wait(pid) == 0
    assert len(states(out)) == 400
    assert last <= 1.05 * first, f"{first >> 20} MB after 20 images, {last >> 20} MB after 400"


def test_report_of_a_run(warm: WarmPython, small: SmallDomain, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_images(tmp_path / "in", 5)
    (tmp_path / "in" / "broken.png").write_bytes(b"x")
    arguments = options(small, tmp_path / "in", tmp_path / "out", "--report", str(tmp_path / "page.html"))
    metrics = "inference.report_metrics=[l2]"
    assert warm.run("inference.py", *arguments, metrics, log=tmp_path / "log") == 3
    page = (tmp_path / "page.html").read_text()
    assert "5 images inverted, 1 failed" in page and "broken.png: is not an image" in page
    assert page.count("<svg") == 1 and page.count("<img") == 2 * 2 * 3 and "http" not in page
    assert all(name in page for name in ("a/0.jpg", "b/1.jpg", "age: [-5.0, 5.0, 2.5]"))


def test_results_of_different_runs_do_not_mix(small: SmallDomain, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_images(tmp_path / "in", 2)
    arguments = options(small, tmp_path / "in", tmp_path / "out", edits="{}")
    InferenceRunner(load_config(arguments)).run()
    with pytest.raises(UserError, match=r"holds results of another run: its inference\.quality is 95, now it is 80"):
        InferenceRunner(load_config([*arguments, "inference.quality=80"])).run()
    with pytest.raises(UserError, match=r"holds results of another run: its model\.tf32 is False, now it is True"):
        InferenceRunner(load_config([*arguments, "model.tf32=True"])).run()
    path = tmp_path / "out" / "manifest.jsonl"
    path.write_text(path.read_text().replace(', "model.tf32": false', ""))  # of a version without the option
    InferenceRunner(load_config(arguments)).run()
    assert "model.tf32" in manifest(path.parent)[-1]["settings"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("inference.inference_runner=fse", "inference_runner is 'fse'; model.method=fse_full wants fse_inference"),
        ("inference.inference_runner=fse_inverter_inference_runner", "fse_full wants fse_inference_runner, or nothing"),
        ("model.method=fse", "model.method is 'fse'; there are: fse_full, fse_inverter"),
        ("model.cuda_graph=True", r"model\.cuda_graph is set, but the device is cpu; it wants an NVIDIA GPU"),
        ("model={compile: True, cuda_graph: True}", "model.compile and model.cuda_graph are both set; give one"),
        ("data.inference_dir=''", "data.inference_dir is empty"),
        ("data.inference_dir=/no/where", "/no/where: does not exist"),
        ("data.transform=face_1", "transform is 'face_1'; there are: face_256, face_1024"),
        ("inference.format=gif", "inference.format is 'gif'; there are:"),
        ("inference.editings_data={agee: [1]}", "nearest: 'age'"),
        ("inference.editings_data={age: [.inf]}", "power inf is not a finite number"),
        ("inference.stacks={inversion: {age: 1}}", "'inversion' is the folder of other results"),
        ("inference.stacks={glasses: {age: 1}}", "'glasses' is the folder of other results"),
        ("inference.stacks={a/b: {age: 1}}", r"stacks: 'a/b' becomes a folder's name: no '/'"),
        ("inference.stacks={'..': {age: 1}}", r"stacks: '..' becomes a folder's name"),
        ("inference.stacks={'': {age: 1}}", "stacks: '' becomes a folder's name"),
        ("inference.stacks={older: {}}", "'older' is empty; wanted edits"),
        ("inference.stacks={older: {age: 1, agee: 2}}", "nearest: 'age'"),
        ("inference.stacks={older: {age: .nan}}", "power nan is not a finite number"),
        ("inference.stacks={older: {age: five}}", "five"),
        ("inference.stacks={older: 5}", "older"),
        ("inference.stacks=[age]", "stacks"),
        ("inference.editings_data={age: [0.00001, 0.00002]}", "two powers of 'age' are equal to four decimals"),
    ],
)
def test_wrong_options_are_errors_before_any_work(
    small: SmallDomain, images: Path, tmp_path: Path, change: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        InferenceRunner(load_config(options(small, images, tmp_path / "out", change)))
    assert not (tmp_path / "out").exists()


def test_a_replaced_image_is_done_again(warm: WarmPython, small: SmallDomain, tmp_path: Path) -> None:
    """Also one that is older than its results, and one whose run was killed; others stay as they are."""
    folder, out, log = tmp_path / "in", tmp_path / "out", tmp_path / "log"
    folder.mkdir()
    write_images(folder, 4)
    arguments = options(small, folder, out, edits="{age: [1]}")
    assert warm.run("inference.py", *arguments, log=log) == 0
    first, times = results(out), {path: path.stat().st_mtime_ns for path in out.rglob("*.*g")}
    other = Image.new("RGB", (64, 64), "red")
    other.save(folder / "a/1.png")
    os.utime(folder / "a/1.png", (1e9, 1e9))  # a copy that keeps the time of its original
    assert warm.run("inference.py", *arguments, log=log) == 0
    assert "1 of 4 images to do" in log.read_text()
    second = results(out)
    changed = {name for name in first if first[name] != second[name]}
    assert changed == {"inversion/a/1.png", "age/edit_power_1.0000/a/1.png"}
    assert all(path.stat().st_mtime_ns == time for path, time in times.items() if path.stem != "1" or "b" in path.parts)
    assert warm.run("inference.py", *arguments, log=log) == 0
    assert "0 of 4 images to do" in log.read_text() and results(out) == second

    lines = (out / "manifest.jsonl").read_text().splitlines(keepends=True)
    (out / "manifest.jsonl").write_text("".join(line for line in lines if '"b/0.png"' not in line))  # killed before it
    other.save(folder / "b/0.png")
    (out / "age/edit_power_1.0000/b/0.png").unlink()
    assert warm.run("inference.py", *arguments, log=log) == 0
    assert "1 of 4 images to do" in log.read_text()
    third = results(out)
    assert third["inversion/b/0.png"] == third["inversion/a/1.png"] != second["inversion/b/0.png"]


def test_what_lies_in_the_folder_beside_images(warm: WarmPython, small: SmallDomain, tmp_path: Path) -> None:
    """Hidden folders and results of the run before are not edited; gif, jp2 and avif are; the last line says so."""
    folder, log = tmp_path / "in", tmp_path / "log"
    folder.mkdir()
    write_images(folder, 2)
    with Image.open(folder / "b/0.png") as image:
        for name in (".ipynb_checkpoints/0-checkpoint.png", "c.gif", "d.jp2", "e.avif", "f.jfif"):
            (folder / name).parent.mkdir(exist_ok=True)
            image.save(folder / name)
    (folder / "notes.txt").write_text("mine")
    arguments = options(small, folder, folder / "results", edits="{age: [1]}")
    names = {"a/0.jpg", "b/0.png", "c.png", "d.png", "e.png", "f.png"}
    for to_do in (6, 0):
        assert warm.run("inference.py", *arguments, log=log) == 0
        parts = ("inversion", "age/edit_power_1.0000")
        assert set(results(folder / "results")) == {f"{part}/{name}" for part in parts for name in names}
        assert f"{to_do} of 6 images to do" in log.read_text()
    last = log.read_text().splitlines()[-1]
    assert last.startswith(f"INFO {folder}: left out 1 hidden (.ipynb_checkpoints/); 1 of formats that are not read")
    assert last.endswith("1 results of this run (results/)")


def test_results_never_overwrite_images(small: SmallDomain, tmp_path: Path) -> None:
    (tmp_path / "out" / "inversion").mkdir(parents=True)
    write_images(tmp_path / "out" / "inversion", 2)
    for folder, words in (("inversion", r"inversion/a/0\.jpg: would be overwritten"), ("", "itself; choose another")):
        with pytest.raises(UserError, match=words):
            InferenceRunner(load_config(options(small, tmp_path / "out" / folder, tmp_path / "out")))
    report = tmp_path / "out" / "inversion" / "a/0.jpg"
    with pytest.raises(UserError, match=r"a/0\.jpg: would be overwritten"):
        arguments = options(small, tmp_path / "out" / "inversion", tmp_path / "other", f"inference.report={report}")
        InferenceRunner(load_config(arguments))
    assert not (tmp_path / "other").exists()


def test_two_runs_into_one_folder(
    small: SmallDomain, images: Path, unbroken: dict[str, bytes], tmp_path: Path
) -> None:
    """The end of one, which clears up, leaves what the other is writing."""
    out = tmp_path / "out"
    command = [sys.executable, str(ROOT / "scripts" / "inference.py")]
    plans = ("{age: [-5, 5, 2.5]}", "{glasses: [3]}")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    runs = [
        subprocess.Popen(
            [*command, *options(small, images, out, f"inference.inversions={edits == plans[0]}", edits=edits)],
            stderr=subprocess.PIPE, text=True, env=environment,
        )
        for edits in plans
    ]  # fmt: skip
    errors = [run.communicate()[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], errors
    result = results(out)
    assert set(result) == set(unbroken)  # nothing temporary is left either
    # Edits of other batches may differ in the last bit, and so in a level.
    assert all(result[name] == unbroken[name] for name in unbroken if not name.startswith("glasses"))


def test_missing_direction_files_end_the_run_before_any_image(
    warm: WarmPython, small: SmallDomain, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    write_images(tmp_path / "in", 2)
    text = small.path.read_text().replace(str(small.folder / "age.pt"), str(tmp_path / "gone.pt"))
    (tmp_path / "domain.yaml").write_text(text)
    more = f"exp.domain={tmp_path / 'domain.yaml'}"
    for edits, stacks in (("{glasses: [1], age: [1]}", "{}"), ("{glasses: [1]}", "{both: {glasses: 1, age: 2}}")):
        arguments = options(small, tmp_path / "in", tmp_path / "out", more, f"inference.stacks={stacks}", edits=edits)
        assert warm.run("inference.py", *arguments, log=tmp_path / "log") == 2
        last = (tmp_path / "log").read_text().splitlines()[-1]
        assert re.match(r"error: .*gone\.pt \(editing 'age'\) does not exist; scripts/download_weights", last)
        assert not (tmp_path / "out").exists()


def test_missing_weights_end_the_run_in_one_line(warm: WarmPython, small: SmallDomain, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_images(tmp_path / "in", 2)
    arguments = options(small, tmp_path / "in", tmp_path / "out", "model.checkpoint_path=/no/weights.pt")
    assert warm.run("inference.py", *arguments, log=tmp_path / "log") == 2
    lines = (tmp_path / "log").read_text().splitlines()
    assert re.match("error: weight file /no/weights.pt does not exist; ", lines[-1])
    assert "Traceback" not in "".join(lines)


@pytest.mark.parametrize("name", ["fse_inference", "fse_inverter_inference"])
def test_shipped_configs_fit_their_runner(name: str, small: SmallDomain, images: Path, tmp_path: Path) -> None:
    config = load_config([f"exp.config_dir={ROOT / 'configs'}", f"exp.config={name}.yaml"])
    assert config.inference.inference_runner == f"{name}_runner"
    config.data.inference_dir, config.model.device, config.exp.output_dir = str(images), "cpu", str(tmp_path)
    assert len(InferenceRunner(config).names) == 200  # directions, powers and method were checked


def test_stage_one_method_runs(small: SmallDomain, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_images(tmp_path / "in", 2)
    method = "model.method=fse_inverter"  # the runner follows
    arguments = options(small, tmp_path / "in", tmp_path / "out", method, f"model.checkpoint_path={small.inverter}")
    assert InferenceRunner(load_config(arguments)).run() == 0
    assert len(results(tmp_path / "out")) == 2 * PER_IMAGE


def write_bad_files(folder: Path) -> list[str]:
    """30 files that look like images by name, in ten ways that each break differently."""
    good = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)

    def encoded(suffix: str) -> bytes:
        Image.fromarray(good).save(folder / f"x{suffix}")
        content = (folder / f"x{suffix}").read_bytes()
        (folder / f"x{suffix}").unlink()
        return content

    png, jpg, webp, tif = (encoded(suffix) for suffix in (".png", ".jpg", ".webp", ".tif"))
    bomb = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (60000).to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0" + b"\0\0\0\0"
    Image.new("RGB", (3, 3)).save(folder / "tiny.png")
    tiny = (folder / "tiny.png").read_bytes()
    (folder / "tiny.png").unlink()
    kinds: dict[str, bytes] = {
        "empty": b"", "text": b"not a picture", "html": b"<html><body>404 Not Found</body></html>",
        "cut_png": png[: len(png) // 2], "cut_jpg": jpg[: len(jpg) // 3], "header": png[:20], "noise": os.urandom(3000),
        "bomb": bomb, "tiny": tiny, "flipped": png[:60] + bytes(b ^ 0xFF for b in png[60:200]) + png[200:],
    }  # fmt: skip
    more = {"cut_webp": webp[:200], "cut_tif": tif[:100], "zip": b"PK\x03\x04" + bytes(50), "gif": b"GIF89a" + bytes(9)}
    names = []
    for i in range(30):
        kind, content = list((kinds | more).items())[i % 14]
        names.append(f"{'a/' if i % 2 else ''}bad_{kind}_{i}{['.png', '.jpg', '.JPEG'][i % 3]}")
        (folder / names[-1]).write_bytes(content)
    return names


def torchrun(processes: int, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, str(ROOT / "scripts" / script), *arguments], capture_output=True, text=True, env=environment
    )


def count_results(out: Path) -> int:
    return sum(1 for path in out.rglob("[!.]*.*g") if path.is_file())


def wait_until(condition: Callable[[], bool], log: Path, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.002)


def resident(pid: int) -> int:
    """Bytes of memory; 0 once the process has ended."""
    pages = Path(f"/proc/{pid}/statm").read_text().split()
    return int(pages[1]) * os.sysconf("SC_PAGE_SIZE")
