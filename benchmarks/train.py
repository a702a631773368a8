"""How fast one training step at 1024 px is, for each stage: forward, backward and the optimizer's update.

    python benchmarks/train.py --weights FOLDER [--json] [--stage 1] [--batch 1] [--device cpu] [--precision fp32]

FOLDER holds the faces' weights, published or stand-ins (python tests/parity/make_checkpoints.py FOLDER writes those;
the numbers in them do not change the time). The losses need no other file: l2, and in stage 1 feat_rec. Seconds are
medians; the fraction is that of the machine's rate of matrix products, measured between the steps, for the GFLOP that a
step takes when computed as it is defined: three times a trained network, twice a frozen one that a gradient passes.
Peak memory is that of a separate process.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from measure import faces, machine, matmul_gflops

from arguments.domain import load_domain
from arguments.train_options import EncoderLossesArgs, TrainArgs, TrainConfig
from configs.paths import ROOT
from datasets.training_images import Batch, TrainingImages
from training.distributed import Process
from training.loop import Plan, TrainingLoop
from training.losses import LossBuilder
from training.parts import build_optimizer, build_stage
from training.tasks.sfe import SFETask
from utils.devices import resolve_device
from utils.images import load_image, resize, to_pixels
from utils.malloc import tune_malloc
from utils.threads import sleep_while_waiting

# GFLOP of one image (two for a multiplication and addition), as benchmarks/edit.py counts them
BACKBONE, FUSION, E4E, TRUNK, DECODER = 218.6, 197.6, 145.0, 32.3, 150.8
HEAD = DECODER - TRUNK
INVERTER = BACKBONE + FUSION + TRUNK
GFLOP = {
    1: 3 * (BACKBONE + FUSION) + 2 * TRUNK + 2 * 2 * DECODER,  # F_w, and two images
    2: 2 * INVERTER + E4E + 2 * DECODER + TRUNK + 2 * (3 * FUSION + 2 * HEAD),
}
REPEATS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=ROOT / "pretrained_models", help="folder with the weights")
    parser.add_argument("--json", action="store_true", help="print one JSON object in place of the table")
    parser.add_argument("--stage", type=int, choices=(1, 2), help="only this one")
    parser.add_argument("--batch", type=int, default=1, help="images at once (default: %(default)s)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32", help="fp32, bf16 or fp16")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)  # the process that is measured
    arguments = parser.parse_args()
    tune_malloc()
    sleep_while_waiting()  # for the processes that are measured
    if arguments.here:
        print(json.dumps(measure(arguments)))
        return
    report = {"machine": machine(), "stages": {}}
    for stage in (arguments.stage,) if arguments.stage else (1, 2):
        command = [sys.executable, __file__, *sys.argv[1:], "--here", "--stage", str(stage)]
        found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        report["stages"][stage] = json.loads(found.splitlines()[-1])
    print(json.dumps(report) if arguments.json else table(report))


def measure(arguments: argparse.Namespace) -> dict[str, float]:
    device = resolve_device(arguments.device)
    with tempfile.TemporaryDirectory() as folder:
        domain = load_domain(str(faces(arguments.weights.resolve(), Path(folder))))
    runner = {1: "fse_inverter", 2: "fse_editor"}[arguments.stage]
    config = TrainConfig(
        train=TrainArgs(train_runner=runner, precision=arguments.precision, editings_data={"glasses": [5.0]}),
        encoder_losses=EncoderLossesArgs(l2=1.0, feat_rec=0.01 if arguments.stage == 1 else 0.0),
    )
    config.methods_args.fse_full.inverter_pth = str(arguments.weights / "sfe_inverter_light.pt")
    torch.manual_seed(0)
    stage = build_stage(config, domain, device)
    losses = LossBuilder(config.encoder_losses, config.disc_losses, domain.encoder_size, device)
    optimizer = build_optimizer("ranger", stage.encoder.parameters(), config.optimizers)
    process = Process(device)
    images = TrainingImages(ROOT / "assets", domain.generator.size, seed=0, workers=0)
    task = SFETask(config, process, stage, optimizer, None, None, losses, images, None, None)
    loop = TrainingLoop(task, Plan(REPEATS + 1, 1, 1, 0), process, Path())
    pixels = to_pixels(resize(load_image(ROOT / "assets" / "astronaut.png"), domain.generator.size))
    count = arguments.batch
    batch = Batch(pixels.expand(count, -1, -1, -1).contiguous(), ["astronaut.png"] * count, torch.zeros(count).bool())

    steps, updates, rates = [], [], [matmul_gflops(device)]
    for i in range(REPEATS + 1):
        number = config.train.feature_ramp + 1 + i
        start = time.perf_counter()
        values = task.learn(number, [batch], adversarial=False)
        wait(device)
        middle = time.perf_counter()
        loop.update(number, values)
        wait(device)
        steps.append(middle - start)
        updates.append(time.perf_counter() - middle)
        rates.append(matmul_gflops(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device) / 2**20
    gflop = GFLOP[arguments.stage] * arguments.batch
    # Each step is held against the rates right before and after it: the machine may have other work.
    fractions = [2 * gflop / seconds / (rates[i] + rates[i + 1]) for i, seconds in enumerate(steps)]
    return {
        "forward_and_backward_s": statistics.median(steps[1:]), "update_s": statistics.median(updates[1:]),
        "gflop": gflop, "matmul_gflops": statistics.median(rates), "fraction": statistics.median(fractions[1:]),
        "peak_mb": peak,
    }  # fmt: skip


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def table(report: dict) -> str:
    lines = [
        report["machine"], "",
        "| stage | forward and backward, s | update, s | GFLOP | matmul GFLOP/s | fraction of it | peak memory, MB |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for stage, it in report["stages"].items():
        lines.append(
            f"| {stage} | {it['forward_and_backward_s']:.1f} | {it['update_s']:.1f} | {it['gflop']:.0f} | "
            f"{it['matmul_gflops']:.0f} | {it['fraction']:.2f} | {it['peak_mb']:.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
