"""Animations of edits: sweeps and chains of one photograph, and edited videos."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import repeat
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from configs.paths import weight_file
from models.faces.alignment import align, paste_back
from models.faces.landmarks import NoFaceError, find_landmarks
from models.faces.masks import extent_note, read_mask
from models.faces.tracking import smooth
from models.inversion_file import Photograph
from models.mixing import mix, parse_layers
from models.sfe import Edits
from models.steady import Steady
from runners.build_method import check_files
from runners.edit_options import check_mask_options
from runners.photo import InvertedPhoto, path_of
from runners.simple_runner import SimpleRunner
from utils.errors import UserError
from utils.files import check_apart
from utils.images import resize, to_image, to_tensor
from utils.parallel import batches
from utils.video import VideoInfo, check_movie_path, mp4_writer, probe, read_frames, save_gif, save_mp4

logger = logging.getLogger(__name__)

BATCH = 4  # powers at once
WRITERS = {".gif": save_gif, ".mp4": save_mp4}

Row = tuple[float, ...]  # a power of each edit


class AnimationRunner:
    """Makes animations with the method of a `SimpleRunner`. After a UserError, old files are unchanged."""

    def __init__(self, runner: SimpleRunner) -> None:
        self.runner, self.method, self.latent_editor = runner, runner.method, runner.latent_editor

    def photo(
        self, orig_img_pth: str | Path | InvertedPhoto, edits: Edits, save_pth: str | Path, frames: int = 24,
        fps: int = 12, align: bool = False, use_mask: bool = False, mask_trashold: float = 0.995,
        mask_path: str | Path | None = None,
    ) -> None:  # fmt: skip
        """Write a GIF or MP4, by the extension of `save_pth`, of edits of one photograph, which is inverted once.

        Args:
            orig_img_pth: an image file, an inversion file, or what `SimpleRunner.invert` gave.
            edits: one direction with two powers, `[("age", [-5, 5])]`, is a sweep from the first power to the second
                and back. Directions with a power each, `[("age", [5]), ("smile", [3])]`, are a chain: one after
                the other grows from 0 to its power, added to those before it.
            frames: of the whole animation, two or more.
            fps: frames a second.
            align, use_mask, mask_trashold, mask_path: as in `SimpleRunner.edit`; the animation shows the crop.
        """
        rows = timeline(edits, frames)
        self._check(edits)
        check_movie_path(save_pth, list(WRITERS))
        check_apart([save_pth], [path_of(orig_img_pth), *([mask_path] if mask_path else [])])
        mask_of = self._masks(use_mask, mask_trashold, mask_path)
        photo = self.runner.photo(orig_img_pth, align)
        names = [name for name, _ in edits]
        images = self._images(photo, names, list(dict.fromkeys(rows)), mask_of(photo))
        WRITERS[Path(save_pth).suffix.lower()]([images[row] for row in rows], save_pth, fps)

    def morph(
        self, a: str | Path | InvertedPhoto, b: str | Path | InvertedPhoto, save_pth: str | Path, layers: str = "all",
        frames: int = 24, fps: int = 12, align: bool = False,
    ) -> None:  # fmt: skip
        """Write a GIF or MP4 that morphs one photograph into another and back; see `SimpleRunner.mix`."""
        check_movie_path(save_pth, list(WRITERS))
        check_apart([save_pth], map(path_of, (a, b)))
        chosen = parse_layers(layers, self.method.domain.generator.n_styles)
        rows = timeline([("share", [0, 1])], frames)
        check_files(self.method, self.latent_editor, [], latents=True)
        first, second = self.runner.photo(a, align).inversion, self.runner.photo(b, align).inversion
        images: dict[Row, Image.Image] = {}
        for batch in tqdm(list(batches(dict.fromkeys(rows), BATCH)), "morph"):
            mixed = mix(self.method, first, second, [share for (share,) in batch], chosen)
            images.update(zip(batch, map(to_image, mixed), strict=True))
        WRITERS[Path(save_pth).suffix.lower()]([images[row] for row in rows], save_pth, fps)

    def video(
        self, video: str | Path, edits: Edits, save_pth: str | Path, use_mask: bool = False,
        mask_trashold: float = 0.995, mask_path: str | Path | None = None, steady: bool = False,
    ) -> None:  # fmt: skip
        """Write an MP4 of the edited video, with its frames' times and its sound.

        In a domain with alignment the main face of each frame is cut out, edited, and put back; its position is
        smoothed over time. In a frame without a detected face it is interpolated, or the frame stays unedited if there
        is none within half a second. In other domains the frames are squares, and are edited whole.

        The video is read twice, for the faces and for the edits, and no frame is kept, so memory does not depend on
        its length.

        Args:
            edits: directions with one power each, applied together.
            use_mask, mask_trashold, mask_path: as in `SimpleRunner.edit`, for the crop of every frame.
            steady: smooth the latents over time, too, which reduces the edit's flicker; see `models.steady`.
        """
        for name, powers in edits:
            if len(powers) != 1:
                raise UserError(f"editing '{name}': a video wants one power, as in {name}=5, not a range")
        self._check(edits)
        check_movie_path(save_pth, [".mp4"])
        check_apart([save_pth], [video, *([mask_path] if mask_path else [])])
        mask_of = self._masks(use_mask, mask_trashold, mask_path)
        info = probe(video)
        places = self._places(video, info)

        source, steadied = Photograph.of(Path(video)), Steady() if steady else None

        def edited(crop: Image.Image) -> Image.Image:
            inversion = self.method.invert(to_tensor(crop)[None])
            if steadied:
                inversion = steadied(self.method.complete(inversion))
            photo = InvertedPhoto(source, crop, inversion, self.method)
            return to_image(self.method.edit(photo.inversion, edits, mask_of(photo))[0])

        with mp4_writer(save_pth, info, video) as write:
            frames = tqdm(read_frames(video), "edits", info.count, unit="frame")
            for frame, landmarks in zip(frames, places, strict=False):  # without alignment, places are endless
                write(replace(frame, image=self._edited_frame(frame.image, landmarks, edited)))

    def _check(self, edits: Edits) -> None:
        for name, powers in edits:
            self.latent_editor.check(name, powers)
        check_files(self.method, self.latent_editor, [name for name, _ in edits])

    def _masks(self, use: bool, threshold: float, path: str | Path | None) -> Callable[[InvertedPhoto], Tensor | None]:
        """A function that makes the mask of a crop; a crop without a detected face gets the mask of the one before."""
        check_mask_options(use, threshold, path)
        given = read_mask(path) if path else None
        if given is not None and (note := extent_note(given, str(path))):
            logger.warning(note)
        last: Tensor | None = None

        def mask_of(photo: InvertedPhoto) -> Tensor | None:
            nonlocal last
            try:
                last = self.runner.mask(photo, given, threshold) if use else None
            except NoFaceError:
                if last is None:
                    raise
            return last

        return mask_of

    def _images(
        self, photo: InvertedPhoto, names: list[str], rows: list[Row], mask: Tensor | None
    ) -> dict[Row, Image.Image]:
        images: dict[Row, Image.Image] = {}
        with tqdm(total=len(rows), desc="edits", unit="image") as bar:
            for batch in batches(rows, BATCH):
                stack = list(zip(names, zip(*batch, strict=True), strict=True))
                images.update(zip(batch, map(to_image, self.method.edit(photo.inversion, stack, mask)), strict=True))
                bar.update(len(batch))
        return images

    def _places(self, video: str | Path, info: VideoInfo) -> Iterable[np.ndarray | None]:
        """The landmarks of every frame, or None where there is no face to edit."""
        domain = self.method.domain
        if domain.alignment is None:
            width, height = info.size
            if width != height:
                raise UserError(
                    f"{video}: its frames are {width}×{height}; the domain {domain.name} wants squares, crop it first"
                )
            return repeat(None)
        times: list[float] = []
        detected: list[np.ndarray | None] = []
        last: np.ndarray | None = None
        for frame in tqdm(read_frames(video), "faces", info.count, unit="frame"):
            times.append(float(frame.pts * info.time_base))
            try:
                last = find_landmarks(frame.image, weight_file("landmark"), last).astype(np.float32)
                detected.append(last)
            except NoFaceError:
                detected.append(None)
        if all(landmarks is None for landmarks in detected):
            raise UserError(
                f"{video}: no face was found in any of its {len(detected)} frames; give a video that shows one from "
                "the front and at least 80 px wide"
            )
        return smooth(times, detected)

    def _edited_frame(
        self, image: Image.Image, landmarks: np.ndarray | None, edited: Callable[[Image.Image], Image.Image]
    ) -> Image.Image:
        size = self.method.domain.generator.size
        if self.method.domain.alignment is None:
            return edited(resize(image, size)).resize(image.size, Image.Resampling.BICUBIC)
        if landmarks is None:
            return image
        face = align(image, size, landmarks)
        return paste_back(image, edited(face.image), face.quad)


def timeline(edits: Edits, frames: int) -> list[Row]:
    """The powers of all edits in each frame; see `AnimationRunner.photo`. Raises UserError for other edits."""
    if frames < 2:
        raise UserError(f"frames is {frames}; wanted 2 or more")
    counts = [len(powers) for _, powers in edits]
    if counts == [2]:
        (first, last) = edits[0][1]
        # Symmetric, so that the way back has the same powers.
        return [(first + (last - first) * 2 * min(i, frames - i) / frames,) for i in range(frames)]
    if not edits or set(counts) != {1}:
        raise UserError("edits: wanted one direction with a range of powers, or any number with one power each")
    steps = [len(edits) * i / (frames - 1) for i in range(frames)]
    return [tuple(power * min(max(step - k, 0), 1) for k, (_, (power,)) in enumerate(edits)) for step in steps]
