import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from utils.errors import UserError
from utils.files import (
    atomic_path,
    check_apart,
    check_folders_apart,
    check_writable,
    find_images,
    list_images,
    numbered_files,
    remove_temporaries,
)  # fmt: skip


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_atomic_path_writes_into_a_new_folder(tmp_path):
    target = tmp_path / "a" / "b" / "result.txt"
    with atomic_path(target) as temporary:
        assert temporary.parent == target.parent
        assert temporary.suffix == ".txt"
        temporary.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole"
    assert names(target.parent) == ["result.txt"]


def test_atomic_path_keeps_the_old_file_on_an_error(tmp_path):
    target = tmp_path / "result.txt"
    target.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert target.read_text() == "old"
    assert names(tmp_path) == ["result.txt"]


def test_atomic_path_obeys_the_umask(tmp_path):
    code = "import os, sys; os.umask(0o027)\nfrom utils.files import atomic_path\nwith atomic_path(sys.argv[1]): pass"
    subprocess.run([sys.executable, "-c", code, tmp_path / "x"], check=True)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640


def test_a_killed_writer_leaves_the_old_file_and_nothing_that_is_listed(tmp_path):
    target = tmp_path / "picture.png"
    target.write_text("old")
    code = (
        "import sys, time\nfrom utils.files import atomic_path\n"
        "with atomic_path(sys.argv[1]) as t: t.write_text('half'); print('go', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, target], stdout=subprocess.PIPE) as writer:
        writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
    assert target.read_text() == "old"
    assert list_images(tmp_path) == [target]


def test_atomic_path_refuses_what_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    for bad in (tmp_path, tmp_path / "file" / "x.txt", tmp_path / ("n" * 300) / "x.txt"):
        with pytest.raises(UserError, match=r"choose another|give the name"), atomic_path(bad):
            pass
    assert names(tmp_path) == ["file"]


def test_check_writable_makes_nothing(tmp_path):
    check_writable(tmp_path / "new" / "folder" / "file.txt")
    check_writable("relative.txt")
    assert names(tmp_path) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_check_writable_sees_a_read_only_folder(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="not writable"):
        check_writable(tmp_path / "new" / "file.txt")


def test_list_images_is_recursive_sorted_and_picky(tmp_path):
    wanted = ["a.JPG", "b/c.webp", "b/d.Tif", "e.jpeg", "f.png", "g.ppm", "h.bmp", "i.tiff"]
    for name in [*wanted, "notes.txt", ".hidden.png", "._a.JPG", "jpg"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert list_images(tmp_path) == [tmp_path / name for name in wanted]
    assert list_images(str(tmp_path / "folder.png")) == []


def test_what_is_left_out_is_reported(tmp_path):
    names = [
        "a.png",
        "b.gif",
        "sub/c.jp2",
        "d.JFIF",
        "e.avif",
        ".ipynb_checkpoints/a-checkpoint.png",
        ".Trash-1000/x/y.png",
    ]
    names += ["._a.png", "labels.jsonl", "clip.mov", "sub/x.psd", "sub/y.psd", "out/age/a.png"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "linked").symlink_to(tmp_path / "sub")
    (tmp_path / "broken.png").symlink_to(tmp_path / "gone.png")
    listing = find_images(tmp_path, without=tmp_path / "sub" / ".." / "out")
    assert [path.relative_to(tmp_path).as_posix() for path in listing.paths] == [
        "a.png", "b.gif", "d.JFIF", "e.avif", "sub/c.jp2"
    ]  # fmt: skip
    assert sorted(listing.left_out.split("; ")) == [
        "1 links to folders (linked/)",
        "1 no regular files (broken.png)",
        "1 results of this run (out/)",
        "3 hidden (.Trash-1000/, ._a.png, .ipynb_checkpoints/)",
        "4 of formats that are not read (clip.mov, labels.jsonl, sub/x.psd, …)",
    ]
    assert find_images(tmp_path / "sub").left_out == "2 of formats that are not read (x.psd, y.psd)"
    assert find_images(tmp_path / "out").left_out == ""


def test_heic_is_listed_where_its_package_is_installed(tmp_path):
    (tmp_path / "a.heic").touch()
    (tmp_path / "b.png").touch()
    code = "from utils.files import find_images; import sys; print(find_images(sys.argv[1]))"
    without = "import importlib.util as u; f = u.find_spec\n"
    without += "u.find_spec = lambda name, *a: None if name == 'pillow_heif' else f(name, *a)\n"
    result = subprocess.run([sys.executable, "-c", without + code, tmp_path], capture_output=True, text=True).stdout
    assert "a.heic')" not in result and "1 HEIC, which want: pip install pillow-heif (a.heic)" in result
    pytest.importorskip("pillow_heif")
    assert [path.name for path in list_images(tmp_path)] == ["a.heic", "b.png"]


WRITER = """
import sys, time
from utils.files import atomic_path
with atomic_path(sys.argv[1]) as temporary:
    temporary.write_text("whole")
    print("go", flush=True)
    sys.stdin.readline()
"""


def test_temporary_files_in_use_are_left_alone(tmp_path):
    """Another run's clearing up neither breaks a writer nor leaves what a killed one left."""
    command = [sys.executable, "-c", WRITER]
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with (
        subprocess.Popen([*command, tmp_path / "kept.png"], **streams) as alive,
        subprocess.Popen([*command, tmp_path / "lost.png"], **streams) as killed,
    ):
        assert alive.stdout.readline() == killed.stdout.readline() == "go\n"
        killed.kill()
        killed.wait()
        assert len(names(tmp_path)) == 2
        remove_temporaries(tmp_path)
        assert len(names(tmp_path)) == 1
        alive.stdin.write("end\n")
    assert alive.returncode == 0
    assert names(tmp_path) == ["kept.png"] and (tmp_path / "kept.png").read_text() == "whole"


def test_outputs_are_kept_apart_from_inputs(tmp_path):
    (tmp_path / "a.png").touch()
    (tmp_path / "link.png").symlink_to("a.png")
    check_apart([tmp_path / "b.png", "c.png"], [tmp_path / "a.png"])
    for output in (tmp_path / "a.png", tmp_path / "x" / ".." / "a.png", tmp_path / "link.png"):
        with pytest.raises(UserError, match="would be overwritten, but it is an input"):
            check_apart([tmp_path / "b.png", output], [tmp_path / "gone.png", tmp_path / "a.png"])


@pytest.mark.parametrize(
    ("source", "target", "clash"),
    [
        ("in", "out", None),
        ("in", "in/out", None),
        ("in", "in", "in/a.png"),
        ("out/age", "out/age", "out/age/a.png"),
        ("out/age", "out", None),
        ("out/sub", "out", "out/sub/a.png"),  # sub/a.png of the input is written as out/sub/a.png
        ("in", "in/sub", "in/sub/a.png"),
    ],
)
def test_folders_are_kept_apart(source, target, clash, tmp_path):
    inputs = ["a.png", "sub/a.png"]
    arguments = (tmp_path / source, inputs, tmp_path / target, inputs, "exp.output_dir")
    if clash is None:
        check_folders_apart(*arguments)
        return
    with pytest.raises(UserError, match=rf"{clash}: would be overwritten.*choose another exp\.output_dir"):
        check_folders_apart(*arguments)


def test_numbered_files(tmp_path):
    for name in (
        "iteration_10.pt",
        "iteration_2.pt",
        "iteration_2_backup.pt",
        "iteration_.pt",
        "iteration_3.pt.part",
        "iteration_x.pt",
    ):
        (tmp_path / name).touch()
    result = numbered_files(tmp_path, "iteration_", ".pt")
    assert [(number, path.name) for number, path in result] == [(2, "iteration_2.pt"), (10, "iteration_10.pt")]


def test_list_images_refuses_what_is_not_a_folder(tmp_path):
    (tmp_path / "a.png").touch()
    with pytest.raises(UserError, match="is a file"):
        list_images(tmp_path / "a.png")
    with pytest.raises(UserError, match="does not exist"):
        list_images(tmp_path / "missing")
