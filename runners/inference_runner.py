"""Invert and edit whole folders of images."""

import logging
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor
from tqdm import tqdm

from arguments.options import Config
from configs.paths import weight_file
from datasets.images import Pair, transform_size
from metrics.metric_set import MetricSet
from metrics.report import Report
from models.inversion_file import Photograph, is_inversion_file
from runners.build_method import build_method, check_files
from runners.manifest import Manifest, Stamp, stamp, time_written
from runners.metrics_runner import measure
from runners.photo import InvertedPhoto
from runners.result_files import ResultFiles, power_folder
from utils.errors import UserError
from utils.files import check_apart, check_writable, remove_temporaries
from utils.images import check_save_path, load_square, save_image, to_image, to_tensor
from utils.parallel import BoundedPool, ahead
from utils.processes import gather, own_device, rank_and_size

logger = logging.getLogger(__name__)

_UNFINISHED = 8  # images whose last results are still being written


@dataclass(frozen=True)
class _ToInvert:
    """An image that has to be inverted."""

    source: Photograph
    image: Image.Image


class InferenceRunner:
    """Writes `inversion/NAME`, `DIRECTION/edit_power_P/NAME` and `STACK/NAME` for every NAME of `data.inference_dir`.

    Images are processed one at a time: read ahead by threads, inverted once, edited by every direction in batches of
    powers, and written by threads. An image's results depend on nothing but the image, so neither an interruption nor
    the number of processes changes a byte of them. Under torchrun each process takes every
    n-th image. `exp.output_dir/manifest.jsonl` records each image's state, and which file was read: the results of
    an image that has been replaced since are made again. An `exp.output_dir` inside the folder is not read.

    Inversion files in the folder count as images. With `inference.save_latents` there is one of every image, in
    `latents/NAME.safetensors`; a later run into the same folder reads it instead of inverting the image again.

    Raises UserError for options that do not fit, or results that would overwrite an image, before any is read.
    """

    def __init__(self, config: Config) -> None:
        self.config, options = config, config.inference
        if not config.data.inference_dir:
            raise UserError("data.inference_dir is empty; wanted: the folder of the images")
        self.rank, self.processes = rank_and_size()
        config.model.device = own_device(config.model.device)
        self.method, self.latent_editor = build_method(config)
        self.size = transform_size(config.data.transform, self.method.domain.generator.size)
        self.folder = Path(config.data.inference_dir)
        self.output = Path(config.exp.root) / config.exp.output_dir
        self._check_directions()
        self._check_stacks()
        self.files = ResultFiles(self.folder, self.output, options, config.model.batch_size)
        self.names = list(self.files.outputs)[self.rank :: self.processes]
        self.reused = 0  # inversions that were read from files
        self.metrics: MetricSet | None = None
        if options.report:
            check_writable(options.report)
            check_apart([options.report], [self.folder / name for name in self.files.outputs])
            if not options.inversions:
                raise UserError("inference.report measures the inversions; it wants inference.inversions=true")
            self.metrics = MetricSet(options.report_metrics, self.method.device)

    def run(self) -> int:
        """Do what is missing. Returns the number of images that failed, over all processes.

        Raises UserError, before any image is read, if a file is missing that the edits need.
        """
        options = self.config.inference
        edits = {*options.editings_data}.union(*options.stacks.values())
        check_files(self.method, self.latent_editor, edits, latents=options.save_latents)
        manifest = Manifest(self.output / "manifest.jsonl", self._settings(), self._added_settings())
        failed: list[str] = []
        stamps = {name: stamp(self.folder / name) for name in self.names}
        pending = self._pending(manifest, stamps)
        logger.info("%d of %d images to do in this process", len(pending), len(self.names))
        unfinished: deque[tuple[str, float, list[Future[None]]]] = deque()

        def finish() -> None:
            name, seconds, writes = unfinished.popleft()
            for write in writes:
                write.result()
            manifest.done(name, stamps[name], written=len(writes), seconds=round(seconds, 4))

        workers = self.config.model.workers
        with BoundedPool(workers) as writers:
            loaded = ahead(self._load, pending, workers)
            for name, missing, image in tqdm(loaded, total=len(pending), unit="image", disable=self.rank > 0):
                if isinstance(image, UserError):
                    failed.append(str(image))
                    manifest.add(image=name, state="failed", error=str(image))
                    continue
                start = time.monotonic()
                results = self._make(name, missing, self._inverted(image))
                writes = [writers.submit(self._save, result, path) for path, result in results]
                unfinished.append((name, time.monotonic() - start, writes))
                if len(unfinished) > _UNFINISHED:
                    finish()
            while unfinished:
                finish()

        if self.reused:
            logger.info("%d of %d inversions were read from files", self.reused, len(pending))
        for error in failed:
            logger.error(error)
        failures = [error for errors in gather(failed) for error in errors]
        if self.metrics is not None:
            self._report(self.metrics, failures)
        if self.rank == 0:
            remove_temporaries(self.output)  # of killed runs
            logger.info("results: %s; %d images failed", self.output, len(failures))
            if self.files.left_out:
                logger.info(self.files.left_out)
        gather(None)  # torchrun ends all processes as soon as one exits with an error, so all wait for the first
        return len(failures)

    def _check_directions(self) -> None:
        for name, powers in self.config.inference.editings_data.items():
            self.latent_editor.check(name, powers)
            if "/" in name:
                raise UserError(f"inference.editings_data: '{name}' becomes a folder's name; leave the '/' out")
            folders = [power_folder(power) for power in powers]
            if len(set(folders)) < len(folders):
                raise UserError(f"inference.editings_data: two powers of '{name}' are equal to four decimals")

    def _check_stacks(self) -> None:
        options, editor = self.config.inference, self.latent_editor
        reserved = {"inversion", "latents", *options.editings_data}.union(*editor.available().values())
        for folder, edits in options.stacks.items():
            if folder in reserved:
                raise UserError(f"inference.stacks: '{folder}' is the folder of other results; choose another name")
            if "/" in folder or folder.startswith(".") or not folder:
                raise UserError(f"inference.stacks: '{folder}' becomes a folder's name: no '/', no '.' in front")
            if not edits:
                raise UserError(f"inference.stacks: '{folder}' is empty; wanted edits, as in {{age: 5, smile: 2}}")
            for name, power in edits.items():
                editor.check(name, [power])

    def _pending(self, manifest: Manifest, stamps: dict[str, Stamp]) -> list[tuple[str, bytes]]:
        """The images with missing results, each with a byte per result: 1 if it is missing.

        Files are written atomically, so an existing one is complete. All results of a replaced image count as missing.
        """
        pending = []
        for name in self.names:
            times = [time_written(path) for path in self.files.of(name)]
            replaced = manifest.replaced(name, stamps[name], times)
            missing = bytes(replaced or time is None for time in times)
            if any(missing):
                pending.append((name, missing))
            elif not manifest.knows(name):  # killed before its line was written, or done by an older version
                manifest.done(name, stamps[name], written=0)
        return pending

    def _settings(self) -> dict[str, str | int]:
        """What the results' bytes depend on, besides their names."""
        checkpoint, options = weight_file(self.config.model.checkpoint_path), self.config.inference
        return {
            "data.inference_dir": str(self.folder.resolve()),
            "model.checkpoint_path": str(checkpoint.resolve()),
            "checkpoint's time": checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0,
            "model.method": self.config.model.method,
            "model.dtype": self.config.model.dtype,
            "exp.domain": self.method.domain.name,
            "data.transform": self.size,
            "inference.format": options.format,
            "inference.quality": options.quality,
        }

    def _added_settings(self) -> dict[str, Any]:
        """Settings that later runs may add: the edits of each stack's folder, and an option that older runs lack."""
        options = self.config.inference
        stacks = {f"inference.stacks.{folder}": edits for folder, edits in options.stacks.items()}
        return {**stacks, "model.tf32": self.config.model.tf32}

    def _load(self, pending: tuple[str, bytes]) -> tuple[str, list[Path], InvertedPhoto | _ToInvert | UserError]:
        """Read one of `_pending`, or its saved inversion, with its missing results."""
        name, flags = pending
        path, saved = self.folder / name, self.files.latents(name)
        missing = [result for result, absent in zip(self.files.of(name), flags, strict=True) if absent]
        try:
            for result in missing:
                (check_writable if is_inversion_file(result) else check_save_path)(result)
            if is_inversion_file(name):
                return name, missing, InvertedPhoto.load(path, self.method)
            if saved.is_file():
                photo = InvertedPhoto.load(saved, self.method)
                if photo.photograph.is_still(path) and photo.crop.width == self.size:
                    return name, missing, photo
                logger.info("%s: is of another image than %s, which is inverted again", saved, path)
                saved.unlink()
                if self.config.inference.save_latents and saved not in missing:
                    missing.append(saved)
            return name, missing, _ToInvert(Photograph.of(path), load_square(path, self.size))
        except UserError as error:
            return name, missing, error

    def _inverted(self, image: InvertedPhoto | _ToInvert) -> InvertedPhoto:
        if isinstance(image, InvertedPhoto):
            self.reused += 1
            return image
        inversion = self.method.invert(to_tensor(image.image)[None])
        if self.config.inference.save_latents:
            inversion = self.method.complete(inversion)
        return InvertedPhoto(image.source, image.image, inversion, self.method)

    def _make(
        self, name: str, missing: list[Path], photo: InvertedPhoto
    ) -> Iterator[tuple[Path, Tensor | InvertedPhoto]]:
        """The missing results: images, 3×size×size, and the inversion for its file.

        Batches do not depend on what is missing, and so neither do the last bits of their results.
        """
        inversion = photo.inversion
        if self.files.latents(name) in missing:
            yield self.files.latents(name), photo
        if self.files.inversion(name) in missing:
            yield self.files.inversion(name), self.method.reconstruct(inversion)[0]
        for edits, paths in self.files.batches(name):
            if set(missing).isdisjoint(paths):
                continue
            for path, image in zip(paths, self.method.edit(inversion, edits), strict=True):
                if path in missing:
                    yield path, image

    def _save(self, result: Tensor | InvertedPhoto, path: Path) -> None:
        if isinstance(result, InvertedPhoto):
            result.save(path)
        else:
            save_image(to_image(result), path, self.config.inference.quality)

    def _report(self, metrics: MetricSet, failures: list[str]) -> None:
        """Write the report on the inversions of all processes and runs."""
        model, names = self.config.model, self.files.outputs
        all_pairs = (Pair(name, self.folder / name, self.files.inversion(name)) for name in names)
        pairs = {pair.name: pair for pair in all_pairs if pair.fake.exists()}
        errors = measure(metrics, list(pairs.values()), model.batch_size, model.workers)
        if self.rank == 0:
            facts = [f"images: {self.folder}", f"results: {self.output}", f"{model.method}: {model.checkpoint_path}"]
            options = self.config.inference
            facts += [f"{key}: {values}" for key, values in [*options.editings_data.items(), *options.stacks.items()]]
            title = f"Inference: {len(pairs)} images inverted, {len(failures)} failed"
            report = Report(
                title, metrics.columns, metrics.compute(), metrics.scores(), pairs, facts, failures + errors
            )
            report.write(Path(self.config.inference.report))
