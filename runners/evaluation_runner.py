"""Measures how well a domain's methods invert and edit, by its attribute predictor and against true images of edits."""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from arguments.domain import load_domain
from datasets.images import ImageFolder, relative_names
from datasets.labels import FILE as LABELS_FILE
from datasets.labels import HIDDEN, Labels
from editings.latent_editor import LatentEditor
from metrics.domain import BATCH, DomainMetrics, milliseconds_per_image, rounded, ssim
from metrics.fid import Gaussian, frechet_distance
from metrics.tables import markdown_table, write_report
from models.inference import FSEFull, FSEInverter
from models.sfe import Edits
from runners.build_method import check_files
from utils.drawing import image_column, image_strip
from utils.errors import UserError
from utils.files import check_apart, check_writable
from utils.images import load_image, resize, save_image, to_image, to_tensor
from utils.parallel import batches

logger = logging.getLogger(__name__)

NOTHING = "no edit"  # the unedited image, for comparison
GRIDS = "grid.png", "sweep.png"

INVERSION_COLUMNS = {
    "l2": "L2", "ssim": "SSIM", "distance": "LPIPS-like", "kept": "attributes kept", "frechet": "FID-like",
    "ms": "ms an image",
}  # fmt: skip
EDIT_COLUMNS = {"done": "trait appears", "kept": "others stay", "truth": "L2 to the true image"}


Numbers = dict[str, list[Tensor]]  # column -> a number per image (or more), for each batch


@dataclass(frozen=True)
class EvaluatedMethod:
    """How a method inverts and edits. Images are B×3×size×size; `invert` returns the input of the other two."""

    invert: Callable[[Tensor], Any]
    reconstruct: Callable[[Any], Tensor]
    edit: Callable[[Any, Edits], Tensor]


