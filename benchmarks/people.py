"""The tables of the domain `people` in the README: 1,000 unseen people, and 100 with details that training lacked.

    python benchmarks/people.py
    python benchmarks/people.py --count 100 --json results_dir/people.json

Every edit is compared with the true one: the same person, drawn with the edit. Needs: pip install -e '.[people]'.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from measure import machine
from torch import Tensor
from tqdm import tqdm

from arguments.domain import load_domain
from arguments.flags import at_least, path
from configs.paths import ROOT
from datasets.people.edits import edited
from datasets.people.splits import subject
from editings.latent_editor import LatentEditor
from metrics.domain import BATCH, DomainMetrics, milliseconds_per_image, rounded
from metrics.fid import frechet_distance
from metrics.identity import IDDlib
from metrics.tables import markdown_table
from models.inference import FSEFull, FSEInverter
from utils.cli import run
from utils.files import atomic_path
from utils.images import normalize

COUNT, UNSEEN = 1000, 100
# Edit -> direction, power, the attribute that it changes, and the values that it should reach.
EDITS = {
    "age": ("age", 8.0, "age", ("senior", "old")),
    "smile": ("fs_smiling", 6.0, "smile", ("wide",)),
    "rotation": ("rotation", 5.0, "yaw", ("right", "far_right")),
    "glasses": ("fs_glasses", 15.0, "glasses", ("clear", "dark")),
    "beard": ("trimmed_beard", 20.0, "beard", ("short", "long")),
    "grey hair": ("grey hair", 7.0, "grey", ("grey",)),
    "long hair": ("long hair", 7.0, "hair", ("chin", "long")),
    "make-up": ("fs_makeup", 10.0, "makeup", ("strong",)),
}
DETAILS_EDIT = ("age", 5.0)  # after which details should still be there
INVERSION_COLUMNS = {
    "l2": "L2", "psnr": "PSNR, dB", "lpips_like": "LPIPS-like", "fid_like": "FID-like", "ms": "ms an image",
}  # fmt: skip
EDIT_COLUMNS = {
    "appears": "trait appears", "others_stay": "others stay", "l2_true": "L2 to the true edit",
    "id_gap": "identity gap",
}  # fmt: skip

Edit = Callable[[Tensor, str, float], Tensor]


class Methods:
    """Inversion and editing by each method. Images are B×3×size×size in [-1, 1], results are rounded to 8 bits."""

    def __init__(self, weights: Path, device: torch.device) -> None:
        domain = load_domain("people")
        editor = LatentEditor(domain, device=device)
        sfe = FSEFull(domain, str(weights / "sfe_editor.pt"), device, editor)
        inverter = FSEInverter(domain, str(weights / "sfe_inverter.pt"), device, editor)
        self.invert: dict[str, Callable[[Tensor], Tensor]] = {
            "wplus": lambda x: sfe.e4e_images(sfe.invert(x)),
            "inverter": lambda x: inverter.reconstruct(inverter.invert(x)),
            "sfe": lambda x: sfe.reconstruct(sfe.invert(x)),
        }
        self.edit: dict[str, Edit] = {
            "no_edit": lambda x, name, power: x,
            "wplus": lambda x, name, power: sfe.e4e_images(sfe.invert(x), [(name, [power])]),
            "inverter": lambda x, name, power: inverter.edit(inverter.invert(x), [(name, [power])]),
            "sfe": lambda x, name, power: sfe.edit(sfe.invert(x), [(name, [power])]),
        }


def drawn(split: str, index: int, edit: tuple[str, float] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """A person's image, 3×size×size uint8, and the share of each pixel that details cover, size×size."""
    person = subject(split, index)
    image = (edited(person, *edit) if edit else person).crop()
    return image.rgb.transpose(2, 0, 1).copy(), image.details


def draw(pool: ProcessPoolExecutor, split: str, indices: list[int], edit: tuple[str, float] | None = None) -> Tensor:
    """The images of people, N×3×size×size float32 in [-1, 1]."""
    images = pool.map(partial(drawn, split, edit=edit), indices, chunksize=8)
    title = f"{split}, {edit[0]}" if edit else split
    shown = tqdm(images, f"drawing {title}", len(indices), unit="image", leave=False)
    return torch.stack([normalize(torch.from_numpy(rgb)) for rgb, _ in shown])


def by_batches(method: Callable[[Tensor], Tensor], x: Tensor, title: str) -> Tensor:
    return torch.cat([rounded(method(part)) for part in tqdm(x.split(BATCH), title, unit="batch", leave=False)])


@torch.inference_mode()
def inversions(methods: Methods, metrics: DomainMetrics, x: Tensor) -> dict[str, dict[str, float]]:
    """Method -> column of INVERSION_COLUMNS -> value."""
    real, rows = metrics.gaussian(x), {}
    for name, method in methods.invert.items():
        fake = by_batches(method, x, name)
        errors = (fake - x).square().mean(dim=(1, 2, 3))
        rows[name] = {
            "l2": float(errors.mean()),
            "psnr": float((10 * torch.log10(4 / errors)).mean()),
            "lpips_like": float(metrics.distances(fake, x).mean()),
            "fid_like": frechet_distance(real, metrics.gaussian(fake)),
            "ms": milliseconds_per_image(method, x),
        }
    return rows


