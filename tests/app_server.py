"""scripts/app.py as a real process, and what a browser would send to it, without one."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import requests

ROOT = Path(__file__).resolve().parent.parent
DEAD = "http://127.0.0.1:9"
DEAD_PROXY = {"http_proxy": DEAD, "HTTPS_PROXY": DEAD, "all_proxy": "socks5://127.0.0.1:9"}


class AppServer:
    """The page of `config` on a free port, in an environment of dead proxies; its output goes to `log`."""

    def __init__(self, config: Path, log: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.log, self.url = log, f"http://127.0.0.1:{port}"
        command = [sys.executable, ROOT / "scripts" / "app.py", "--config", config, "--port", str(port)]
        self.temporary = log.with_suffix(".tmp")
        self.temporary.mkdir()
        self.process = subprocess.Popen(
            [*command, "--device", "cpu"], stdout=log.open("w"), stderr=subprocess.STDOUT,
            env={**os.environ, **DEAD_PROXY, "TMPDIR": str(self.temporary), "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        end = time.monotonic() + 400
        while not self._answers():
            assert self.process.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.2)
        self.config = requests.get(f"{self.url}/config", timeout=60).json()

    def _answers(self) -> bool:
        try:
            return requests.get(self.url, timeout=60).ok
        except requests.ConnectionError:
            return False

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def resident(self) -> int:
        """Bytes of memory."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()
        return int(pages[1]) * os.sysconf("SC_PAGE_SIZE")

    def files(self) -> set[str]:
        """All files in its folder for temporary ones."""
        return {path.name for path in self.temporary.rglob("*") if path.is_file()}

    def upload(self, path: Path) -> dict[str, Any]:
        """The value of a file component that was given the file."""
        with path.open("rb") as file:
            answer = requests.post(f"{self.url}/gradio_api/upload", files={"files": file}, timeout=60)
        answer.raise_for_status()
        return file_value(answer.json()[0], path.name)

    def call(self, visitor: str, name: str, event: str, values: dict[str, Any], **more: Any) -> dict[str, Any]:
        """Fire a component's event. `values`: of components by their elem_id, or else by their label.

        Returns the server's last message: `success`, and `output` with `data` or `error`.
        """
        self.join(visitor, name, event, values, **more)
        return self.outcome(visitor)

    def join(self, visitor: str, name: str, event: str, values: dict[str, Any], **more: Any) -> requests.Response:
        parts = {item["id"]: item["props"] for item in self.config["components"]}
        names = {key: props.get("elem_id") or props.get("label") for key, props in parts.items()}
        for result in self.config["dependencies"]:
            if any(names.get(target) == name and what == event for target, what in result["targets"]):
                break
        else:
            raise AssertionError(f"{name} has no event {event}")
        data = [values.get(names[key], parts[key].get("value")) for key in result["inputs"]]
        body = {"data": data, "fn_index": result["id"], "session_hash": visitor, **more}
        return requests.post(f"{self.url}/gradio_api/queue/join", json=body, timeout=60)

    def outcome(self, visitor: str) -> dict[str, Any]:
        """The end of what the visitor asked for."""
        address = f"{self.url}/gradio_api/queue/data"
        with requests.get(address, {"session_hash": visitor}, stream=True, timeout=120) as stream:
            for line in stream.iter_lines():
                message = json.loads(line.removeprefix(b"data:")) if line.startswith(b"data:") else {}
                if message.get("msg") in ("process_completed", "unexpected_error", "queue_full"):
                    return message
        raise AssertionError("the stream ended before the event did")


def file_value(path: str, name: str) -> dict[str, Any]:
    return {"path": path, "orig_name": name, "meta": {"_type": "gradio.FileData"}}
