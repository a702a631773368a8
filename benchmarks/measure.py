"""What the benchmarks share: times, the machine's rates, and the faces' weights."""

import platform
import statistics
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import torch
from omegaconf import OmegaConf

from arguments.loader import read_yaml
from configs.paths import ROOT, Paths


def seconds(run: Callable[[], object], repeats: int = 5) -> float:
    """Median time of a call, after one that warms up; a GPU's work is waited for."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def matmul_gflops(device: torch.device | str = "cpu") -> float:
    """The machine's rate of float32 matrix products."""
    a, b = torch.randn(2, 2048, 2048, device=device).unbind()
    return 2 * 2048**3 / seconds(lambda: a @ b, repeats=9) / 1e9


def machine() -> str:
    """Processor, threads, PyTorch and date, for a table's heading."""
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    processor = names[0] if names else platform.processor()
    flags = next((line.split() for line in info.read_text().splitlines() if line.startswith("flags")), [])
    vectors = " ".join(flag for flag in flags if flag.startswith(("avx2", "avx512", "avx_vnni", "amx")))
    return f"{processor} ({vectors}), {torch.get_num_threads()} threads, torch {torch.__version__}, {date.today()}"


def faces(weights: Path, folder: Path) -> Path:
    """human_faces with the weight files of the folder `weights`, as a domain's YAML in `folder`."""
    domain = read_yaml(ROOT / "configs" / "domains" / "human_faces.yaml")
    for role, name in domain.weights.items():
        domain.weights[role] = str(weights / Path(getattr(Paths, name)).name)
    OmegaConf.save(domain, folder / "human_faces.yaml")
    return folder / "human_faces.yaml"
