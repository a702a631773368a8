"""What the processes of `alignment_runner` run. It imports no torch, so that they start fast and stay small."""

import multiprocessing
import os
import threading
from pathlib import Path

from configs.paths import weight_file
from models.faces.alignment import align, turned_note
from utils.errors import UserError
from utils.images import load_image, save_image

SIZE = 1024  # px, of FFHQ's crops


def end_with_parent() -> None:
    """End this process with its parent; otherwise a killed run would leave its processes behind."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def align_file(source: Path, target: Path) -> tuple[str, str]:
    """Cut the main face out of an image file. Returns an error and a note; "" for none."""
    try:
        image = load_image(source)
        try:
            crop = align(image, SIZE, predictor=weight_file("landmark"))
        except UserError as error:
            return f"{source}: {error}", ""
        save_image(crop.image, target)
    except UserError as error:
        return str(error), ""
    return "", turned_note(source, crop)
