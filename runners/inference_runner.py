"""Invert and edit whole folders of pictures."""

import logging
import re
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from tqdm import tqdm

from arguments.options import Config
from configs.paths import weight_file
from datasets.images import output_names, relative_names, transform_size
from runners.build import build_method
from runners.manifest import Manifest
from utils.errors import UserError
from utils.files import IMAGE_SUFFIXES
from utils.images import check_save_path, load_image, resize, save_image, to_image, to_tensor
from utils.parallel import BoundedPool, ahead
from utils.processes import gather, own_device, rank_and_size

logger = logging.getLogger(__name__)

# Published runner name -> the method it stands for.
RUNNERS = {"fse_inference_runner": "fse_full", "fse_inverter_inference_runner": "fse_inverter"}
_TEMPORARY = re.compile(r"\.[0-9a-f]{16}\.\w+")  # as utils.files.atomic_path names its files
_UNFINISHED = 8  # pictures that wait for their last results to be written


@dataclass(frozen=True)
class Job:
    """One picture and where its results go."""

    name: str  # relative to data.inference_dir
    source: Path
    inversion: Path | None
    edits: dict[tuple[str, float], Path]  # by direction and power

    def missing(self) -> list[Path]:
        """Results that are not there yet. Files appear whole, so one that is there is right."""
        targets = [*self.edits.values(), *([self.inversion] if self.inversion else [])]
        return [path for path in targets if not path.exists()]