@torch.inference_mode()
def edits(methods: Methods, metrics: DomainMetrics, x: Tensor, pool: ProcessPoolExecutor) -> dict[str, dict[str, dict]]:
    """Edit -> method -> column of EDIT_COLUMNS -> value, over the people whom the true edit gives the trait."""
    table: dict[str, dict[str, dict]] = {}
    identity = IDDlib(torch.device("cpu"))
    attributes = list(metrics.predictor.attributes)
    for edit, (direction, power, attribute, values) in EDITS.items():
        people = [subject("test", i) for i in range(len(x))]
        labels = [(person.shown(), edited(person, direction, power).shown()) for person in people]
        chosen = [i for i, (old, new) in enumerate(labels) if old[attribute] not in values and new[attribute] in values]
        before, true = x[chosen], draw(pool, "test", chosen, (direction, power))
        seen = metrics.attributes(before)
        # Attributes that the true edit leaves as they are, and that are to be seen.
        same = torch.tensor([[_stays(*labels[i], name) for name in attributes] for i in chosen])
        id_true = _identity(identity, before, true)
        table[edit] = {}
        for name, method in methods.edit.items():
            fake = by_batches(lambda part, m=method, d=direction, p=power: m(part, d, p), before, f"{edit}, {name}")
            logits = _logits(metrics, fake)
            table[edit][name] = {
                "appears": float((metrics.predictor.log_odds(logits, attribute, values) > 0).float().mean()),
                "others_stay": float((metrics.attributes(fake) == seen)[same].float().mean()),
                "l2_true": float((fake - true).square().mean()),
                "id_gap": id_true - _identity(identity, before, fake),
            }
    return table


@torch.inference_mode()
def details(methods: Methods, count: int, pool: ProcessPoolExecutor) -> dict[str, float]:
    """Method -> mean squared distance to the true edit inside the details of people of `unseen`."""
    images = list(pool.map(partial(drawn, "unseen"), range(count), chunksize=8))
    x = torch.stack([normalize(torch.from_numpy(rgb)) for rgb, _ in images])
    true = list(pool.map(partial(drawn, "unseen", edit=DETAILS_EDIT), range(count), chunksize=8))
    target = torch.stack([normalize(torch.from_numpy(rgb)) for rgb, _ in true])
    shares = zip(images, true, strict=True)
    inside = torch.stack([torch.from_numpy((a > 0.5) & (b > 0.5)) for (_, a), (_, b) in shares])
    rows = {}
    for name, method in methods.edit.items():
        fake = by_batches(lambda part, m=method: m(part, *DETAILS_EDIT), x, f"details, {name}")
        rows[name] = float((fake - target).square().mean(dim=1)[inside].mean())
    return rows


def _stays(old: dict[str, str | None], new: dict[str, str | None], attribute: str) -> bool:
    """Whether an attribute is to be seen, and the true edit leaves it as it is."""
    return old.get(attribute) is not None and old[attribute] == new[attribute]


def _logits(metrics: DomainMetrics, x: Tensor) -> dict[str, Tensor]:
    parts = defaultdict(list)
    for part in x.split(BATCH):
        for name, values in metrics.predictor(part).items():
            parts[name].append(values)
    return {name: torch.cat(values) for name, values in parts.items()}


def _identity(identity: IDDlib, a: Tensor, b: Tensor) -> float:
    pixels = [((x + 1) * 127.5).round().to(torch.uint8) for x in (a, b)]
    return float(identity.measure(*pixels)[:, 0].nanmean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=at_least(10), default=COUNT, help="people (default: 1000)")
    parser.add_argument("--json", type=path, help="write the numbers to this file, too")
    parser.add_argument("--weights", type=path, default=ROOT / "pretrained_models" / "people", help="(%(default)s)")
    args = parser.parse_args()
    device = torch.device("cpu")
    methods, metrics = Methods(args.weights, device), DomainMetrics(load_domain("people"), device)
    with ProcessPoolExecutor() as pool:
        x = draw(pool, "test", list(range(args.count)))
        unseen = draw(pool, "unseen", list(range(min(UNSEEN, args.count))))
        results = {
            "inversion": inversions(methods, metrics, x),
            "unseen": inversions(methods, metrics, unseen),
            "edits": edits(methods, metrics, x, pool),
            "details": details(methods, len(unseen), pool),
        }
    if args.json:
        with atomic_path(args.json) as temporary:
            temporary.write_text(json.dumps(results, indent=1) + "\n")
    rows = {f"{edit} | {name}": row for edit, by_method in results["edits"].items() for name, row in by_method.items()}
    kept = {name: {"l2": value} for name, value in results["details"].items()}
    print(
        machine(),
        f"Inversion of {args.count} test people:", markdown_table(results["inversion"], INVERSION_COLUMNS, "method"),
        f"Inversion of {len(unseen)} unseen people:", markdown_table(results["unseen"], INVERSION_COLUMNS, "method"),
        "Edits of people who lack the trait:", markdown_table(rows, EDIT_COLUMNS, "edit | method"),
        "Unseen details after an edit:", markdown_table(kept, {"l2": "L2 inside the detail"}, "method"), sep="\n\n",
    )  # fmt: skip


if __name__ == "__main__":
    run(main)
