"""Editing directions of a domain from its generator and its attribute predictor."""

import logging
import math
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import yaml
from torch import Tensor
from tqdm import tqdm

from arguments.domain import load_domain
from configs.paths import weight_file
from datasets.images import ImageFolder
from datasets.labels import Labels
from datasets.recipes import FAMILIES, read_recipes
from datasets.scores import Scores
from editings.fs_boundaries import FSBoundaries
from editings.interfacegan import InterfaceGAN
from editings.search import POWER, SHIFT, DirectionSearch, batches, score_move
from editings.stylespace import StyleSpace
from models.weights import load_e4e, load_generator, load_predictor, save
from utils.errors import UserError
from utils.files import atomic_path, check_apart

logger = logging.getLogger(__name__)

_SEED = 0
_RANGE = (-2 * POWER, 2 * POWER)  # of a boundary's power
_SHIFTS = 3 * SHIFT  # standard deviations: the range of components and channels


class DirectionsRunner:
    """Finds directions for every trait of the domain and writes them to its folder of direction files.

    Each method returns the entries of one family, ready for `editings` of the domain's YAML, and writes them to
    `{family}.yaml` in that folder.
    """

    def __init__(self, domain: str, samples: int, output_dir: Path | None = None) -> None:
        """`samples`: how many w are drawn. Raises UserError where the generator's weights are missing."""
        self.domain = load_domain(domain)
        self.folder = output_dir or weight_file(self.domain.editings_dir)
        self.samples = samples
        self.generator = load_generator(weight_file(self.domain.weights["generator"]), self.domain.generator)

    @cached_property
    def search(self) -> DirectionSearch:
        """By the attribute predictor. Raises UserError without traits, or where the predictor is missing."""
        if not self.domain.traits or "predictor" not in self.domain.weights:
            raise UserError(f"domain {self.domain.name} lacks traits or weights.predictor; directions come from them")
        predictor = load_predictor(weight_file(self.domain.weights["predictor"]))
        z = torch.randn(self.samples, self.generator.config.style_dim, generator=torch.Generator().manual_seed(_SEED))
        with torch.inference_mode():
            w = self.generator.mapping(z)
        return DirectionSearch(self.generator, predictor, self.domain.traits, w.clone())

    def boundaries(self) -> dict[str, Any]:
        """InterfaceGAN: directions in W from generated images, as the predictor sees them; `{trait}_w.pt`."""
        directions = {}
        for trait, move in self.search.boundaries().items():
            name = f"{trait}_w"
            InterfaceGAN.save(move, self.folder / f"{name}.pt")
            directions[name] = {"file": f"{name}.pt", "range": list(_RANGE)}
        return self._write("interfacegan", {"directions": directions})

    def labelled_boundaries(self, images: Path) -> dict[str, Any]:
        """FS boundaries: directions in W+ from labelled images, inverted by the encoder; `{trait}.npy`."""
        names, labels = self._labels(images)
        directions = {}
        for trait, move in self.search.labelled_boundaries(self._invert(images, names), labels).items():
            FSBoundaries.save(move, self.folder / f"{trait}.npy")
            directions[trait] = {"file": f"{trait}.npy", "range": list(_RANGE)}
        return self._write("fs_boundaries", {"directions": directions})

    def components(self) -> dict[str, Any]:
        """GANSpace: `pca.pt`, and for each trait the component and the styles that change it most purely."""
        pca, components = self.search.components()
        save(pca, self.folder / "pca.pt")
        directions = {
            f"{trait}_pc": {"component": component, "styles": list(styles), "range": [-_SHIFTS, _SHIFTS]}
            for trait, (component, styles) in components.items()
        }
        return self._write("ganspace", {"file": "pca.pt", "directions": directions})

    def channels(self) -> dict[str, Any]:
        """StyleSpace: for each trait the channel that changes it most purely; no files."""
        directions = {}
        for trait, (layer, channel, std) in self.search.channels().items():
            power = round(_SHIFTS * std / StyleSpace.STEP, 2)
            directions[f"{trait}_ss"] = {"channels": [[layer, channel]], "range": [-power, power]}
        return self._write("stylespace", {"directions": directions})

    def from_scores(self, recipes: Path, images: Path) -> dict[str, Any]:
        """Directions in W by recipes of what they do to the scores that the images were drawn from.

        Each is written to the files of its recipe's family.
        """
        check_apart((self.folder / f"{family}.yaml" for family in FAMILIES), [recipes])
        scores = Scores(images, self.domain.generator.style_dim)
        families: dict[str, dict[str, Any]] = {}
        for name, recipe in read_recipes(recipes).items():
            move = score_move(self.generator.mapping, recipe, scores, self.samples)
            file = name.replace(" ", "_")
            if recipe.family == "interfacegan":
                InterfaceGAN.save(move, self.folder / f"{file}.pt")
            else:
                FSBoundaries.save(move.expand(self.domain.generator.n_styles, -1), self.folder / f"{file}.npy")
            suffix = "pt" if recipe.family == "interfacegan" else "npy"
            entry = {"file": f"{file}.{suffix}", "range": list(recipe.range)}
            families.setdefault(recipe.family, {})[name] = entry
        return {family: self._write(family, {"directions": entries}) for family, entries in families.items()}

    def _labels(self, images: Path) -> tuple[list[str], Tensor]:
        """As many labelled images as there are samples, and their traits: 1, 0, or NaN where one is hidden."""
        rows = Labels(images).rows
        names, traits = list(rows)[: self.samples], self.domain.traits.values()
        values = [[rows[name].get(trait.attribute) for trait in traits] for name in names]
        labels = [
            [math.nan if value is None else float(value in trait.values)
             for value, trait in zip(row, traits, strict=True)]
            for row in values
        ]  # fmt: skip
        return names, torch.tensor(labels)

    @torch.inference_mode()
    def _invert(self, images: Path, names: list[str]) -> Tensor:
        """The encoder's latents, B×n_styles×D."""
        encoder = load_e4e(weight_file(self.domain.weights["e4e"]), self.domain)
        folder, size = ImageFolder(images, self.domain.generator.size), self.domain.encoder_size
        index = {name: i for i, name in enumerate(folder.names)}
        missing = [name for name in names if name not in index]
        if missing:
            raise UserError(f"{images}: its labels name {missing[0]}, which is not there; {len(missing)} are missing")
        latents = []
        for rows in tqdm(list(batches(len(names))), "encoder", unit="batch", disable=None):
            x = torch.stack([folder[index[name]] for name in names[rows]])
            x = F.interpolate(x, size=(size, size), mode="bilinear", align_corners=False)
            latents.append(encoder(x) + self.generator.latent_avg)
        return torch.cat(latents)

    def _write(self, family: str, entries: dict[str, Any]) -> dict[str, Any]:
        path = self.folder / f"{family}.yaml"
        with atomic_path(path) as temporary:
            temporary.write_text(yaml.safe_dump({family: entries}, sort_keys=False, default_flow_style=None))
        logger.info("wrote %s; it belongs under `editings` of the domain's YAML", path)
        return entries
