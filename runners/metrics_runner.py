"""Metrics over folders: of pairs of images, and the editing metric over CelebA-HQ."""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from statistics import pstdev
from typing import TypeVar

import torch
from torch import Tensor
from tqdm import tqdm

from datasets.celeba import CelebaAttributes
from datasets.images import Pair, PairedFolders, relative_names, transform_size
from metrics.base import View
from metrics.fid import FID, Gaussian
from metrics.metric_set import MetricSet, Sample
from metrics.report import Report
from utils.devices import resolve_device
from utils.errors import UserError
from utils.files import atomic_path, check_apart, check_writable
from utils.images import load_image
from utils.parallel import ahead, batches
from utils.processes import gather, own_device, rank_and_size

logger = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass
class Results:
    """The results of a run over pairs, the same in all processes."""

    means: dict[str, float]  # column -> number over the set
    scores: dict[str, dict[str, float]]  # column -> pair -> number
    problems: list[str] = field(default_factory=list)  # unpaired and unreadable files, a line each
    skipped: dict[str, list[str]] = field(default_factory=dict)  # metric -> pairs it cannot measure
    left_out: list[str] = field(default_factory=list)  # a line for each folder that holds something else

    def lines(self) -> list[str]:
        """For the console."""
        lines = []
        for column, mean in self.means.items():
            if column in self.scores:
                spread = pstdev(self.scores[column].values())
                lines.append(f"Average {column.upper()} loss is {mean:.3f}+-{spread:.3f}")
            else:
                lines.append(f"{column.upper()} is {mean:.3f}")
        return lines

    def write(self, folder: Path) -> None:
        """`{COLUMN}.json` with {pair: number}, or with {COLUMN: number} where single pairs have none."""
        for column, mean in self.means.items():
            content = self.scores.get(column, {column.upper(): mean})
            with atomic_path(folder / f"{column.upper()}.json") as temporary:
                temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def calculate_metrics(
    orig_path: Path, reconstr_path: Path, metrics: Sequence[str], batch_size: int = 4, workers: int = 4,
    device: str = "0", fid_stats: Path | None = None, save_fid_stats: Path | None = None,
    metrics_dir: Path | None = None, report: Path | None = None, title: str = "Metrics",
) -> Results:  # fmt: skip
    """Measure the pairs of two folders, in one pass for all metrics; under torchrun distributed over the processes.

    Args:
        fid_stats: file of statistics that replace the original images in FID.
        save_fid_stats: file for those of the original images, for later runs.
        metrics_dir: folder for the numbers of every pair.
        report: HTML file.

    Unpaired and unreadable files are left out and listed in `Results.problems`. Raises UserError for bad options,
    missing weights, or if no pair is left.
    """
    for path in (save_fid_stats, report, metrics_dir and metrics_dir / "L2.json"):
        if path is not None:
            check_writable(path)
            check_apart([path], [fid_stats] if fid_stats else [])
    if (fid_stats or save_fid_stats) and "fid" not in metrics:
        raise UserError("--fid_stats and --save_fid_stats are for the metric fid only; add it to --metrics")
    folders = PairedFolders.find(orig_path, reconstr_path)
    images = [path for pair in folders.pairs for path in (pair.real, pair.fake)]
    for written in filter(None, (save_fid_stats, report)):
        check_apart([written], images)
    metrics_set = MetricSet(metrics, resolve_device(own_device(device)))
    fid = metrics_set.metrics.get("fid")
    if isinstance(fid, FID) and fid_stats is not None:
        fid.reference = Gaussian.load(fid_stats)

    unreadable = measure(metrics_set, folders.pairs, batch_size, workers)
    if len(unreadable) == len(folders.pairs):
        raise UserError(f"no pair of {orig_path} and {reconstr_path} can be read; the first: {unreadable[0]}")
    problems = [f"{path}: has no partner in the other folder" for path in folders.unpaired] + unreadable
    results = Results(metrics_set.compute(), metrics_set.scores(), problems, metrics_set.skipped(), folders.left_out)
    if rank_and_size()[0] == 0:
        if metrics_dir is not None:
            results.write(metrics_dir)
        if isinstance(fid, FID) and save_fid_stats is not None:
            fid.reference_statistics().save(save_fid_stats)
        if report is not None:
            facts = [f"original: {orig_path}", f"reconstructed: {reconstr_path}"]
            facts += [f"{name}: {len(pairs)} pairs without a face" for name, pairs in results.skipped.items()]
            by_name = {pair.name: pair for pair in folders.pairs}
            Report(title, metrics_set.columns, results.means, results.scores, by_name, facts, problems).write(report)
    gather(None)  # torchrun ends all processes as soon as one exits with an error, so all wait for the first
    return results


