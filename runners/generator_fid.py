"""Compares the generators that a training kept, by the distance of their images to those of the domain."""

import json
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from arguments.domain import load_domain
from configs.paths import weight_file
from datasets.images import ImageFolder
from metrics.fid import Gaussian, frechet_distance
from models.frozen import optimize
from models.weights import load_generator, load_predictor
from training.plots import plot_curves
from utils.errors import UserError
from utils.files import atomic_path, check_apart, check_writable, numbered_files
from utils.parallel import batches

BATCH = 50
_SEED = 0


@torch.inference_mode()
def measure_generators(domain_name: str, generators: Path, images: Path, output: Path, samples: int) -> list[dict]:
    """`step` and `fid_like` of each `step_{step}.pt`, also written as fid.jsonl and fid.png. Raises UserError."""
    domain = load_domain(domain_name)
    files = numbered_files(generators, "step_", ".pt")
    if not files:
        raise UserError(f"{generators} has no step_….pt; wanted the folder `generators` of a training")
    if "predictor" not in domain.weights:
        raise UserError(f"domain {domain.name} has no weights.predictor; distances are measured in its embedding")
    folder = ImageFolder(images, domain.generator.size)
    check_writable(output / "fid.jsonl")
    check_apart([output / "fid.png"], [images / name for name in folder.names])
    predictor = load_predictor(weight_file(domain.weights["predictor"]))
    if len(folder) < 2:
        raise UserError(f"{images} has one image; a distance between sets needs two or more, better a thousand")

    def gaussian(parts: Iterable[Tensor]) -> Gaussian:
        return Gaussian.of(torch.cat([predictor.embedding(part) for part in parts]))

    real = gaussian(torch.stack([folder[i] for i in part]) for part in batches(range(len(folder)), BATCH))
    z = torch.randn(samples, domain.generator.style_dim, generator=torch.Generator().manual_seed(_SEED))
    rows = []
    for step, path in tqdm(files, "generators", unit="file", disable=None):
        generator = load_generator(path, domain.generator)
        empty = torch.empty(0, domain.generator.n_styles, domain.generator.style_dim)
        generator = optimize(generator, generator.affine(empty))
        w = generator.mapping(z)[:, None].expand(-1, domain.generator.n_styles, -1)
        fake = gaussian(generator(generator.affine(part)).clamp(-1, 1) for part in w.split(BATCH))
        rows.append({"step": step, "fid_like": frechet_distance(real, fake)})
    with atomic_path(output / "fid.jsonl") as temporary:
        temporary.write_text("".join(json.dumps(row) + "\n" for row in rows))
    plot_curves(rows, output / "fid.png")
    return rows
