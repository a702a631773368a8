"""Downloads from a real server on 127.0.0.1 that speaks as the Hugging Face hub does, and breaks off when told to."""

import contextlib
import hashlib
import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from configs.weights import published_files
from utils import download
from utils.errors import UserError

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "download_weights.py"
HUB = "/AIRI-Institute/StyleFeatureEditor/resolve/main/pretrained_models/"


class Hub(ThreadingHTTPServer):
    """Files of the hub are redirected to /cdn/… with their sum; others are sent as they are."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.sums: dict[str, str] = {}  # to lie about
        self.requests: list[tuple[str, str | None]] = []  # path and Range
        self.break_after: int | None = None  # bytes of an answer, once
        self.break_always = False
        self.claimed_size: int | None = None
        self.status = 200
        self.ranges = True
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def publish(self, name: str, content: bytes) -> str:
        self.files[f"/cdn/{name}"] = content
        return f"{self.url}{HUB}{name}"


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        hub, wanted = self.server, self.headers["Range"]
        hub.requests.append((self.path, wanted))
        if hub.status != 200:
            return self.send_error(hub.status)
        if self.path.startswith(HUB):
            name = self.path.removeprefix(HUB)
            if f"/cdn/{name}" not in hub.files:
                return self.send_error(404)
            self.send_response(302)
            total = hub.sums.get(name) or hashlib.sha256(hub.files[f"/cdn/{name}"]).hexdigest()
            self.send_header("X-Linked-Etag", f'"{total}"')
            self.send_header("Location", f"/cdn/{name}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        if self.path not in hub.files:
            return self.send_error(404)
        content, start = hub.files[self.path], 0
        if wanted and hub.ranges:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                return self.send_error(416)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(hub.claimed_size or len(content) - start))
        self.end_headers()
        body = content[start:]
        if hub.break_after is not None:
            body = body[: hub.break_after]
            hub.break_after = hub.break_after if hub.break_always else None
        with contextlib.suppress(ConnectionError):  # the client may have heard enough
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub()
    yield server
    server.shutdown()
    server.server_close()


CONTENT = os.urandom(3 << 20)
SUM = hashlib.sha256(CONTENT).hexdigest()


def leftovers(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_fetched_recorded_and_then_left_alone(hub, tmp_path):
    url, path = hub.publish("sub/a.pt", CONTENT), tmp_path / "new" / "a.pt"
    assert download.fetch(url, path)
    assert path.read_bytes() == CONTENT
    assert (path.parent / "a.pt.sha256").read_text() == f"{SUM}  a.pt\n"
    assert leftovers(path.parent) == {"a.pt", "a.pt.sha256"}
    asked = len(hub.requests)
    assert not download.fetch(url, path)
    assert len(hub.requests) == asked  # the network is not needed for a file that is whole


def test_a_broken_connection_goes_on_from_where_it_was(hub, tmp_path):
    hub.break_after = 1_000_000
    assert download.fetch(hub.publish("a.pt", CONTENT), tmp_path / "a.pt")
    assert (tmp_path / "a.pt").read_bytes() == CONTENT
    assert ("/cdn/a.pt", "bytes=1000000-") in hub.requests


def test_a_stopped_run_is_resumed_by_the_next(hub, tmp_path):
    (tmp_path / ".a.pt.part").write_bytes(CONTENT[:2_000_000])
    assert download.fetch(hub.publish("a.pt", CONTENT), tmp_path / "a.pt")
    assert (tmp_path / "a.pt").read_bytes() == CONTENT
    assert hub.requests == [(f"{HUB}a.pt", "bytes=2000000-"), ("/cdn/a.pt", "bytes=2000000-")]


@pytest.mark.parametrize("size", [len(CONTENT), len(CONTENT) + 5])
def test_a_part_that_is_whole_or_too_long_starts_again(hub, tmp_path, size):
    (tmp_path / ".a.pt.part").write_bytes((CONTENT + b"extra")[:size])
    assert download.fetch(hub.publish("a.pt", CONTENT), tmp_path / "a.pt")
    assert (tmp_path / "a.pt").read_bytes() == CONTENT


def test_a_server_without_ranges_sends_the_whole(hub, tmp_path):
    hub.ranges = False
    (tmp_path / ".a.pt.part").write_bytes(b"old bytes")
    assert download.fetch(hub.publish("a.pt", CONTENT), tmp_path / "a.pt")
    assert (tmp_path / "a.pt").read_bytes() == CONTENT


def test_a_part_of_another_file_is_found_out_and_dropped(hub, tmp_path):
    (tmp_path / ".a.pt.part").write_bytes(b"x" * 1000)
    url = hub.publish("a.pt", CONTENT)
    with pytest.raises(UserError, match="SHA-256"):
        download.fetch(url, tmp_path / "a.pt")
    assert leftovers(tmp_path) == set()
    assert download.fetch(url, tmp_path / "a.pt")


def test_wrong_sum_leaves_the_old_file(hub, tmp_path):
    path = tmp_path / "a.pt"
    path.write_bytes(b"old")
    (tmp_path / "a.pt.sha256").write_text(f"{'0' * 64}  a.pt\n")  # so the old file counts as damaged
    hub.sums["a.pt"] = "1" * 64
    with pytest.raises(UserError, match="came with SHA-256"):
        download.fetch(hub.publish("a.pt", CONTENT), path)
    assert path.read_bytes() == b"old"
    with pytest.raises(UserError, match="wanted 2222"):
        download.fetch(hub.publish("a.pt", CONTENT), path, "22222222")
    assert path.read_bytes() == b"old"


def test_damage_is_noticed_and_mended(hub, tmp_path, caplog):
    url, path = hub.publish("a.pt", CONTENT), tmp_path / "a.pt"
    download.fetch(url, path)
    path.write_bytes(CONTENT[:-1] + b"?")
    assert download.fetch(url, path)
    assert path.read_bytes() == CONTENT
    assert "a.pt.sha256" in caplog.text


def test_a_file_without_record(hub, tmp_path):
    url, path = hub.publish("a.pt", CONTENT), tmp_path / "a.pt"
    path.write_bytes(CONTENT)  # as a git clone of the hub leaves it
    assert not download.fetch(url, path)
    assert (tmp_path / "a.pt.sha256").read_text() == f"{SUM}  a.pt\n"
    (tmp_path / "a.pt.sha256").unlink()
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(UserError, match="move it away"):
        download.fetch(url, path)
    assert path.read_bytes().startswith(b"version")


def test_a_name_that_begins_the_sum(hub, tmp_path):
    hub.files["/plain.pth"] = CONTENT
    assert download.fetch(f"{hub.url}/plain.pth", tmp_path / "plain.pth", SUM[:8])


def test_not_there(hub, tmp_path):
    with pytest.raises(download.NotPublished, match="404"):
        download.fetch(f"{hub.url}{HUB}none.pt", tmp_path / "none.pt")
    assert not (tmp_path / "none.pt").exists()


def test_server_errors_and_no_network(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    hub.status = 503
    with pytest.raises(UserError, match="503"):
        download.fetch(hub.publish("a.pt", CONTENT), tmp_path / "a.pt")
    assert len(hub.requests) == 3
    hub.status = 403
    with pytest.raises(UserError, match="403"):
        download.fetch(hub.publish("a.pt", CONTENT), tmp_path / "a.pt")
    assert len(hub.requests) == 4
    hub.status, hub.break_after, hub.break_always = 200, 0, True
    with pytest.raises(UserError, match="broke off"):
        download.fetch(hub.publish("a.pt", CONTENT), tmp_path / "a.pt")
    for url in ("http://127.0.0.1:9/a.pt", "no-address/a.pt"):
        with pytest.raises(UserError, match="no connection") as caught:
            download.fetch(url, tmp_path / "a.pt")
        assert "\n" not in str(caught.value)


def test_no_room(hub, tmp_path):
    hub.claimed_size = 10**16
    with pytest.raises(UserError, match="GB"):
        download.fetch(hub.publish("a.pt", CONTENT), tmp_path / "a.pt")
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(UserError, match="file"):
        download.fetch(hub.publish("a.pt", CONTENT), blocked / "a.pt")


def test_two_runs_at_once(hub, tmp_path):
    with download._alone_in(tmp_path), pytest.raises(UserError, match="another run"):
        download.fetch(hub.publish("a.pt", CONTENT), tmp_path / "a.pt")


# ---- The script ----


def script(hub: Hub | None, *args: object) -> subprocess.CompletedProcess[str]:
    base = hub.url if hub else "http://127.0.0.1:9"
    env = {**os.environ, "HF_ENDPOINT": base, "SFE_DIRECTIONS_URL": f"{base}/directions", "NO_PROXY": "127.0.0.1"}
    return subprocess.run(
        [sys.executable, SCRIPT, *map(str, args)], env=env, capture_output=True, text=True, timeout=60, check=False
    )


def test_script_fetches_from_both_repositories(hub, tmp_path):
    hub.publish("styleclip_mappers/afro.pt", b"mapper")
    hub.files["/directions/bound/Smiling_boundary.npy"] = b"boundary"
    names = ["styleclip_mappers/afro.pt", "editings/bound/Smiling_boundary.npy"]
    for _ in range(2):
        result = script(hub, "--to", tmp_path, "--only", *names)
        assert result.returncode == 0, result.stderr
    assert (tmp_path / names[0]).read_bytes() == b"mapper"
    assert (tmp_path / names[1]).read_bytes() == b"boundary"
    assert "is there already" in result.stderr
    assert script(hub, "--to", tmp_path, "--list").stdout.count("there ") == 2


def test_script_on_a_full_disk(hub, tmp_path):
    """A limit on the size of files stands for the full disk: the write fails half-way all the same."""
    hub.publish("model_ir_se50.pth", CONTENT)
    args = [sys.executable, SCRIPT, "--to", tmp_path, "--only", "model_ir_se50.pth"]
    result = subprocess.run(
        args,
        env={**os.environ, "HF_ENDPOINT": hub.url, "NO_PROXY": "127.0.0.1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20)),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert result.returncode == 2
    assert "free space" in result.stderr.splitlines()[-1]
    assert leftovers(tmp_path) == {".model_ir_se50.pth.part"}
    assert script(hub, *args[2:]).returncode == 0
    assert hub.requests[-1] == ("/cdn/model_ir_se50.pth", f"bytes={1 << 20}-")


def test_script_goes_on_past_a_file_that_is_not_published(hub, tmp_path):
    hub.publish("styleclip_mappers/afro.pt", b"mapper")
    result = script(hub, "--to", tmp_path, "--only", "model_ir_se50.pth", "styleclip_mappers/afro.pt")
    assert result.returncode == 2
    assert (tmp_path / "styleclip_mappers/afro.pt").exists()
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert "model_ir_se50.pth" in last


def test_script_without_network_and_with_a_wrong_name(tmp_path):
    for args, text in (
        (["--only", "model_ir_se50.pth"], "check the network"),
        (["--only", "ir_se50"], "model_ir_se50.pth"),
    ):
        result = script(None, "--to", tmp_path, *args)
        assert result.returncode == 2
        assert "Traceback" not in result.stderr
        assert text in result.stderr.splitlines()[-1]


def test_help_is_quick_and_has_examples():
    start = time.perf_counter()
    result = script(None, "--help")
    assert time.perf_counter() - start < 2
    assert "examples:" in result.stdout
    probe = f"import runpy, sys; runpy.run_path({str(SCRIPT)!r}); print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", probe], text=True).endswith("False\n")


# ---- The table ----


def test_table_is_sound_and_has_every_file_that_the_project_reads():
    files = published_files()
    names = [file.name for file in files]
    assert len(set(names)) == len(names)
    assert all(file.url.startswith("https://") and file.use for file in files)
    assert all(file.url.endswith(file.name.rpartition("/")[2]) for file in files)
    for manifest in ("checkpoints.json", "checkpoints_extras.json"):
        assert set(json.loads((ROOT / "tests/parity" / manifest).read_text())) <= set(names)
    assert {file.name for file in download.select(files, ["all"], "--only")} == set(names)
    edit = {file.name for file in download.select(files, ["edit"], "--only")}
    assert {"sfe_editor_light.pt", "stylegan2-ffhq-config-f.pt", "e4e_ffhq_encode.pt"} <= edit
    assert "moco_v2_800ep_pretrain.pt" not in edit
    assert [file.name for file in download.select(files, ["delta_mapper.pt"], "--only")] == ["delta_mapper.pt"]
