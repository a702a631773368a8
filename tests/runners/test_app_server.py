"""The server of the page as a real process, without a browser: what it serves, refuses and forgets, and its memory."""

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from PIL import Image
from small_domain import SmallDomain

pytest.importorskip("gradio", reason="the page's packages are not installed: pip install -e '.[app]'")

from app_server import ROOT, AppServer, file_value

from utils.images import resize


@pytest.fixture(scope="module")
def server(small: SmallDomain, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppServer]:
    server = AppServer(small.config, tmp_path_factory.mktemp("server") / "log")
    yield server
    assert server.stop() == 0
    assert not any(server.temporary.iterdir())
    assert not re.search("^ERROR ", server.log.read_text(), re.MULTILINE)  # what failed unforeseen


def error_of(answer: dict) -> str:
    assert not answer["success"]
    return answer["output"]["error"]


def opened(server: AppServer, visitor: str, photo: Path) -> dict:
    answer = server.call(visitor, "upload", "upload", {"upload": server.upload(photo), "align": False})
    assert answer["success"], answer
    return answer


def test_a_busy_port_is_one_line(server: AppServer) -> None:
    command = [sys.executable, ROOT / "scripts" / "app.py", "--port", server.url.rpartition(":")[2]]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert re.fullmatch(r"error: --port \d+: cannot be used \(Address already in use\); choose another\n", done.stderr)


def test_edits_are_made_and_served(server: AppServer, photo_path: Path) -> None:
    opened(server, "ann", photo_path)
    answer = server.call("ann", "edit_age", "input", {"edit_age": 5})
    shown, _, status, link, *_ = answer["output"]["data"]
    assert shown["before"] != shown["after"]
    for name in ("before", "after"):
        picture = requests.get(f"{server.url}/{shown[name]}", stream=True, timeout=60)
        assert Image.open(picture.raw).size == (64, 64)
    assert re.fullmatch(r"age \+5 · \d+\.\d\d s · \d+ MB", status) and link == "edit=age:5"


@pytest.mark.parametrize("path", ["/etc/passwd", "../../../../etc/passwd", "{root}/README.md", "{cwd}/pyproject.toml"])
def test_no_path_of_a_request_is_opened(server: AppServer, path: str) -> None:
    root = Path(__file__).resolve().parents[2]
    path = path.format(root=root, cwd=Path.cwd())
    for value in (file_value(path, "x.png"), {"path": path}, {**file_value(path, "x.png"), "is_stream": True}, path):
        answer = server.call("eve", "upload", "upload", {"upload": value, "align": False})
        assert not answer["success"] and "root:" not in json.dumps(answer)
        for box in ("own_mask", "second"):
            answer = server.call("eve", box, "upload", {box: value})
            assert not answer["success"] and "root:" not in json.dumps(answer)
    for prefix in ("/gradio_api/file=", "/file=", "/gradio_api/file/", "/static/", "/assets/"):
        assert requests.get(server.url + prefix + path, timeout=60).status_code in (403, 404), prefix


def test_the_server_fetches_nothing_for_others(server: AppServer) -> None:
    """An image named by an address is refused; so is passing on what others serve."""
    for address in ("http://127.0.0.1:1/x.png", "https://example.org/x.png", "HTTP://example.org/x.png"):
        answer = server.join("eve", "upload", "upload", {"upload": file_value(address, "x.png"), "align": False})
        assert answer.status_code == 403
        for path in (f"/gradio_api/file={address}", f"/gradio_api/proxy={address}", f"/gradio_api/file/{address}"):
            assert requests.get(server.url + path, timeout=60).status_code in (403, 404)
    huge = {"upload": "x" * 2**21, "align": False}
    assert server.join("eve", "upload", "upload", huge).status_code == 413


def test_uploads_over_20_mb_are_refused(server: AppServer, tmp_path: Path) -> None:
    (tmp_path / "large.png").write_bytes(bytes(20 * 2**20 + 1))
    with pytest.raises(requests.HTTPError, match="413"):
        server.upload(tmp_path / "large.png")


def test_errors_are_one_line_without_a_trace(server: AppServer, photo_path: Path, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    Image.new("1", (20_000, 15_000)).save(tmp_path / "huge.png")
    for name, words in (("text.png", "text.png: is not an image"), ("huge.png", "limit of 100 megapixels")):
        upload = server.upload(tmp_path / name)
        message = error_of(server.call("ann", "upload", "upload", {"upload": upload, "align": False}))
        assert words in message and "\n" not in message and str(server.temporary) not in message
    for wrong in ({"edit_age": 99}, {"edit_age": "five"}, {"mask": "magic"}, {"threshold": 2}):
        opened(server, "ann", photo_path)
        answer = server.call("ann", "edit_age", "input", {"edit_age": 1, **wrong})
        assert not answer["success"] and "Traceback" not in json.dumps(answer) and "/root" not in json.dumps(answer)
    assert "Traceback" not in requests.get(f"{server.url}/gradio_api/queue/data", timeout=60).text


def test_a_mixture(server: AppServer, photo_path: Path) -> None:
    opened(server, "ann", photo_path)
    second = {"second": server.upload(photo_path), "align": False}
    shown, status = server.call("ann", "second", "upload", second)["output"]["data"]
    picture = requests.get(f"{server.url}/{shown['after']}", stream=True, timeout=60)
    assert Image.open(picture.raw).size == (64, 64) and status.startswith("50% of astronaut.png")


def test_a_second_picture_is_refused_while_one_is_opened(server: AppServer, photo_path: Path, tmp_path: Path) -> None:
    resize(Image.open(photo_path), 6000).save(tmp_path / "large.jpg")
    large, small = server.upload(tmp_path / "large.jpg"), server.upload(photo_path)
    server.join("ann", "upload", "upload", {"upload": large, "align": True})
    answers: list[dict] = []
    first = threading.Thread(target=lambda: answers.append(server.outcome("ann")))
    first.start()
    time.sleep(0.5)
    second = server.call("bob", "upload", "upload", {"upload": small, "align": False})
    assert "another image is being opened" in error_of(second)
    first.join()
    assert answers[0]["success"]


def test_a_full_queue_is_told(server: AppServer, photo_path: Path) -> None:
    opened(server, "ann", photo_path)
    answers = [server.join("ann", "download_gif", "click", {"edit_age": 5}) for _ in range(24)]
    full = [answer for answer in answers if answer.status_code == 503]
    assert full and "Queue is full" in full[0].text
    server.outcome("ann")


def test_fifty_edits_leave_memory_flat(server: AppServer, photo_path: Path) -> None:
    opened(server, "ann", photo_path)
    assert server.call("ann", "download_gif", "click", {"edit_age": 5})["success"]

    def edit(times: int) -> int:
        for i in range(times):
            assert server.call("ann", "edit_age", "input", {"edit_age": i % 9 - 4 + 0.1 * (i // 9)})["success"]
        return server.resident()

    warm = edit(30)
    assert edit(50) <= warm + 4 * 2**20
    assert len([name for name in server.files() if name.endswith("_edited.png")]) <= 3 * 3  # of three visitors


def test_nothing_is_fetched_from_the_internet(server: AppServer) -> None:
    page = requests.get(server.url, timeout=60).text + requests.get(f"{server.url}/theme.css", timeout=60).text
    loaded = re.findall(r'(?:src|href)="?(https?://[^" ]+)|url\((https?://[^)]+)', page)
    assert [address for address in loaded if server.url not in "".join(address)] == []
