"""How directions are found: boundaries of traits in W and W+, principal components, and channels of StyleSpace."""

import logging
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from arguments.domain import Trait
from datasets.recipes import Recipe
from datasets.scores import Scores, on_sphere
from editings.edit import conv_layers
from models.predictor import Predictor
from models.stylegan2.generator import Generator, Styles
from utils.errors import UserError

logger = logging.getLogger(__name__)

BATCH = 32
TARGET_SHARE, POWER = 0.9, 5.0  # power 5 of a boundary gives the trait to 90 % of the images without it, if possible
MIN_SHARE = 0.5  # a boundary is left out if no power gives the trait to this share of images
MIN_FREQUENCY = 0.01  # of the samples that must be on either side of a boundary
N_COMPONENTS = 20  # at most
SHIFT = 2.0  # standard deviations by which components and channels are moved to measure their effects
_MEASURED = 64  # samples on which components and channels are measured
_EDITED = 256  # samples on which the power of a boundary is measured
_CANDIDATES = 16  # channels that are moved, of those with the largest gradients

T = TypeVar("T")
LogOdds = Callable[[Styles], Tensor]  # styles of B images -> the log odds of each trait, B×T


class DirectionSearch:
    """Searches for directions that change the traits of a domain, as measured by its attribute predictor."""

    def __init__(
        self, generator: Generator, predictor: Predictor, traits: Mapping[str, Trait], w: Tensor
    ) -> None:
        """w: samples of the generator's W, B×D."""
        self.generator, self.predictor, self.traits, self.w = generator, predictor, traits, w
        self.names = list(traits)

    def boundaries(self) -> dict[str, Tensor]:
        """InterfaceGAN: trait -> the move in W of a unit of power, D. Traits without a usable boundary are left out.

        Raises UserError if every trait is.
        """
        has_trait = self.log_odds(self._styles(self.w), "samples") > 0  # B×T
        kept = self._separable(has_trait.float(), "samples of the generator")
        normals = torch.stack([boundary(self.w, has_trait[:, i]) for i in kept])
        moves = {}
        for i, normal, move in zip(kept, normals, conditioned(normals, self.w), strict=True):
            without = self.w[~has_trait[:, i]][:_EDITED, None].expand(-1, self.generator.config.n_styles, -1)
            largest = float((normal @ self.w.T).std()) * 6  # far beyond what is usual
            strength = self._strength(i, without, move, [largest * step / 32 for step in range(1, 33)])
            if strength is not None:
                moves[self.names[i]] = strength / POWER * move
        return moves

    def labelled_boundaries(self, w: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """FS boundaries: trait -> the move in W+ of a unit of power, n_styles×D; left out as in `boundaries`.

        w: latents of labelled images, B×n_styles×D. labels: B×T, 1 or 0, or NaN where a trait is hidden.
        """
        kept, moves = self._separable(labels, "labelled images"), {}
        for i, move in zip(kept, effects(w.flatten(1), labels[:, kept]).unflatten(1, w.shape[1:]), strict=True):
            without = w[labels[:, i] == 0][:_EDITED]
            strength = self._strength(i, without, move, [step / 8 for step in range(1, 33)])
            if strength is not None:
                moves[self.names[i]] = strength / POWER * move
        return moves

    def _separable(self, labels: Tensor, what: str) -> list[int]:
        """The traits that enough of B have and enough lack, of labels B×T (1, 0 or NaN). UserError if none is."""
        shares = labels.nanmean(dim=0).tolist()
        kept = [i for i, share in enumerate(shares) if MIN_FREQUENCY <= share <= 1 - MIN_FREQUENCY]  # NaN: all hidden
        for i in set(range(len(self.names))) - set(kept):
            logger.warning("%s: too few %s have it, or lack it; left out", self.names[i], what)
        if not kept:
            raise UserError(f"no trait is present in some of the {what}, but not all; there is nothing to separate")
        return kept

    def components(self) -> tuple[dict[str, Tensor], dict[str, tuple[int, tuple[int, int]]]]:
        """GANSpace: the components of W, and trait -> the component and styles (first, end) that change it best."""
        pca = principal_components(self.w, N_COMPONENTS)
        w, resolutions = self.w[:_MEASURED], len(self.generator.config.resolutions)
        before = self.log_odds(self._styles(w))
        ranges = [(2 * i, 2 * j) for i in range(resolutions) for j in range(i + 1, resolutions + 1)]
        moves = [(c, styles) for c in range(len(pca["std"])) for styles in ranges]
        changes = []
        for c, (first, end) in tqdm(moves, "components", unit="move", disable=None):
            latents = w[:, None].repeat(1, self.generator.config.n_styles, 1)
            latents[:, first:end] += SHIFT * pca["std"][c] * pca["comp"][c]
            changes.append((self.log_odds(self.generator.affine(latents)) - before).mean(dim=0))
        return pca, {name: self._purest(moves, torch.stack(changes), i) for i, name in enumerate(self.names)}

    def channels(self) -> dict[str, tuple[int, int, float]]:
        """StyleSpace: trait -> layer and channel that change it most purely, and the channel's standard deviation."""
        styles = self._styles(self.w[:256])
        parts = [channel_effects([s[rows] for s in styles], self._log_odds) for rows in batches(len(styles[0]))]
        slopes = [torch.stack(layer).mean(dim=0) for layer in zip(*parts, strict=True)]
        layers = conv_layers(len(styles))
        moves = [(layer, channel) for layer in layers for channel in range(len(slopes[layer]))]
        flat = torch.cat([slopes[layer] for layer in layers])  # moves×T
        channels = {}
        for i, name in enumerate(self.names):
            # Gradients propose channels; moving them decides.
            tried = [moves[k] for k in flat[:, i].abs().topk(_CANDIDATES).indices.tolist()]
            changes = torch.stack([self.channel_change(styles, *move) for move in tried])
            layer, channel = self._purest(tried, changes, i)
            channels[name] = layer, channel, float(styles[layer][:, channel].std())
        return channels

    def channel_change(self, styles: Styles, layer: int, channel: int) -> Tensor:
        """How much each trait's log odds change when a channel moves by SHIFT standard deviations: T."""
        moved = [style[:_MEASURED].clone() for style in styles]
        before = self.log_odds(moved)
        moved[layer][:, channel] += SHIFT * styles[layer][:, channel].std()
        return (self.log_odds(moved) - before).mean(dim=0)

    @torch.inference_mode()
    def log_odds(self, styles: Styles, progress: str = "") -> Tensor:
        """Of every trait, B×T. `progress`: the title of a progress bar, if there is to be one."""
        parts = tqdm(list(batches(len(styles[0]))), progress, unit="batch", disable=None if progress else True)
        return torch.cat([self._log_odds([style[rows] for style in styles]) for rows in parts]).clone()

    def _log_odds(self, styles: Styles) -> Tensor:
        logits = self.predictor(self.generator(styles).clamp(-1, 1))
        traits = self.traits.values()
        return torch.stack([self.predictor.log_odds(logits, trait.attribute, trait.values) for trait in traits], dim=1)

    def _styles(self, w: Tensor) -> Styles:
        return self.generator.affine(w[:, None].expand(-1, self.generator.config.n_styles, -1))

    def _strength(self, trait: int, without: Tensor, move: Tensor, multiples: list[float]) -> float | None:
        """The multiple of a move that gives the trait to TARGET_SHARE of the images without it, or to most of them.

        None if the largest gives it to less than MIN_SHARE. without: latents B×n_styles×D; move: D or n_styles×D.
        """

        def after(multiple: float) -> Tensor:
            return self.log_odds(self.generator.affine(without + multiple * move))

        strength = smallest_power(lambda multiple: after(multiple)[:, trait], TARGET_SHARE, multiples) or multiples[-1]
        log_odds = after(strength)
        share, change = float((log_odds[:, trait] > 0).float().mean()), (log_odds - after(0)).mean(dim=0)
        name = self.names[trait]
        logger.info("%s: %.0f %% get it; log odds change by %s", name, 100 * share, self._readable(change))
        if share < MIN_SHARE:
            logger.warning("%s: no power gives it to %.0f %% of images; left out", name, 100 * MIN_SHARE)
            return None
        return strength

    def _purest(self, moves: Sequence[T], changes: Tensor, trait: int) -> T:
        """The move that changes a trait most and others least. changes: log odds, moves×T."""
        best = int((purity(changes, trait) * changes[:, trait].abs()).argmax())
        name, change = self.names[trait], self._readable(changes[best])
        logger.info("%s: a positive power of %s changes log odds by %s", name, moves[best], change)
        return moves[best]

    def _readable(self, changes: Tensor) -> str:
        return ", ".join(f"{name} {value:+.1f}" for name, value in zip(self.names, changes.tolist(), strict=True))


def score_move(mapping: Callable[[Tensor], Tensor], recipe: Recipe, scores: Scores, samples: int) -> Tensor:
    """The move in w of a unit of power, D: the mean difference of w at the two ends of a recipe's change of scores.

    mapping: z B×D → w B×D, of a generator that was trained on images of known scores. Raises UserError for a recipe
    whose scores the images were not drawn from.
    """
    random = torch.Generator().manual_seed(0)
    before = torch.randn(samples, len(scores.columns), generator=random)
    free = torch.randn(samples, scores.dim - len(scores.columns), generator=random)
    after = before.clone()
    for name, change in recipe.changes.items():
        if name not in scores.columns:
            raise UserError(f"a recipe changes '{name}', but {scores.path} has only {', '.join(scores.columns)}")
        column = scores.columns.index(name)
        before[:, column], after[:, column] = change.between(before[:, column])
    with torch.inference_mode():
        difference = mapping(on_sphere(after, free)) - mapping(on_sphere(before, free))
    return difference.mean(dim=0).clone() / recipe.power


def boundary(w: Tensor, has_trait: Tensor, decay: float = 1e-3) -> Tensor:
    """The normal of the plane between w with a trait and without (InterfaceGAN, arXiv 1907.10786), D.

    By logistic regression in which both sides have the same weight. w: B×D; has_trait: B, bool; decay: of the L2
    penalty.
    """
    mean, std = w.mean(dim=0), w.std(dim=0)
    x, target = (w - mean) / std, has_trait.to(w.dtype)
    weight = torch.where(has_trait, 0.5 / target.mean(), 0.5 / (1 - target).mean())
    normal = torch.zeros(w.shape[1], requires_grad=True)
    bias = torch.zeros((), requires_grad=True)
    optimizer = torch.optim.LBFGS([normal, bias], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.binary_cross_entropy_with_logits(x @ normal + bias, target, weight) + decay * normal.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    return normal.detach() / std


def conditioned(normals: Tensor, w: Tensor) -> Tensor:
    """For each boundary, the move that crosses it and runs along all others, T×D.

    Of all such moves it is the most usual among w (B×D): the shortest in units of their covariance. This is conditional
    manipulation (InterfaceGAN) for any number of traits. normals: T×D; moves are scaled to unit effect.
    """
    covariance = torch.cov(w.T)
    moves = covariance @ normals.T  # D×T
    return torch.linalg.solve(normals @ moves, moves, left=False).T


def effects(latents: Tensor, labels: Tensor) -> Tensor:
    """What each trait adds to the latents while the others stay, by least squares: T×D.

    latents: B×D; labels: B×T, 1 where an image has the trait, 0 where not, NaN where that is unknown.
    """
    centred = (labels - labels.nanmean(dim=0)).nan_to_num()
    return torch.linalg.lstsq(centred, latents - latents.mean(dim=0)).solution


def smallest_power(log_odds: Callable[[float], Tensor], share: float, powers: Sequence[float]) -> float | None:
    """The smallest of rising powers that gives the trait to this share of images; None if none does.

    log_odds(power): the trait's, of images that lack it, B. The share is assumed to grow with the power.
    """
    index = bisect_left(powers, True, key=lambda power: bool((log_odds(power) > 0).float().mean() >= share))
    return powers[index] if index < len(powers) else None


def principal_components(w: Tensor, count: int) -> dict[str, Tensor]:
    """GANSpace (arXiv 2004.02546) of w B×D: `mean` 1×D, `comp` count×1×D and their standard deviations `std`."""
    mean = w.mean(dim=0)
    _, values, directions = torch.linalg.svd(w - mean, full_matrices=False)
    std = values[:count] / (len(w) - 1) ** 0.5
    return {"mean": mean[None], "comp": directions[:count, None], "std": std}


def channel_effects(styles: Styles, log_odds: LogOdds) -> list[Tensor]:
    """How much each trait's log odds grow with a channel, per standard deviation, to first order: C×T for each layer.

    StyleSpace (arXiv 2011.12799) ranks channels by such gradients; here they are those of the attribute predictor.
    """
    leaves = [style.detach().requires_grad_(True) for style in styles]
    totals = log_odds(leaves).sum(dim=0)  # T
    per_trait = []
    for i in range(len(totals)):
        gradients = torch.autograd.grad(totals[i], leaves, retain_graph=i < len(totals) - 1)
        per_trait.append([gradient.mean(dim=0) * leaf.detach().std(dim=0)
                          for gradient, leaf in zip(gradients, leaves, strict=True)])  # fmt: skip
    return [torch.stack(layer, dim=1) for layer in zip(*per_trait, strict=True)]


def purity(changes: Tensor, trait: int) -> Tensor:
    """The share of one trait in all that moves (…×T) change: 0 to 1."""
    changes = changes.abs()
    return changes[..., trait] / (changes.sum(dim=-1) + 1e-8)


def batches(count: int) -> Iterator[slice]:
    """The rows of each batch."""
    return (slice(i, i + BATCH) for i in range(0, count, BATCH))
