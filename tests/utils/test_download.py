"""Downloads from a real server on 127.0.0.1 that answers like the Hugging Face hub, and disconnects on request."""

import contextlib
import fcntl
import hashlib
import json
import os
import pty
import resource
import struct
import subprocess
import sys
import termios
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
REPOSITORY = "AIRI-Institute/StyleFeatureEditor"
COMMIT = "c0ffee" * 6 + "beef"


class Hub(ThreadingHTTPServer):
    """Large files of the hub are redirected to another host's /cdn/… with their sum; others are sent as they are."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.large: dict[str, bytes] = {}  # name -> content
        self.files: dict[str, bytes] = {}  # path -> content
        self.sums: dict[str, str] = {}  # wrong ones to send
        self.requests: list[tuple[str, str, str | None]] = []  # method, path, Range
        self.tokens: dict[str, str | None] = {}  # path -> Authorization
        self.break_after: int | None = None  # bytes of an answer, once
        self.break_always = False
        self.status = 200
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def publish(self, name: str, content: bytes) -> str:
        """A large file's address."""
        self.large[name] = content
        self.files[f"/cdn/{name}"] = content
        return f"hf://{REPOSITORY}/pretrained_models/{name}"


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self._answer(b"")

    def do_GET(self) -> None:
        self._answer(None)

    def _answer(self, body: bytes | None) -> None:
        hub, part = self.server, self.headers["Range"]
        hub.requests.append((self.command, self.path, part))
        hub.tokens[self.path] = self.headers["Authorization"]
        if hub.status != 200:
            return self.send_error(hub.status)
        for revision in ("main", COMMIT):
            name = self.path.removeprefix(f"/{REPOSITORY}/resolve/{revision}/pretrained_models/")
            if name in hub.large:
                total = hub.sums.get(name) or hashlib.sha256(hub.large[name]).hexdigest()
                return self._head(302, {
                    "X-Repo-Commit": COMMIT,
                    "X-Linked-Etag": f'"{total}"',
                    "X-Linked-Size": str(len(hub.large[name])),
                    "ETag": '"of the redirect"',
                    "Location": f"{hub.url.replace('127.0.0.1', 'localhost')}/cdn/{name}",
                    "Content-Length": "0",
                })  # fmt: skip
        if self.path not in hub.files:
            return self._head(404, {"X-Error-Code": "EntryNotFound", "Content-Length": "0"})
        content = hub.files[self.path]
        start = int(part.removeprefix("bytes=").rstrip("-")) if part else 0
        ranges = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if part else {}
        length = {"Content-Length": str(len(content) - start)}
        self._head(206 if part else 200, {"X-Repo-Commit": COMMIT, "ETag": '"1234"', **length, **ranges})
        if body is None:
            body = content[start:]
            if hub.break_after is not None:
                body = body[: hub.break_after]
                hub.break_after = hub.break_after if hub.break_always else None
        with contextlib.suppress(ConnectionError):  # the client may have heard enough
            self.wfile.write(body)

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