class EvaluationRunner:
    """Compares the W+ encoder alone, the Inverter of stage 1 and SFE of stage 2 on one domain.

    Everything is measured on images of 8 bits, at the generator's size. LPIPS-like: `criteria/predictor_loss.py`;
    FID-like: the Fréchet distance of the predictor's embeddings.
    """

    def __init__(self, domain: str, inverter: str, editor: str, device: torch.device) -> None:
        """`inverter`, `editor`: checkpoints of both stages. Raises UserError if a file is missing."""
        self.domain, self.device = load_domain(domain), device
        self.metrics = DomainMetrics(self.domain, device)
        self.latent_editor = latent_editor = LatentEditor(self.domain, device=device)
        self.sfe = sfe = FSEFull(self.domain, editor, device, latent_editor)
        self.stage_1 = stage_1 = FSEInverter(self.domain, inverter, device, latent_editor)
        self.methods = {
            "W+ encoder": EvaluatedMethod(lambda x: x, sfe.e4e_images, sfe.e4e_images),
            "Inverter (stage 1)": EvaluatedMethod(stage_1.invert, stage_1.reconstruct, stage_1.edit),
            "SFE (stage 2)": EvaluatedMethod(sfe.invert, sfe.reconstruct, sfe.edit),
        }

    def report(
        self, folders: Mapping[str, Path], edits: Mapping[str, float], truth: Path | None, output: Path, shown: int = 6
    ) -> str:
        """Measure, and write tables (evaluation.md, .json) and images (grid.png, sweep.png). Returns the tables.

        folders: title -> images; the edits, and the first `shown` images in the grids, are of the first folder.

        Raises UserError, before anything is measured, for unknown edits, missing files, or an output that cannot be
        written or would overwrite an image.
        """
        for name, power in edits.items():
            self.latent_editor.check(name, [power])
        for method in (self.sfe, self.stage_1):
            check_files(method, self.latent_editor, edits, e4e=True)
        check_writable(output / "evaluation.md")
        for folder in folders.values():
            check_apart([output / name for name in GRIDS], [folder / name for name in relative_names(folder)])
        first = next(iter(folders.values()))
        inversions = {title: self.inversions(folder) for title, folder in folders.items()}
        edited = self.edits(first, edits, truth)
        parts = [
            f"Inversion of {title}:\n\n{markdown_table(rows, INVERSION_COLUMNS, 'method')}"
            for title, rows in inversions.items()
        ]
        rows = {
            f"{name} {edits[name]:+g} | {title}": row
            for name, by_method in edited.items() for title, row in by_method.items()
        }  # fmt: skip
        parts.append(f"Edits of images that lack the trait:\n\n{markdown_table(rows, EDIT_COLUMNS, 'edit | method')}")
        text = "\n".join(parts)
        write_report(output, {"inversions": inversions, "edits": edited}, text)
        self.save_grids(first, edits, relative_names(first)[:shown], output)
        return text

    @torch.inference_mode()
    def inversions(self, folder: Path) -> dict[str, dict[str, float]]:
        """Method -> column of INVERSION_COLUMNS -> value, over all images of the folder."""
        real: list[Tensor] = []
        results: dict[str, Numbers] = {title: defaultdict(list) for title in self.methods}
        for names, x in self._batches(folder, "inversions"):
            real.append(self.metrics.embeddings(x))
            before, shown = self.metrics.attributes(x), self._shown(folder, names)
            for title, numbers in results.items():
                method = self.methods[title]
                y = rounded(method.reconstruct(method.invert(x)))
                numbers["l2"].append((y - x).square().mean(dim=(1, 2, 3)))
                numbers["ssim"].append(ssim(y, x))
                numbers["distance"].append(self.metrics.distances(y, x))
                numbers["kept"].append((self.metrics.attributes(y) == before)[shown])
                numbers["embedding"].append(self.metrics.embeddings(y))
        return {
            title: {column: _mean(numbers[column]) for column in ("l2", "ssim", "distance", "kept")}
            | {
                "frechet": frechet_distance(Gaussian.of(torch.cat(real)), Gaussian.of(torch.cat(numbers["embedding"]))),
                "ms": self._milliseconds(self.methods[title], folder),
            }
            for title, numbers in results.items()
        }  # fmt: skip

    @torch.inference_mode()
    def edits(self, folder: Path, edits: Mapping[str, float], truth: Path | None) -> dict[str, dict[str, dict]]:
        """Direction -> method -> column of EDIT_COLUMNS -> value, over the images that lack the direction's trait.

        edits: direction, named like its trait -> power. truth: `{direction}/{any}/NAME`, true images of NAME with the
        trait, of which the nearest counts; only images with true ones are edited.
        """
        return {name: self._edit(name, power, folder, truth) for name, power in edits.items()}

    def _edit(self, name: str, power: float, folder: Path, truth: Path | None) -> dict[str, dict]:
        trait = self.domain.traits.get(name)
        if trait is None:
            known = ", ".join(self.domain.traits)
            raise UserError(f"'{name}' is not a trait of {self.domain.name}; there are: {known}")
        variants = sorted(path for path in (truth / name).iterdir() if path.is_dir()) if truth else []
        others = [attribute != trait.attribute for attribute in self.metrics.predictor.attributes]
        results: dict[str, Numbers] = {title: defaultdict(list) for title in (NOTHING, *self.methods)}
        for files, images in self._batches(folder, name):
            has_truth = [all((variant / file).is_file() for variant in variants) for file in files]
            rows = torch.tensor(has_truth) & (self.metrics.log_odds(images, name) < 0)
            x, names = images[rows], [file for file, row in zip(files, rows.tolist(), strict=True) if row]
            if not names:
                continue
            true = [torch.stack([self._image(variant, file) for file in names]) for variant in variants]
            before, shown = self.metrics.attributes(x)[:, others], self._shown(folder, names)[:, others]
            for title, numbers in results.items():
                if title == NOTHING:
                    y = x
                else:
                    method = self.methods[title]
                    y = rounded(method.edit(method.invert(x), [(name, [power])]))
                numbers["done"].append(self.metrics.log_odds(y, name) > 0)
                numbers["kept"].append((self.metrics.attributes(y)[:, others] == before)[shown])
                if true:
                    errors = torch.stack([(y - image).square().mean(dim=(1, 2, 3)) for image in true])
                    numbers["truth"].append(errors.amin(dim=0))
        return {
            title: {"images": sum(map(len, numbers["done"]))} | {key: _mean(numbers[key]) for key in EDIT_COLUMNS}
            for title, numbers in results.items()
        }

    @torch.inference_mode()
    def save_grids(self, folder: Path, edits: Mapping[str, float], names: Sequence[str], output: Path) -> None:
        """Write `grid.png`: images, inversions by every method, and edits by SFE; `sweep.png`: powers of each edit."""
        rows, sweeps = [], []
        for i, name in enumerate(names):
            x = self._image(folder, name)[None]
            inversion = self.sfe.invert(x)
            shown = [("image", x)]
            shown += [(title, method.reconstruct(method.invert(x))) for title, method in self.methods.items()]
            for edit, power in edits.items():
                shown.append((f"{edit} {power:+g}", self.sfe.edit(inversion, [(edit, [power])])))
            rows.append(image_strip([(caption if i == 0 else "", to_image(y[0])) for caption, y in shown], 128))
            edit, power = list(edits.items())[i % len(edits)]
            steps = [power * share for share in (-1.5, -1, -0.5, 0, 0.5, 1, 1.5)]
            swept = self.sfe.edit(inversion, [(edit, steps)])
            sweeps.append([(f"{edit} {step:+g}", to_image(y)) for step, y in zip(steps, swept, strict=True)])
        for name, images in zip(GRIDS, (rows, [image_strip(sweep, 128) for sweep in sweeps]), strict=True):
            save_image(image_column(images), output / name)

    def _batches(self, folder: Path, label: str) -> Iterator[tuple[list[str], Tensor]]:
        """Names and images of the folder, B×3×size×size."""
        images = ImageFolder(folder, self.domain.generator.size)
        for part in batches(tqdm(range(len(images)), label, unit="image", leave=False, disable=None), BATCH):
            yield [images.names[i] for i in part], torch.stack([images[i] for i in part])

    def _image(self, folder: Path, name: str) -> Tensor:
        return to_tensor(resize(load_image(folder / name), self.domain.generator.size))

    def _milliseconds(self, method: EvaluatedMethod, folder: Path) -> float:
        images = ImageFolder(folder, self.domain.generator.size)
        batches_of_one = (images[i][None] for i in range(len(images)))
        return milliseconds_per_image(lambda x: method.reconstruct(method.invert(x)), batches_of_one)

    def _shown(self, folder: Path, names: list[str]) -> Tensor:
        """Which attributes images show, according to their labels, if there are some: B×A, bool."""
        attributes = self.metrics.predictor.attributes
        if not (folder / LABELS_FILE).is_file():
            return torch.ones(len(names), len(attributes), dtype=torch.bool)
        labels = Labels(folder).of(names)
        return torch.stack([labels[name] != HIDDEN for name in attributes], dim=1)


def _mean(parts: list[Tensor]) -> float:
    """NaN if there are none."""
    return float(torch.cat(parts).double().mean()) if parts else float("nan")