def measure(metrics: MetricSet, pairs: Sequence[Pair], batch_size: int, workers: int) -> list[str]:
    """Add the pairs; under torchrun each process measures a part, and all get all results.

    Returns the errors of the pairs that cannot be read, sorted.
    """

    def read(pair: Pair) -> Sample | UserError:
        try:
            return metrics.read(pair)
        except UserError as error:
            return error

    share, errors = _share(pairs), list[str]()
    samples = _progress(ahead(read, share, workers), len(share))
    for batch in batches(_good(samples, errors), batch_size):
        metrics.add(batch)
    metrics.reduce()
    return sorted(line for lines in gather(errors) for line in lines)


def editing_fid(
    orig_path: Path | None, synt_path: Path, attr_name: str, attr_table: Path, attr_is_reversed: bool = False,
    transforms: str = "face_1024", batch_size: int = 4, workers: int = 4, device: str = "0",
    fid_stats: Path | None = None, save_fid_stats: Path | None = None,
) -> tuple[float, list[str]]:  # fmt: skip
    """FID between the originals with an attribute and the edits of the images without it.

    `attr_is_reversed`: between those without it and the edits of those with it, for edits that remove it.
    `fid_stats` replaces the originals. Returns the distance and the problems, a line each.

    Raises UserError for bad options, missing weights, or if fewer than two images of a set are left.
    """
    outputs = [save_fid_stats] if save_fid_stats else []
    for output in outputs:
        check_writable(output)
    check_apart(outputs, filter(None, [fid_stats, attr_table]))
    attributes = CelebaAttributes(attr_table, attr_name)
    size = transform_size(transforms, 1024)
    view = View(size)
    fid = FID(resolve_device(own_device(device)), Gaussian.load(fid_stats) if fid_stats else None)
    if fid.reference is None and orig_path is None:
        raise UserError("--orig_path is missing; wanted: it, or --fid_stats")

    problems: list[str] = []
    sets = [(synt_path, attr_is_reversed, fid.add_fake)]
    if fid.reference is None and orig_path is not None:
        sets.append((orig_path, not attr_is_reversed, fid.add_real))
    listings = [[folder / name for name in relative_names(folder)] for folder, _, _ in sets]
    check_apart(outputs, chain(*listings))
    for (_, wanted, add), listing in zip(sets, listings, strict=True):
        paths = []
        for path in _share(listing):
            has = attributes.has(path)
            if has is None:
                problems.append(f"{path}: is not in {attr_table}")
            elif has == wanted:
                paths.append(path)

        def read(path: Path) -> Tensor | UserError:
            try:
                return view(load_image(path))
            except UserError as error:
                return error

        images = _progress(ahead(read, paths, workers), len(paths))
        for batch in batches(_good(images, problems), batch_size):
            add(torch.stack(batch))
    for rank, state in enumerate(gather(fid.state())):
        if rank != rank_and_size()[0]:
            fid.merge(state)
    value = fid.compute()["fid"]
    if save_fid_stats is not None and rank_and_size()[0] == 0:
        fid.reference_statistics().save(save_fid_stats)
    return value, sorted(line for lines in gather(problems) for line in lines)


def _share(items: Sequence[T]) -> Sequence[T]:
    """This process's part."""
    rank, size = rank_and_size()
    return items[rank::size]


def _progress(items: Iterator[T], total: int) -> Iterator[T]:
    return iter(tqdm(items, total=total, unit="image", disable=rank_and_size()[0] > 0))


def _good(items: Iterator[T | UserError], errors: list[str]) -> Iterator[T]:
    """The items; errors go to the list."""
    for item in items:
        if isinstance(item, UserError):
            errors.append(str(item))
        else:
            yield item