class InferenceRunner:
    """Writes `inversion/NAME` and `DIRECTION/edit_power_P/NAME` for every picture NAME of `data.inference_dir`.

    Pictures pass one at a time: read by threads ahead of the computing, inverted once, edited by every direction in
    batches of powers, written by threads behind it. A picture's results depend on nothing but the picture, so neither
    an interrupted run nor the number of processes changes a byte of them. Under torchrun each process takes every
    n-th picture. `exp.output_dir/manifest.jsonl` records each picture's state.

    Raises UserError for options that do not fit, before any picture is read.
    """

    def __init__(self, config: Config) -> None:
        self.config, options = config, config.inference
        wanted = RUNNERS.get(options.inference_runner)
        if wanted is None:
            raise UserError(
                f"inference.inference_runner is '{options.inference_runner}'; there are: {', '.join(RUNNERS)}"
            )
        if config.model.method != wanted:
            raise UserError(f"{options.inference_runner} wants model.method={wanted}; it is '{config.model.method}'")
        if not config.data.inference_dir:
            raise UserError("data.inference_dir is empty; wanted: the folder of the pictures")
        self.rank, self.processes = rank_and_size()
        config.model.device = own_device(config.model.device)
        self.method = build_method(config)
        self.size = transform_size(config.data.transform, self.method.domain.generator.size)
        self.folder = Path(config.data.inference_dir)
        self.output = Path(config.exp.root) / config.exp.output_dir
        self._check_directions()
        self.jobs = self._jobs()

    def run(self) -> int:
        """Do what is missing. Returns the number of pictures that failed, over all processes."""
        manifest = Manifest(self.output / "manifest.jsonl", self._settings())
        failed: list[str] = []
        pending = self._pending(manifest)
        logger.info("%d of %d pictures to do in this process", len(pending), len(self.jobs))
        unfinished: deque[tuple[Job, float, list[Future[None]]]] = deque()

        def finish() -> None:
            job, seconds, writes = unfinished.popleft()
            for write in writes:
                write.result()
            manifest.add(image=job.name, state="done", written=len(writes), seconds=round(seconds, 4))

        workers = self.config.model.workers
        with BoundedPool(workers) as writers:
            pictures = ahead(self._load, pending, workers)
            for job, picture in tqdm(pictures, total=len(pending), unit="picture", disable=self.rank > 0):
                if isinstance(picture, UserError):
                    failed.append(str(picture))
                    manifest.add(image=job.name, state="failed", error=str(picture))
                    continue
                start = time.monotonic()
                writes = [writers.submit(self._save, image, path) for path, image in self._make(job, picture)]
                unfinished.append((job, time.monotonic() - start, writes))
                if len(unfinished) > _UNFINISHED:
                    finish()
            while unfinished:
                finish()

        for error in failed:
            logger.error(error)
        failures = sum(gather(len(failed)))
        if self.rank == 0:
            self._remove_temporaries()
            logger.info("results: %s; %d pictures failed", self.output, failures)
        gather(None)  # torchrun ends all processes as soon as one leaves with an error: nobody leaves before the first
        return failures

    def _check_directions(self) -> None:
        for name, powers in self.config.inference.editings_data.items():
            self.method.latent_editor.check(name, powers)
            if "/" in name:
                raise UserError(f"inference.editings_data: '{name}' becomes a folder's name; leave the '/' out")
            folders = [_power_folder(power) for power in powers]
            if len(set(folders)) < len(folders):
                raise UserError(f"inference.editings_data: two powers of '{name}' are alike to four decimals")

    def _jobs(self) -> list[Job]:
        """This process's pictures."""
        options = self.config.inference
        suffix = f".{options.format.lower().removeprefix('.')}" if options.format else ""
        if suffix and suffix not in IMAGE_SUFFIXES:
            raise UserError(f"inference.format is '{options.format}'; there are: {', '.join(sorted(IMAGE_SUFFIXES))}")
        outputs = output_names(relative_names(self.folder), suffix)
        jobs = []
        for name in list(outputs)[self.rank :: self.processes]:
            edits = {
                (direction, power): self.output / direction / _power_folder(power) / outputs[name]
                for direction, powers in options.editings_data.items()
                for power in powers
            }
            inversion = self.output / "inversion" / outputs[name] if options.inversions else None
            jobs.append(Job(name, self.folder / name, inversion, edits))
        return jobs

    def _pending(self, manifest: Manifest) -> list[Job]:
        pending = [job for job in self.jobs if job.missing()]
        for name in {job.name for job in self.jobs} - {job.name for job in pending}:
            if manifest.states.get(name) != "done":  # killed between its last result and its line
                manifest.add(image=name, state="done", written=0)
        return pending

    def _settings(self) -> dict[str, str | int]:
        """What the bytes of the results depend on, besides their own names."""
        checkpoint, options = weight_file(self.config.model.checkpoint_path), self.config.inference
        return {
            "data.inference_dir": str(self.folder.resolve()),
            "model.checkpoint_path": str(checkpoint.resolve()),
            "checkpoint's time": checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0,
            "exp.domain": self.method.domain.name,
            "data.transform": self.size,
            "inference.format": options.format,
            "inference.quality": options.quality,
        }

    def _load(self, job: Job) -> tuple[Job, Tensor | UserError]:
        try:
            for path in job.missing():
                check_save_path(path)
            return job, to_tensor(resize(load_image(job.source), self.size))
        except UserError as error:
            return job, error

    def _make(self, job: Job, picture: Tensor) -> Iterator[tuple[Path, Tensor]]:
        """The missing results, 3×size×size. Batches are the same whatever is missing, and so are their last bits."""
        inversion = self.method.invert(picture[None])
        if job.inversion and not job.inversion.exists():
            yield job.inversion, self.method.reconstruct(inversion)[0]
        for direction, powers in self.config.inference.editings_data.items():
            for start in range(0, len(powers), self.config.model.batch_size):
                batch = powers[start : start + self.config.model.batch_size]
                missing = [not job.edits[direction, power].exists() for power in batch]
                if any(missing):
                    images = self.method.edit(inversion, direction, batch)
                    for power, image, wanted in zip(batch, images, missing, strict=True):
                        if wanted:
                            yield job.edits[direction, power], image

    def _save(self, image: Tensor, path: Path) -> None:
        save_image(to_image(image), path, self.config.inference.quality)

    def _remove_temporaries(self) -> None:
        """What killed runs left half written; nobody writes any more."""
        for path in self.output.rglob(".*"):
            if _TEMPORARY.fullmatch(path.name):
                path.unlink(missing_ok=True)


def _power_folder(power: float) -> str:
    return f"edit_power_{power:.4f}"
