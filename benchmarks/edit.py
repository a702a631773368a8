"""How fast one 1024 px edit is, part by part, as a fraction of the machine's rate of matrix products.

    python benchmarks/edit.py --weights FOLDER [--json] [--device cpu] [--against eager,compile,onnxruntime,openvino]

FOLDER holds the faces' weights, published or stand-ins (python tests/parity/make_checkpoints.py FOLDER writes those;
the numbers in them do not change the time). Seconds are medians with everything loaded; GFLOP are counted on the plain
networks, two for a multiplication and addition, so that a fraction above 1 means less work than that was done. Peak
memory and cold start are those of a separate process that makes one edit, as scripts/simple_inference.py does. The
row "beside busy processes" is a first edit in such a process, everything loaded, while two others count without end.
--against measures the networks in other runtimes too, in turns with ours.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from against import RUNTIMES, compare
from measure import faces, machine, matmul_gflops, seconds
from torch.utils.flop_counter import FlopCounterMode

from arguments.domain import DomainConfig, load_domain
from arguments.options import Config, ExpArgs, ModelArgs
from configs.paths import ROOT
from models.backbone import Backbone
from models.e4e import E4E
from models.inference import FSEFull
from models.sfe import FeatureEditor, resized
from models.stylegan2.generator import Generator
from models.weights import freeze
from runners.build_method import build_method
from utils.images import load_image, resize, to_tensor
from utils.malloc import tune_malloc
from utils.threads import sleep_while_waiting

DIRECTION = "glasses"  # in StyleSpace: needs no direction file
NETWORKS = ("backbone", "fuser", "editor", "e4e", "decoder_full")
POWERS = [-10.0, -8.0, -6.0, -4.0, 4.0, 6.0, 8.0, 10.0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=ROOT / "pretrained_models", help="folder with the weights")
    parser.add_argument("--json", action="store_true", help="print one JSON object in place of the table")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--against", type=runtimes, default=[], help=f"runtimes to compare with: {','.join(RUNTIMES)}")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)  # the process that is measured cold
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)  # the process that is measured warm
    arguments = parser.parse_args()
    tune_malloc()
    sleep_while_waiting()  # in the processes that are measured: torch is imported already in this one
    if not (arguments.once or arguments.here):
        sys.exit(subprocess.run([sys.executable, __file__, *sys.argv[1:], "--here"]).returncode)
    with tempfile.TemporaryDirectory() as folder:
        domain = faces(arguments.weights.resolve(), Path(folder))
        if arguments.once:
            print(json.dumps(one_edit(build(domain, arguments))))
            return
        report = measure(domain, arguments)
    print(json.dumps(report) if arguments.json else table(report))


def runtimes(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - set(RUNTIMES):
        raise argparse.ArgumentTypeError(f"no runtime '{min(unknown)}'; there are: {', '.join(RUNTIMES)}")
    return names


def build(domain: Path, arguments: argparse.Namespace) -> FSEFull:
    model = ModelArgs(checkpoint_path=str(arguments.weights / "sfe_editor_light.pt"), device=arguments.device)
    method, _ = build_method(Config(exp=ExpArgs(domain=str(domain)), model=model))
    assert isinstance(method, FSEFull)
    return method


def random_image() -> torch.Tensor:
    return to_tensor(resize(load_image(ROOT / "assets" / "astronaut.png"), 1024))[None]


def one_edit(method: FSEFull) -> dict[str, float]:
    """Peak memory of a first and a second edit, in a fresh process, and seconds of a first edit once all is loaded."""
    inversion = method.invert(random_image())
    method.edit(inversion, [(DIRECTION, [5])])
    first = time.clock_gettime(time.CLOCK_REALTIME)
    method.edit(inversion, [(DIRECTION, [-5])])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    again = seconds(lambda: method.edit(method.invert(random_image()), [(DIRECTION, [5])]), repeats=3)
    return {"first_edit_at": first, "peak_rss_mb": peak, "first_edit": again}


def cold(arguments: argparse.Namespace) -> tuple[float, float, float]:
    """Seconds from the start of a process to its first edit, its peak memory in MB, seconds of a warm first edit."""
    command = [sys.executable, __file__, "--once", "--weights", arguments.weights, "--device", arguments.device]
    start = time.clock_gettime(time.CLOCK_REALTIME)
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
    return found["first_edit_at"] - start, found["peak_rss_mb"], found["first_edit"]


def beside_busy_processes(arguments: argparse.Namespace) -> float:
    """Seconds of a first edit, everything loaded, while two other processes keep a core each busy."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        return cold(arguments)[2]
    finally:
        for other in others:
            other.kill()
            other.wait()


