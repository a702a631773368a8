"""Align whole folders of photographs in parallel processes."""

import logging
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from tqdm import tqdm

from datasets.images import ImageNames, output_names
from runners.alignment_worker import SIZE, align_file, end_with_parent
from runners.manifest import Manifest, stamp, time_written
from utils.errors import UserError
from utils.files import check_folders_apart, check_writable

logger = logging.getLogger(__name__)


def align_folder(root: Path, processes: int, output: Path | None = None) -> tuple[list[str], str]:
    """Cut the main face out of every image below `root`, by FFHQ's rule, into `{output}/{relative path}.jpg`.

    `output`: None means `{root}_crops`. Existing crops are kept, so an interrupted run continues, but crops of images
    that have been replaced since are made again: `{output}.jsonl` records what was read.

    Returns the failures, a line each, and what else is in the folder ("" if nothing is). Raises UserError if there
    is no image, if the crops cannot be written or would overwrite an image, or if a process dies.
    """
    target = output.absolute() if output else _beside(root)
    images = ImageNames.find(root, without=target)
    names = output_names(images.names, ".jpg")
    if target.resolve() == root.resolve():
        raise UserError(f"--output_dir: {target} is --root_path itself; choose another folder")
    check_folders_apart(root, names, target, list(names.values()), "--output_dir")
    record = target.with_name(f"{target.name}.jsonl")
    check_writable(record)
    check_writable(target / "crop.jpg")

    manifest = Manifest(record, {"size": SIZE})
    stamps = {name: stamp(root / name) for name in names}
    jobs = {}
    for name, crop in names.items():
        time = time_written(target / crop)
        if time is None or manifest.replaced(name, stamps[name], [time]):
            jobs[name] = (root / name, target / crop)
        elif not manifest.knows(name):
            manifest.done(name, stamps[name])
    logger.info("%d of %d images to align, into %s", len(jobs), len(names), target)
    failures = []
    # Spawned, not forked: locks that the parent's threads hold at the fork would never be released.
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), end_with_parent) as pool:
        tasks = {pool.submit(align_file, *job): name for name, job in jobs.items()}
        try:
            for task in tqdm(as_completed(tasks), total=len(tasks), unit="image"):
                error, note = task.result()
                if error:
                    failures.append(error)
                else:
                    manifest.done(tasks[task], stamps[tasks[task]])
                if note:
                    logger.warning(note)
        except BrokenProcessPool:
            raise UserError(
                "a process died while it aligned, perhaps for lack of memory; start again, with a lower --num_threads, "
                "to continue with the rest"
            ) from None
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return sorted(failures), images.left_out


def _beside(root: Path) -> Path:
    """`{root}_crops`, also of a root such as `..` or `.`."""
    folder = root.resolve() if ".." in root.parts else root.absolute()
    if not folder.name:
        raise UserError(f"--root_path: {root} has no name to call the crops' folder after; name one by --output_dir")
    return folder.with_name(f"{folder.name}_crops")
