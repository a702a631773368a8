"""Editing directions of a domain from its generator and its attribute predictor."""

import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor
from tqdm import tqdm

from arguments.domain import load_domain
from configs.paths import weight_file
from datasets.images import ImageFolder
from datasets.labels import Labels
from editings.discovery import boundary, channel_effects, components, conditioned, effects, purity, strength
from editings.edit import conv_layers
from models.stylegan2.generator import Styles
from models.weights import load_e4e, load_generator, load_predictor, save
from utils.errors import UserError
from utils.files import atomic_path

logger = logging.getLogger(__name__)

BATCH = 32
SHARE, POWER = 0.9, 5.0  # a boundary's power 5 gives the trait to nine of ten pictures without it, if any power can
LEAST = 0.5  # a boundary that gives it to fewer is left out
RARE = 0.01  # of the samples on the smaller side of a boundary, at least
COUNT = 20  # principal components, at most
SHIFT = 2.0  # standard deviations by which components and channels are moved to see what they do
_SEED = 0


class DirectionsRunner:
    """Finds directions for every trait of the domain and writes them to its folder of direction files.

    Each method returns the entries of one family, ready for `editings` of the domain's YAML, and writes them there as
    `{family}.yaml`.
    """

    def __init__(self, domain: str, samples: int, output_dir: Path | None = None) -> None:
        """`samples`: pictures that are drawn. Raises UserError without traits, or where weights are missing."""
        self.domain = load_domain(domain)
        if not self.domain.traits or "predictor" not in self.domain.weights:
            raise UserError(f"domain {self.domain.name} lacks traits or weights.predictor; directions come from them")
        self.folder = output_dir or weight_file(self.domain.editings_dir)
        self.generator = load_generator(weight_file(self.domain.weights["generator"]), self.domain.generator)
        self.predictor = load_predictor(weight_file(self.domain.weights["predictor"]))
        self.traits = list(self.domain.traits)
        z = torch.randn(samples, self.domain.generator.style_dim, generator=torch.Generator().manual_seed(_SEED))
        with torch.inference_mode():
            self.w = self.generator.mapping(z)  # B×D
        self.w = self.w.clone()
        self._margins: Tensor | None = None

    def boundaries(self) -> dict[str, Any]:
        """InterfaceGAN: directions in W from generated pictures, as the predictor sees them; `{trait}_w.pt`."""
        yes = self.margins() > 0
        kept = [i for i, share in enumerate(yes.float().mean(dim=0).tolist()) if RARE <= share <= 1 - RARE]
        for i in set(range(len(self.traits))) - set(kept):
            logger.warning("%s: the generator makes too few pictures with it, or without; left out", self.traits[i])
        if not kept:
            raise UserError(f"domain {self.domain.name}: no trait is seen in some of the generator's pictures, not all")
        normals = torch.stack([boundary(self.w, yes[:, i]) for i in kept])
        directions = {}
        for i, normal, move in zip(kept, normals, conditioned(normals, self.w), strict=True):
            name = f"{self.traits[i]}_w"
            without = self.w[~yes[:, i]][:256, None].expand(-1, self.domain.generator.n_styles, -1)
            largest = float((normal @ self.w.T).std()) * 6  # far beyond what is usual
            enough = self._enough(i, without, move, [largest * step / 32 for step in range(1, 33)])
            if enough is not None:
                save_tensor(2 * enough / POWER * move[None], self.folder / f"{name}.pt")  # the family halves powers
                directions[name] = {"file": f"{name}.pt", "range": [-2 * POWER, 2 * POWER]}
        return self._write("interfacegan", {"directions": directions})

    def labelled_boundaries(self, pictures: Path) -> dict[str, Any]:
        """FS boundaries: directions in W+ from pictures with labels, seen through the encoder; `{trait}.npy`."""
        names, traits = self._known_traits(pictures)
        encoder = load_e4e(weight_file(self.domain.weights["e4e"]), self.domain)
        folder, size = ImageFolder(pictures, self.domain.generator.size), self.domain.encoder_size
        places = {name: i for i, name in enumerate(folder.names)}
        latents = []
        with torch.inference_mode():
            for rows in tqdm(list(_batches(len(names))), "encoder", unit="batch", disable=None):
                x = torch.stack([folder[places[name]] for name in names[rows]])
                small = F.interpolate(x, size=(size, size), mode="bilinear", align_corners=False)
                latents.append(encoder(small) + self.generator.latent_avg)
        w = torch.cat(latents).clone()  # B×n_styles×D
        moves = effects(w.flatten(1), traits).unflatten(1, w.shape[1:])
        directions = {}
        for i, (name, move) in enumerate(zip(self.traits, moves, strict=True)):
            without = w[traits[:, i] == 0][:256]
            enough = self._enough(i, without, move, [step / 8 for step in range(1, 33)])
            if enough is not None:
                save_array(enough / POWER * move.reshape(1, -1), self.folder / f"{name}.npy")
                directions[name] = {"file": f"{name}.npy", "range": [-2 * POWER, 2 * POWER]}
        return self._write("fs_boundaries", {"directions": directions})

    def components(self) -> dict[str, Any]:
        """GANSpace: `pca.pt`, and for each trait the component and the styles that change it most purely."""
        found = components(self.w, COUNT)
        save(found, self.folder / "pca.pt")
        w, resolutions = self.w[:64], len(self.domain.generator.resolutions)
        before = self._measure(self._styles(w))
        ranges = [(2 * i, 2 * j) for i in range(resolutions) for j in range(i + 1, resolutions + 1)]
        moves = [(c, styles) for c in range(len(found["std"])) for styles in ranges]
        effects = []
        for c, (first, last) in tqdm(moves, "components", unit="move", disable=None):
            latents = w[:, None].repeat(1, self.domain.generator.n_styles, 1)
            latents[:, first:last] += SHIFT * found["std"][c] * found["comp"][c]
            effects.append((self._measure(self.generator.affine(latents)) - before).mean(dim=0))
        directions = {}
        for i, name in enumerate(self.traits):
            (component, styles), sign = self._best(moves, torch.stack(effects), i)
            directions[f"{name}_pc"] = {
                "component": component, "styles": list(styles), "range": [-3.0 * SHIFT, 3.0 * SHIFT]
            }  # fmt: skip
            logger.info("%s_pc: positive powers give %s of it", name, "more" if sign > 0 else "less")
        return self._write("ganspace", {"file": "pca.pt", "directions": directions})

    def channels(self) -> dict[str, Any]:
        """StyleSpace: for each trait the channel that changes it most purely; no files."""
        styles = self._styles(self.w[:256])
        parts = [channel_effects([s[rows] for s in styles], self._measure_once) for rows in _batches(len(styles[0]))]
        layers = conv_layers(len(styles))
        effects = [torch.stack(layer).mean(dim=0) for layer in zip(*parts, strict=True)]
        moves = [(layer, channel) for layer in layers for channel in range(len(effects[layer]))]
        flat = torch.cat([effects[layer] for layer in layers])
        directions = {}
        for i, name in enumerate(self.traits):
            tried = flat[:, i].abs().topk(16).indices  # the gradient proposes, moving decides
            chosen = [moves[k] for k in tried.tolist()]
            real = torch.stack([self._shifted(styles, *move)[0] for move in chosen])
            (layer, channel), sign = self._best(chosen, real, i)
            power = round(float(3 * SHIFT * styles[layer][:, channel].std() / 3), 2)  # the family moves by 3 a power
            directions[f"{name}_ss"] = {"channels": [[layer, channel]], "range": [-power, power]}
            logger.info("%s_ss: positive powers give %s of it", name, "more" if sign > 0 else "less")
        return self._write("stylespace", {"directions": directions})

    def margins(self) -> Tensor:
        """Log odds of every trait in the samples, B×T."""
        if self._margins is None:
            self._margins = self._measure(self._styles(self.w), "samples")
        return self._margins

    def _known_traits(self, pictures: Path) -> tuple[list[str], Tensor]:
        """Pictures with labels, as many as there are samples, and their traits: 1, 0, or NaN where one is hidden."""
        rows = Labels(pictures).rows
        names = list(rows)[: len(self.w)]
        known = [[rows[name].get(trait.attribute) for trait in self.domain.traits.values()] for name in names]
        wanted = [trait.values for trait in self.domain.traits.values()]
        numbers = [
            [math.nan if value is None else float(value in yes) for value, yes in zip(row, wanted, strict=True)]
            for row in known
        ]
        return names, torch.tensor(numbers)

    def _enough(self, trait: int, without: Tensor, move: Tensor, powers: list[float]) -> float | None:
        """The power that gives the trait to SHARE of pictures without it, or the one that gives it to most of them.

        without: latents B×n_styles×D; move: D or n_styles×D.
        """

        def measured(power: float) -> Tensor:
            return self._measure(self.generator.affine(without + power * move))

        name, found = self.traits[trait], strength(lambda power: measured(power)[:, trait], SHARE, powers)
        power = powers[-1] if found is None else found
        after, before = measured(power), measured(0)
        share, moved = float((after[:, trait] > 0).float().mean()), (after - before).mean(dim=0)
        logger.info("%s: %.0f %% get it; log odds move by %s", name, 100 * share, self._readable(moved))
        if share < LEAST:
            logger.warning("%s: no power gives it to %.0f %% of pictures; left out", name, 100 * LEAST)
            return None
        return power

    def _shifted(self, styles: Styles, layer: int, channel: int) -> Tensor:
        """What a shift of one channel does to the traits, 1×T."""
        some = [style[:64].clone() for style in styles]
        before = self._measure(some)
        some[layer][:, channel] += SHIFT * styles[layer][:, channel].std()
        return (self._measure(some) - before).mean(dim=0, keepdim=True)

    def _best(self, moves: list, effects: Tensor, trait: int) -> tuple[Any, float]:
        """The move that does most to a trait and least to others, and the sign of what it does."""
        best = int((purity(effects, trait) * effects[:, trait].abs()).argmax())
        logger.info("%s: %s moves log odds by %s", self.traits[trait], moves[best], self._readable(effects[best]))
        return moves[best], float(effects[best, trait].sign())

    def _styles(self, w: Tensor) -> Styles:
        return self.generator.affine(w[:, None].expand(-1, self.domain.generator.n_styles, -1))

    @torch.inference_mode()
    def _measure(self, styles: Styles, progress: str = "") -> Tensor:
        """Log odds of every trait, B×T."""
        rows = tqdm(list(_batches(len(styles[0]))), progress, unit="batch", disable=None if progress else True)
        return torch.cat([self._measure_once([style[part] for style in styles]) for part in rows]).clone()

    def _measure_once(self, styles: Styles) -> Tensor:
        logits = self.predictor(self.generator(styles).clamp(-1, 1))
        traits = self.domain.traits.values()
        return torch.stack([self.predictor.odds(logits, trait.attribute, trait.values) for trait in traits], dim=1)

    def _readable(self, effects: Tensor) -> str:
        return ", ".join(f"{name} {value:+.1f}" for name, value in zip(self.traits, effects.tolist(), strict=True))

    def _write(self, family: str, entries: dict[str, Any]) -> dict[str, Any]:
        path = self.folder / f"{family}.yaml"
        with atomic_path(path) as temporary:
            temporary.write_text(yaml.safe_dump({family: entries}, sort_keys=False, default_flow_style=None))
        logger.info("wrote %s; it belongs under `editings` of the domain's YAML", path)
        return entries


def save_tensor(tensor: Tensor, path: Path) -> None:
    """One tensor, as direction files are."""
    with atomic_path(path) as temporary:
        torch.save(tensor.contiguous(), temporary)


def save_array(tensor: Tensor, path: Path) -> None:
    """One array of float32, as FS boundaries are."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.save(file, tensor.numpy())


def _batches(count: int) -> Iterator[slice]:
    return (slice(i, i + BATCH) for i in range(0, count, BATCH))