def gflop_of_parts(domain: DomainConfig) -> dict[str, float]:
    """Counted on the plain networks, on the meta device."""
    size, generator = domain.encoder_size, domain.generator
    nets = [Backbone(domain), FeatureEditor(domain), E4E(domain), Generator(generator)]
    backbone, fusion, e4e, decoder = (freeze(net).to("meta") for net in nets)
    with torch.device("meta"):
        x, feature = torch.empty(1, 3, size, size), torch.empty(1, domain.feature_channels, size // 4, size // 4)
        styles = decoder.affine(torch.empty(1, generator.n_styles, generator.style_dim))
    return {
        "backbone": count(backbone, x),
        "fuser": count(fusion, feature, feature),
        "editor": count(fusion, feature, feature),
        "e4e": count(e4e, x),
        "decoder_features": count(decoder.trunk, styles, domain.feature_layer),
        "decoder_full": count(decoder, styles),
    }


def count(run: Callable, *inputs: object) -> float:
    with FlopCounterMode(display=False) as counter:
        run(*inputs)
    return counter.get_total_flops() / 1e9


def measure(path: Path, arguments: argparse.Namespace) -> dict:
    domain = load_domain(str(path))
    gflop = gflop_of_parts(domain)
    features, full = gflop["decoder_features"], gflop["decoder_full"]
    gflop["second_edit"] = gflop["editor"] + features + full
    gflop["first_edit"] = gflop["backbone"] + gflop["fuser"] + gflop["e4e"] + 2 * features + gflop["second_edit"]
    gflop["eight_powers"] = gflop["first_edit"] + (len(POWERS) - 1) * gflop["second_edit"]

    start, peak, _ = min(cold(arguments) for _ in range(3))
    busy = beside_busy_processes(arguments)
    method = build(path, arguments)
    x = random_image()
    inversion = method.invert(x)
    method.edit(inversion, [(DIRECTION, [5])])
    small, maps = resized(x, domain.encoder_size), inversion.features
    with torch.inference_mode():
        styles = method.decoder.affine(inversion.w)

    runs = {
        "backbone": lambda: method.inverter.fs_backbone(small),
        "fuser": lambda: method.inverter.fuser(maps, maps),
        "editor": lambda: method.feature_editor(maps, maps),
        "e4e": lambda: method.e4e(small),
        "decoder_features": lambda: method.decoder.trunk(styles, method.layer),
        "decoder_full": lambda: method.decoder(styles),
        "first_edit": lambda: method.edit(method.invert(x), [(DIRECTION, [5])]),
        "second_edit": lambda: method.edit(inversion, [(DIRECTION, [-5])]),
        "eight_powers": lambda: method.edit(method.invert(x), [(DIRECTION, POWERS)]),
    }
    rates, parts = [matmul_gflops(arguments.device)], {}
    with torch.inference_mode():
        for name, run in runs.items():
            parts[name] = {"seconds": seconds(run), "gflop": gflop[name]}
            rates.append(matmul_gflops(arguments.device))
    rate = sorted(rates)[len(rates) // 2]
    for part in parts.values():
        part["fraction"] = part["gflop"] / part["seconds"] / rate
    ours, against = {name.removesuffix("_full"): parts[name]["seconds"] for name in NETWORKS}, {}
    if arguments.against:
        ours, against = compare(arguments.against, method, domain, small, maps, styles)
    beyond = start - parts["first_edit"]["seconds"]
    return {
        "machine": machine(), "matmul_gflops": rate, "peak_rss_mb": peak,
        "cold_start": {"seconds": start, "beyond_the_edit": beyond}, "parts": parts,
        "busy": {"first_edit": busy}, "ours": ours, "against": against,
    }  # fmt: skip


def table(report: dict) -> str:
    lines = [
        report["machine"],
        f"matrix product: {report['matmul_gflops']:.0f} GFLOP/s; peak memory of an edit: "
        f"{report['peak_rss_mb']:.0f} MB; "
        f"start to first edit: {report['cold_start']['seconds']:.1f} s, "
        f"{report['cold_start']['beyond_the_edit']:.1f} s more than a warm one",
        "",
        "| part | seconds | GFLOP | fraction of the matmul rate |",
        "|---|---|---|---|",
    ]
    for name, part in report["parts"].items():
        lines.append(f"| {name} | {part['seconds']:.3f} | {part['gflop']:.1f} | {part['fraction']:.2f} |")
    parts = report["parts"]
    share = parts["second_edit"]["seconds"] / parts["first_edit"]["seconds"]
    lines += ["", f"second edit / first edit: {share:.2f}"]
    lines += [f"first edit beside busy processes: {report['busy']['first_edit']:.2f} s"]
    if report["against"]:
        columns = {"ours": report["ours"], **report["against"]}
        lines += ["", f"| network | {' | '.join(columns)} |", "|---|" + "---|" * len(columns)]
        for name in report["ours"]:
            lines.append(f"| {name} | {' | '.join(f'{column[name]:.3f}' for column in columns.values())} |")
        lines.append(f"| sum | {' | '.join(f'{sum(column.values()):.3f}' for column in columns.values())} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
