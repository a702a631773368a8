"""Align whole folders of photographs in parallel processes."""

import logging
import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from tqdm import tqdm

from configs.paths import weight_file
from datasets.images import output_names, relative_names
from models.faces.alignment import align
from utils.errors import UserError
from utils.images import load_image, save_image

logger = logging.getLogger(__name__)
SIZE = 1024  # px, of FFHQ's crops


def align_folder(root: Path, processes: int) -> list[str]:
    """Cut the main face out of every image below `root`, by FFHQ's rule, into `{root}_crops/{relative path}.jpg`.

    Crops that are there already are left as they are, so an interrupted run goes on. Returns the failures, a line each.
    Raises UserError if there is no image, or if a process dies.
    """
    root = Path(root)
    names = output_names(relative_names(root), ".jpg")
    target = root.absolute().with_name(f"{root.absolute().name}_crops")
    jobs = [(root / name, target / output) for name, output in names.items() if not (target / output).exists()]
    logger.info("%d of %d images to align, into %s", len(jobs), len(names), target)
    failures = []
    # Started afresh, not forked: threads of the parent that hold a lock at the fork would never give it back.
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _end_with_parent) as pool:
        tasks = [pool.submit(_align, *job) for job in jobs]
        try:
            for task in tqdm(as_completed(tasks), total=len(tasks), unit="image"):
                if error := task.result():
                    failures.append(error)
        except BrokenProcessPool:
            raise UserError(
                "a process died while it aligned, perhaps for lack of memory; start again, with a lower --num_threads, "
                "to go on with the rest"
            ) from None
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return sorted(failures)


def _end_with_parent() -> None:
    """Let this process not outlive its parent; without this, a killed run would leave its processes behind."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _align(source: Path, target: Path) -> str | None:
    """Runs in a process of its own. Returns what went wrong."""
    try:
        image = load_image(source)
        try:
            crop = align(image, SIZE, predictor=weight_file("landmark")).image
        except UserError as error:
            return f"{source}: {error}"
        save_image(crop, target)
    except UserError as error:
        return str(error)
    return None
