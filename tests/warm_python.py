"""Scripts run in forks of one Python that has imported torch already: real processes that start in milliseconds."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


class WarmPython:
    """Start it once per test module. One core per process, so that floats do not depend on the machine's."""

    def __init__(self, *imports: str) -> None:
        self._server = subprocess.Popen(
            [sys.executable, __file__, *imports], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    def start(self, script: str, *args: object, log: Path, cwd: Path = ROOT) -> int:
        """Begin `python scripts/{script} args…`; its output goes to `log`. Returns its process id."""
        request = {"script": str(ROOT / "scripts" / script), "args": [str(arg) for arg in args]}
        return self._ask({**request, "log": str(log), "cwd": str(cwd)})

    def wait(self, pid: int) -> int:
        """Its exit code; −9 after a SIGKILL."""
        return self._ask({"wait": pid})

    def run(self, script: str, *args: object, log: Path, cwd: Path = ROOT) -> int:
        return self.wait(self.start(script, *args, log=log, cwd=cwd))

    def close(self) -> None:
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait()

    def _ask(self, request: dict[str, Any]) -> int:
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return int(self._server.stdout.readline())


def _serve(imports: list[str]) -> None:
    import importlib

    for name in imports:
        importlib.import_module(name)
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            print(os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1]), flush=True)
        elif pid := os.fork():
            print(pid, flush=True)
        else:
            _become(request)


def _become(request: dict[str, Any]) -> None:
    """In the fork: the script, and never back."""
    import runpy
    import traceback

    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.close(0)
    os.chdir(request["cwd"])
    sys.argv = [request["script"], *request["args"]]
    code: Any = 1
    try:
        runpy.run_path(request["script"], run_name="__main__")
    except SystemExit as leaving:
        code = leaving.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 0 if code is None else 1)


if __name__ == "__main__":
    sys.path[0] = str(ROOT / "scripts")  # as for a script; in tests/, folders hide the rooms of the same name
    _serve(sys.argv[1:])
