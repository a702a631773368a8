import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from utils.errors import UserError
from utils.files import atomic_path, check_writable, list_images


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


def test_list_images_refuses_what_is_no_folder(tmp_path):
    (tmp_path / "a.png").touch()
    with pytest.raises(UserError, match="is a file"):
        list_images(tmp_path / "a.png")
    with pytest.raises(UserError, match="does not exist"):
        list_images(tmp_path / "missing")
