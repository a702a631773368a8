"""Two inverted images combined: style mixing (some layers) and morphing (all of them)."""

import re
from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from models.inference import FSEFull, Method, inference
from models.sfe import Coarse, Inversion, decode, decode_coarse, delta
from utils.errors import UserError


@inference
def mix(
    method: Method, a: Inversion, b: Inversion, shares: Sequence[float], layers: Collection[int] | None = None
) -> Tensor:
    """Images between a and b, one for each of P shares of b: P×3×size×size.

    In the styles `layers` (None: all), w and e4e's w move from a's to b's: (1 − share)·w_a + share·w_b; the other
    styles are a's. F follows as in an edit: a's features change by delta, F_w of a's w_e4e minus F_w of the mixed one,
    through the Feature Editor (in stage 1 they are unchanged). Where all styles below F are mixed, b's features are
    changed to the same mixture, too, and F is (1 − share) · a's + share · b's. So share 0 gives a's reconstruction,
    and share 1 of all layers b's.

    Args:
        a, b: one image each.
        shares: of b, 0 to 1.
        layers: styles of W+, from 0. F is made of those below the domain's feature layer (faces: 0 to 8), which
            hold pose and shape; those above it are colours and fine texture.
    """
    n_styles = method.domain.generator.n_styles
    chosen = range(n_styles) if layers is None else layers
    share = torch.tensor(list(shares), dtype=torch.float32, device=method.device)[:, None, None]
    mixed = torch.tensor([i in chosen for i in range(n_styles)], device=method.device)[:, None]

    def between(first: Tensor, second: Tensor) -> Tensor:
        return torch.where(mixed, torch.lerp(first.float(), second.float(), share), first)

    decoder, layer = method.decoder, method.layer
    coarse = decode_coarse(decoder, decoder.affine(between(a.w, b.w)), layer)
    sources = [a, b] if all(i in chosen for i in range(layer)) else [a]
    features = [source.features.expand(len(share), -1, -1, -1) for source in sources]
    if isinstance(method, FSEFull):
        latents = [w for w in (method.complete(a).w_e4e, method.complete(b).w_e4e) if w is not None]
        edited = decode_coarse(decoder, decoder.affine(between(*latents)), layer).features
        for i, w in enumerate(latents[: len(sources)]):
            original = decode_coarse(decoder, decoder.affine(w), layer).features
            steps = zip(features[i].split(1), edited.split(1), strict=True)
            changed = [method.feature_editor(feature, delta(original, moved)) for feature, moved in steps]
            features[i] = torch.cat(changed).float()
    blend = torch.lerp(features[0], features[1], share[..., None]) if len(features) == 2 else features[0]
    images = []
    for i in range(len(share)):
        part = Coarse([style[i : i + 1] for style in coarse.styles], coarse.features[i : i + 1], coarse.rgb[i : i + 1])
        images.append(decode(decoder, blend[i : i + 1], part, layer))
    return torch.cat(images).float()


def parse_layers(text: str, n_styles: int) -> list[int]:
    """Styles from words such as `4-7`, `0-3,8` or `all`. Raises UserError for others."""
    if text.strip() == "all":
        return list(range(n_styles))
    layers: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,3})(?:-(\d{1,3}))?\s*", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last or last >= n_styles:
            raise UserError(f"layers is '{text}'; wanted numbers from 0 to {n_styles - 1}, as in 4-7 or 0-3,8, or all")
        layers.update(range(first, last + 1))
    return sorted(layers)