def set_endpoint(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """As HF_ENDPOINT does, which the library reads only when it is imported."""
    template = "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
    monkeypatch.setattr(template, f"{url}/{{repo_id}}/resolve/{{revision}}/{{filename}}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    server = Hub()
    set_endpoint(monkeypatch, server.url)
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


def test_a_small_file_of_the_hub_has_no_sum(hub, tmp_path):
    hub.files[f"/{REPOSITORY}/resolve/main/pretrained_models/a.npy"] = b"small"
    hub.files[f"/{REPOSITORY}/resolve/{COMMIT}/pretrained_models/a.npy"] = b"small"
    assert download.fetch(f"hf://{REPOSITORY}/pretrained_models/a.npy", tmp_path / "a.npy")
    assert hub.requests[-1][:2] == ("GET", f"/{REPOSITORY}/resolve/{COMMIT}/pretrained_models/a.npy")  # as asked about
    assert (tmp_path / "a.npy").read_bytes() == b"small"
    assert (tmp_path / "a.npy.sha256").read_text().startswith(hashlib.sha256(b"small").hexdigest())


def test_the_token_goes_to_the_hub_alone(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert download.fetch(hub.publish("a.pt", CONTENT), tmp_path / "a.pt")
    assert hub.tokens.pop("/cdn/a.pt") is None
    assert set(hub.tokens.values()) == {"Bearer hf_secret"}


@pytest.mark.parametrize("where", ["hub", "elsewhere"])
def test_a_broken_download_resumes_where_it_was(hub, tmp_path, monkeypatch, where):
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)
    hub.break_after = 1_000_000
    url = hub.publish("a.pt", CONTENT)
    assert download.fetch(url if where == "hub" else f"{hub.url}/cdn/a.pt", tmp_path / "a.pt")
    assert (tmp_path / "a.pt").read_bytes() == CONTENT
    assert ("GET", "/cdn/a.pt", "bytes=1000000-") in hub.requests


def test_wrong_sum_leaves_the_old_file(hub, tmp_path):
    path = tmp_path / "a.pt"
    path.write_bytes(b"old")
    record = tmp_path / "a.pt.sha256"
    record.write_text(f"{'0' * 64}  a.pt\n")  # so the old file counts as damaged
    hub.sums["a.pt"] = "1" * 64
    for published, wanted in ((None, "1111"), ("22222222", "2222")):
        with pytest.raises(UserError, match=f"came with SHA-256 {SUM[:8]}…, wanted {wanted}"):
            download.fetch(hub.publish("a.pt", CONTENT), path, published)
        assert path.read_bytes() == b"old"
        assert record.read_text().startswith("0000")
        assert leftovers(tmp_path) == {"a.pt", "a.pt.sha256"}


def test_damage_is_noticed_and_repaired(hub, tmp_path, caplog):
    url, path = hub.publish("a.pt", CONTENT), tmp_path / "a.pt"
    download.fetch(url, path)
    path.write_bytes(CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]))
    assert download.fetch(url, path)
    assert path.read_bytes() == CONTENT
    assert "a.pt.sha256" in caplog.text


def test_a_file_without_record(hub, tmp_path):
    url, path = hub.publish("a.pt", CONTENT), tmp_path / "a.pt"
    path.write_bytes(CONTENT)  # as a git clone of the hub leaves it
    assert not download.fetch(url, path)
    assert [method for method, *_ in hub.requests] == ["HEAD"]
    assert (tmp_path / "a.pt.sha256").read_text() == f"{SUM}  a.pt\n"
    (tmp_path / "a.pt.sha256").unlink()
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(UserError, match="move it away"):
        download.fetch(url, path)
    assert path.read_bytes().startswith(b"version")
    assert leftovers(tmp_path) == {"a.pt"}


def test_an_ordinary_address_with_the_sum_in_the_name(hub, tmp_path):
    hub.files["/plain.pth"] = CONTENT
    assert download.fetch(f"{hub.url}/plain.pth", tmp_path / "plain.pth", SUM[:8])
    with pytest.raises(UserError, match="wanted 00000000"):
        download.fetch(f"{hub.url}/plain.pth", tmp_path / "other.pth", "00000000")
    assert leftovers(tmp_path) == {"plain.pth", "plain.pth.sha256"}


def one_line(url: str, path: Path, kind: type[UserError] = UserError) -> str:
    """What the failed download says; nothing is left of it."""
    with pytest.raises(kind) as caught:
        download.fetch(url, path)
    assert leftovers(path.parent) == set()
    assert "\n" not in str(caught.value)
    assert url in str(caught.value)
    return str(caught.value)


def test_not_there(hub, tmp_path):
    for url in (f"hf://{REPOSITORY}/pretrained_models/none.pt", f"{hub.url}/none.npy"):
        assert "404" in one_line(url, tmp_path / "a.pt", download.NotPublished)


@pytest.mark.parametrize("where", ["hub", "elsewhere"])
@pytest.mark.parametrize(("status", "advice"), [(500, "try again later"), (403, "HF_TOKEN"), (401, "HF_TOKEN")])
def test_server_errors(hub, tmp_path, where, status, advice):
    url = hub.publish("a.pt", CONTENT)
    hub.status = status
    line = one_line(url if where == "hub" else f"{hub.url}/cdn/a.pt", tmp_path / "a.pt")
    assert str(status) in line
    assert advice in line


