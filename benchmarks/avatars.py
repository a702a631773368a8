"""The tables and images of the domain `avatars` in the README: 1,000 test avatars, and 100 with what training lacked.

The last table is of edits of the W+ encoder's own images, on which stage 2 learns to edit.

    python benchmarks/avatars.py --output_dir results_dir/avatars

Draws the avatars, with the true image of every edit in several variants; needs: pip install -e '.[avatars]'.
"""

import argparse
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import torch
from measure import machine
from tqdm import tqdm

from arguments.domain import load_domain
from configs.paths import ROOT
from datasets.avatars import draw, render
from datasets.images import ImageFolder
from datasets.labels import write_labels
from metrics.tables import markdown_table
from runners.evaluation_runner import EDIT_COLUMNS, EvaluationRunner
from utils.cli import run
from utils.images import save_image, to_image

SIZE = load_domain("avatars").generator.size
WEIGHTS = ROOT / "pretrained_models" / "avatars"
TESTED, UNSEEN, TRUE = 1000, 100, 300  # avatars; of the last so many the true edits are drawn
POWER = 5.0
# Direction -> what the avatar is drawn with, one of them after another.
VARIANTS = {
    "smile": [{"mouth": value} for value in ("smile", "twinkle", "default", "tongue")],
    "glasses": [
        {"glasses": value, "glasses_color": "black"}
        for value in ("prescription01", "prescription02", "round", "wayfarers")
    ],
    "facial_hair": [
        {"facial_hair": value} for value in ("beardLight", "beardMajestic", "beardMedium", "moustacheFancy")
    ],
    "hat": [{"hat": value} for value in ("hijab", "turban", "winterHat02", "winterHat03", "winterHat1")],
    "long_hair": [{"hair": value} for value in ("bob", "curvy", "straight01", "straight02", "longButNotTooLong")],
    "blond_hair": [{"hair_color": value} for value in ("blonde", "golden", "platinum", "silver")],
    "dark_skin": [{"skin": value} for value in ("brown", "dark_brown", "black")],
}  # fmt: skip


def jobs(folder: Path) -> Iterator[tuple[Path, str, int, dict[str, str]]]:
    """File, split, number, and changed attributes of every image."""
    for split, count in (("test", TESTED), ("unseen", UNSEEN)):
        yield from ((folder / split / f"{i:06d}.png", split, i, {}) for i in range(count))
    for direction, variants in VARIANTS.items():
        for v, changes in enumerate(variants):
            true = folder / "true" / direction / str(v)
            yield from ((true / f"{i:06d}.png", "test", i, changes) for i in range(TRUE))


def make(job: tuple[Path, str, int, dict[str, str]]) -> None:
    path, split, index, changes = job
    if not path.exists():
        save_image(render(replace(draw(split, index), **changes), SIZE), path)


@torch.inference_mode()
def own_images(runner: EvaluationRunner, source: Path, target: Path) -> None:
    """Write what the W+ encoder makes of the first avatars."""
    avatars = ImageFolder(source, SIZE)
    for i, name in enumerate(avatars.names[:TRUE]):
        save_image(to_image(runner.methods["W+ encoder"].reconstruct(avatars[i][None])[0]), target / name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="folder of the weights (%(default)s)")
    args = parser.parse_args()
    folder = args.output_dir / "images"
    work = list(jobs(folder))
    with ProcessPoolExecutor() as pool:
        list(tqdm(pool.map(make, work, chunksize=64), "avatars", len(work), unit="image"))
    for split, count in (("test", TESTED), ("unseen", UNSEEN)):
        write_labels(folder / split, ((f"{i:06d}.png", draw(split, i).shown()) for i in range(count)))
    runner = EvaluationRunner(
        "avatars", str(args.weights / "sfe_inverter.pt"), str(args.weights / "sfe_editor.pt"), torch.device("cpu")
    )
    folders = {"1,000 test avatars": folder / "test", "100 avatars with an unseen graphic or hat": folder / "unseen"}
    edits = dict.fromkeys(VARIANTS, POWER)
    report = runner.report(folders, edits, folder / "true", args.output_dir)
    own_images(runner, folder / "test", folder / "own")
    found = runner.edits(folder / "own", edits, None)
    rows = {f"{name} {POWER:+g}": by_way["SFE (stage 2)"] for name, by_way in found.items()}
    own = markdown_table(rows, {"done": EDIT_COLUMNS["done"]}, "edit by SFE")
    print(machine(), report, "Edits of the W+ encoder's own images that lack the trait:", own, sep="\n\n")


if __name__ == "__main__":
    run(main)
