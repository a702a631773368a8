"""How well a domain's methods invert and edit: by its attribute predictor, and against true images of edits."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from arguments.domain import load_domain
from datasets.images import ImageFolder, relative_names
from datasets.labels import FILE as LABELS_FILE
from datasets.labels import HIDDEN, Labels
from editings.latent_editor import LatentEditor
from metrics.domain import BATCH, DomainMetrics, milliseconds_per_image, rounded, ssim
from metrics.fid import frechet_distance
from metrics.tables import markdown_table, write_report
from models.inference import FSEFull, FSEInverter
from models.sfe import Inversion
from utils.drawing import image_column, image_strip
from utils.errors import UserError
from utils.images import load_image, resize, save_image, to_image, to_tensor

logger = logging.getLogger(__name__)

NOTHING = "no edit"  # the image as it is, for comparison

INVERSION_COLUMNS = {
    "l2": "L2", "ssim": "SSIM", "distance": "LPIPS-like", "kept": "attributes kept", "frechet": "FID-like",
    "ms": "ms an image",
}  # fmt: skip
EDIT_COLUMNS = {"done": "trait appears", "kept": "others stay", "truth": "L2 to the true image"}


@dataclass(frozen=True)
class Way:
    """One way to invert and edit. Images are B×3×size×size."""

    reconstruct: Callable[[Tensor], Tensor]  # images -> their inversions
    edit: Callable[[Inversion, str, float], Tensor]


class EvaluationRunner:
    """Compares the W+ encoder alone, the Inverter of stage 1 and SFE of stage 2 on one domain.

    Everything is measured on images of 8 bits, at the generator's size. LPIPS-like: `criteria/predictor_loss.py`;
    FID-like: the Fréchet distance of the predictor's embeddings.
    """

    def __init__(self, domain: str, inverter: str, editor: str, device: torch.device) -> None:
        """`inverter`, `editor`: checkpoints of both stages. Raises UserError where something is missing."""
        self.domain, self.device = load_domain(domain), device
        self.metrics = DomainMetrics(self.domain, device)
        latent_editor = LatentEditor(self.domain, device=device)
        self.sfe = sfe = FSEFull(self.domain, editor, device, latent_editor)
        stage_1 = FSEInverter(self.domain, inverter, device, latent_editor)
        self.ways = {
            "W+ encoder": Way(
                lambda x: sfe.e4e_images(sfe.invert(x)),
                lambda inversion, name, power: sfe.e4e_images(inversion, [(name, [power])]),
            ),
            "Inverter (stage 1)": Way(
                lambda x: stage_1.reconstruct(stage_1.invert(x)),
                lambda inversion, name, power: stage_1.edit(inversion, [(name, [power])]),
            ),
            "SFE (stage 2)": Way(
                lambda x: sfe.reconstruct(sfe.invert(x)),
                lambda inversion, name, power: sfe.edit(inversion, [(name, [power])]),
            ),
        }

    def report(
        self, folders: Mapping[str, Path], edits: Mapping[str, float], truth: Path | None, output: Path, shown: int = 6
    ) -> str:
        """Measure, and write tables (evaluation.md, .json) and images (grid.png, sweep.png). Returns the tables.

        folders: title -> images; edits and the first `shown` images to look at are of the first folder.
        """
        first = next(iter(folders.values()))
        inversions = {title: self.inversions(folder) for title, folder in folders.items()}
        edited = self.edits(first, edits, truth)
        parts = [
            f"Inversion of {title}:\n\n{markdown_table(rows, INVERSION_COLUMNS, 'method')}"
            for title, rows in inversions.items()
        ]
        rows = {
            f"{name} {edits[name]:+g} | {way}": row for name, by_way in edited.items() for way, row in by_way.items()
        }  # fmt: skip
        parts.append(f"Edits of images that lack the trait:\n\n{markdown_table(rows, EDIT_COLUMNS, 'edit | method')}")
        text = "\n".join(parts)
        write_report(output, {"inversions": inversions, "edits": edited}, text)
        self.pictures(first, edits, relative_names(first)[:shown], output)
        return text

    @torch.inference_mode()
    def inversions(self, folder: Path) -> dict[str, dict[str, float]]:
        """Way -> column of INVERSION_COLUMNS -> value, over all images of the folder."""
        names, x = self._read(folder)
        before, shown = self.metrics.attributes(x), self._shown(folder, names)
        real = self.metrics.gaussian(x)
        rows = {}
        for way, methods in self.ways.items():
            found = self._map(methods.reconstruct, x, way)
            rows[way] = {
                "l2": float((found - x).square().mean()),
                "ssim": ssim(found, x),
                "distance": float(self.metrics.distances(found, x).mean()),
                "kept": _share(self.metrics.attributes(found) == before, shown),
                "frechet": frechet_distance(real, self.metrics.gaussian(found)),
                "ms": milliseconds_per_image(methods.reconstruct, x),
            }
        return rows

    @torch.inference_mode()
    def edits(self, folder: Path, edits: Mapping[str, float], truth: Path | None) -> dict[str, dict[str, dict]]:
        """Direction -> way -> column of EDIT_COLUMNS -> value, over the images that lack the direction's trait.

        edits: direction, called as its trait -> power. truth: `{direction}/{any}/NAME`, true images of NAME with the
        trait, of which the nearest counts; only images that have one are edited.
        """
        names, x = self._read(folder)
        shown = self._shown(folder, names)
        return {name: self._edit(name, power, names, x, shown, truth) for name, power in edits.items()}

    def _edit(
        self, name: str, power: float, names: list[str], x: Tensor, shown: Tensor, truth: Path | None
    ) -> dict[str, dict]:
        trait = self.domain.traits.get(name)
        if trait is None:
            raise UserError(f"'{name}' is no trait of {self.domain.name}; there are: {', '.join(self.domain.traits)}")
        variants = sorted(path for path in (truth / name).iterdir() if path.is_dir()) if truth else []
        known = [all((variant / file).is_file() for variant in variants) for file in names]
        rows = torch.tensor(known) & (self.metrics.log_odds(x, name) < 0)
        x, shown = x[rows], shown[rows]
        files = [file for file, row in zip(names, rows.tolist(), strict=True) if row]
        true = [torch.stack([self._picture(variant, file) for file in files]) for variant in variants]
        before = self.metrics.attributes(x)
        others = [attribute != trait.attribute for attribute in self.metrics.predictor.attributes]
        results = {NOTHING: x}
        inverted = [self.sfe.invert(part) for part in x.split(BATCH)]
        for way, methods in self.ways.items():
            edited = [rounded(methods.edit(it, name, power)) for it in tqdm(inverted, f"{name}, {way}", leave=False)]
            results[way] = torch.cat(edited)
        return {
            way: {
                "pictures": len(found),
                "done": float((self.metrics.log_odds(found, name) > 0).float().mean()),
                "kept": _share((self.metrics.attributes(found) == before)[:, others], shown[:, others]),
                "truth": float(
                    torch.stack([(found - y).square().mean(dim=(1, 2, 3)) for y in true]).amin(dim=0).mean()
                ) if true else float("nan"),
            }
            for way, found in results.items()
        }  # fmt: skip

    @torch.inference_mode()
    def pictures(self, folder: Path, edits: Mapping[str, float], names: Sequence[str], output: Path) -> None:
        """`grid.png`: images, their inversions by every way, and edits by SFE; `sweep.png`: powers of each edit."""
        rows, sweeps = [], []
        for i, name in enumerate(names):
            x = self._picture(folder, name)[None]
            inversion = self.sfe.invert(x)
            found = [("picture", x)] + [(way, methods.reconstruct(x)) for way, methods in self.ways.items()]
            for edit, power in edits.items():
                found.append((f"{edit} {power:+g}", self.sfe.edit(inversion, [(edit, [power])])))
            rows.append(image_strip([(caption if i == 0 else "", to_image(y[0])) for caption, y in found], 128))
            edit, power = list(edits.items())[i % len(edits)]
            steps = [power * share for share in (-1.5, -1, -0.5, 0, 0.5, 1, 1.5)]
            swept = self.sfe.edit(inversion, [(edit, steps)])
            sweeps.append([(f"{edit} {step:+g}", to_image(y)) for step, y in zip(steps, swept, strict=True)])
        save_image(image_column(rows), output / "grid.png")
        save_image(image_column([image_strip(sweep, 128) for sweep in sweeps]), output / "sweep.png")

    def _read(self, folder: Path) -> tuple[list[str], Tensor]:
        pictures = ImageFolder(folder, self.domain.generator.size)
        return list(pictures.names), torch.stack([pictures[i] for i in range(len(pictures))])

    def _picture(self, folder: Path, name: str) -> Tensor:
        return to_tensor(resize(load_image(folder / name), self.domain.generator.size))

    def _map(self, method: Callable[[Tensor], Tensor], x: Tensor, label: str) -> Tensor:
        return torch.cat([rounded(method(part)) for part in tqdm(x.split(BATCH), label, leave=False)])

    def _shown(self, folder: Path, names: list[str]) -> Tensor:
        """Which attributes images show, as their labels tell, if they have some: B×A, bool."""
        attributes = self.metrics.predictor.attributes
        if not (folder / LABELS_FILE).is_file():
            return torch.ones(len(names), len(attributes), dtype=torch.bool)
        labels = Labels(folder).of(names)
        return torch.stack([labels[name] != HIDDEN for name in attributes], dim=1)


def _share(right: Tensor, counted: Tensor) -> float:
    return float(right[counted].float().mean())