def test_a_connection_that_breaks_again_and_again(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    hub.break_after, hub.break_always = 0, True
    url = hub.publish("a.pt", CONTENT)
    for address in (url, f"{hub.url}/cdn/a.pt"):
        assert "no connection" in one_line(address, tmp_path / "a.pt")


def test_no_network(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    set_endpoint(monkeypatch, "http://127.0.0.1:9")
    for url in (f"hf://{REPOSITORY}/a.pt", "http://127.0.0.1:9/a.pt", "no-address/a.pt"):
        assert "check the network" in one_line(url, tmp_path / "a.pt")


def test_a_place_that_cannot_be_written(hub, tmp_path):
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(UserError, match="is not a folder"):
        download.fetch(hub.publish("a.pt", CONTENT), blocked / "a.pt")
    assert not hub.requests


# ---- The script ----


def script(hub: Hub | None, *args: object, **options: object) -> subprocess.CompletedProcess[str]:
    base = hub.url if hub else "http://127.0.0.1:9"
    local = {"HF_ENDPOINT": base, "SFE_DIRECTIONS_URL": f"{base}/directions", "NO_PROXY": "127.0.0.1,localhost"}
    return subprocess.run(
        [sys.executable, SCRIPT, *map(str, args)],
        env={**os.environ, **local}, **{"capture_output": True, **options}, text=True, timeout=60, check=False,
    )  # fmt: skip


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


def small_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))


def test_script_on_a_full_disk(hub, tmp_path):
    """A limit on the size of files replaces the full disk: the write fails half-way just the same."""
    hub.publish("model_ir_se50.pth", CONTENT)
    hub.files["/directions/styleclip/fs3.npy"] = CONTENT
    for name in ("model_ir_se50.pth", "editings/styleclip/fs3.npy"):
        result = script(hub, "--to", tmp_path, "--only", name, preexec_fn=small_files)
        assert result.returncode == 2
        assert "free space" in result.stderr.splitlines()[-1]
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_script_continues_after_a_file_that_is_not_published(hub, tmp_path):
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


def test_script_shows_progress_to_a_person(hub, tmp_path):
    hub.publish("model_ir_se50.pth", CONTENT)
    terminal, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("4H", 24, 120, 0, 0))  # rows, columns
    try:
        script(hub, "--to", tmp_path, "--only", "model_ir_se50.pth", stderr=side, capture_output=False)
        text = os.read(terminal, 1 << 16).decode()
    finally:
        os.close(terminal)
        os.close(side)
    assert "100%" in text
    assert "3.15M" in text
    assert "HTTP Request" not in text


def test_help_is_quick_and_has_examples():
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = script(None, "--help")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1  # of a core: others may be busy
    assert "examples:" in result.stdout
    heavy = "{'torch', 'huggingface_hub'} & {*sys.modules}"
    probe = f"import runpy, sys; runpy.run_path({str(SCRIPT)!r}); print({heavy})"
    assert subprocess.check_output([sys.executable, "-c", probe], text=True) == "set()\n"


# ---- The table ----


def test_table_is_sound_and_has_every_file_that_the_project_reads():
    files = published_files()
    names = [file.name for file in files]
    assert len(set(names)) == len(names)
    assert all(file.url.startswith(("https://", "hf://")) and file.use for file in files)
    assert all(file.url.endswith(file.name.rpartition("/")[2]) for file in files)
    for manifest in ("checkpoints.json", "checkpoints_extras.json"):
        assert set(json.loads((ROOT / "tests/parity" / manifest).read_text())) <= set(names)
    assert {file.name for file in download.select(files, ["all"], "--only")} == set(names)
    edit = {file.name for file in download.select(files, ["edit"], "--only")}
    assert {"sfe_editor_light.pt", "stylegan2-ffhq-config-f.pt", "e4e_ffhq_encode.pt"} <= edit
    assert "moco_v2_800ep_pretrain.pt" not in edit
    assert [file.name for file in download.select(files, ["delta_mapper.pt"], "--only")] == ["delta_mapper.pt"]
