"""What reading, scheduling and writing add to the computing, when a folder of images is inverted and edited.

    python benchmarks/inference.py --weights FOLDER [--images 4] [--powers 4] [--device cpu] [--inversions]

FOLDER holds the faces' weights, published or stand-ins (tests/parity/make_checkpoints.py writes those). Compared are
the seconds per edited image of the computing alone (an image in memory: inversion, then all powers in one batch)
and of scripts/inference.py's runner on JPEG files. Aim: the run takes at most 1.15 times the computing.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from omegaconf import OmegaConf
from PIL import Image

from arguments.loader import load_config, read_yaml
from configs.paths import ROOT, Paths
from runners.inference_runner import InferenceRunner
from utils.images import load_image, resize, to_tensor
from utils.malloc import tune_malloc

REPEATS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True, type=Path, help="folder with the weights")
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--powers", type=int, default=4)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--inversions", action="store_true", help="write the inversions too: a decoder pass more")
    arguments = parser.parse_args()
    tune_malloc()
    with tempfile.TemporaryDirectory() as folder:
        report(arguments, Path(folder))


def report(arguments: argparse.Namespace, folder: Path) -> None:
    domain = read_yaml(ROOT / "configs" / "domains" / "human_faces.yaml")
    for role, name in domain.weights.items():
        domain.weights[role] = str(arguments.weights / Path(getattr(Paths, name)).name)
    OmegaConf.save(domain, folder / "domain.yaml")
    (folder / "in").mkdir()
    photo = resize(load_image(ROOT / "assets" / "astronaut.png"), 1024)
    for i in range(arguments.images):
        Image.fromarray(np.roll(np.asarray(photo), 50 * i, axis=1)).save(folder / "in" / f"{i}.jpg", quality=95)

    powers = [float(power) for power in range(1, arguments.powers + 1)]
    outputs = (f"{folder}/out_{i}" for i in range(REPEATS))

    def runner() -> InferenceRunner:
        return InferenceRunner(load_config([
            f"exp.domain={folder}/domain.yaml", f"model.checkpoint_path={arguments.weights}/sfe_editor_light.pt",
            f"model.device={arguments.device}", f"model.batch_size={len(powers)}", f"data.inference_dir={folder}/in",
            f"exp.output_dir={next(outputs)}", f"inference.editings_data={{'black hair': {powers}}}",
            f"inference.inversions={arguments.inversions}",
        ]))  # fmt: skip

    first = runner()
    method = first.method
    images = [to_tensor(load_image(path))[None] for path in sorted((folder / "in").iterdir())]

    def compute() -> None:
        for image in images:
            inversion = method.invert(image)
            if arguments.inversions:
                method.reconstruct(inversion)
            method.edit(inversion, [("black hair", powers)])
        if method.device.type == "cuda":
            torch.cuda.synchronize()

    compute()  # the weights are read, kernels are chosen
    alone, run = [], []
    for i in range(REPEATS):  # in turns, so that other work on the machine slows both alike
        alone.append(seconds(compute))
        whole = first if i == 0 else runner()
        whole.method = method
        run.append(seconds(whole.run))
    count = len(images) * len(powers)
    for name, measured in (("computing alone", alone), ("inference run", run)):
        wall, cpu = (min(times) / count for times in zip(*measured, strict=True))
        print(f"{name:16} {wall:.3f} s, {cpu:.3f} CPU s per edited image")
    ratios = (min(b) / min(a) for a, b in zip(zip(*alone, strict=True), zip(*run, strict=True), strict=True))
    print("ratio: {:.3f}, of CPU seconds {:.3f} (which other work on the machine changes less)".format(*ratios))


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """On the clock, and of all cores together."""
    start, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start, time.process_time() - cpu


if __name__ == "__main__":
    main()
