"""Edit single photographs."""

import logging
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from arguments.loader import merge, read_yaml
from arguments.options import Config
from configs.paths import ROOT, weight_file
from models.faces.alignment import align as align_face
from models.faces.alignment import paste_back, turned_note
from models.faces.landmarks import find_faces, read_landmarks
from models.faces.masks import MASK_PARTS, background_probability, extent_note, read_mask, save_mask_images
from models.inversion_file import Photograph, is_inversion_file
from models.mixing import mix, parse_layers
from models.sfe import Inversion
from runners.build_method import build_method, check_files
from runners.edit_options import check_face_options, check_mask_options, edit_pairs, edit_steps
from runners.photo import InvertedPhoto, path_of
from utils.drawing import TILE, image_strip
from utils.errors import UserError
from utils.files import INVERSION_SUFFIX, check_apart
from utils.images import check_save_path, load_image, resize, save_image, squash_note, to_image, to_tensor

logger = logging.getLogger(__name__)

CONFIG = ROOT / "configs" / "simple_inference.yaml"


class SimpleRunner:
    """Inverts and edits photographs, one at a time, by the method of its config.

    Args:
        editor_ckpt_pth: weights of the trained part; None takes `model.checkpoint_path` of the config.
        simple_config_pth: YAML with domain and method.
        device: "cpu", "0", "cuda:1"; None takes `model.device` of the config. A missing GPU gives the CPU.

    Files are loaded at their first use, so a wrong weight file is reported at the first image. Raises UserError.
    """

    def __init__(
        self, editor_ckpt_pth: str | Path | None = None, simple_config_pth: str | Path = CONFIG,
        device: str | None = None,
    ) -> None:  # fmt: skip
        model = {"checkpoint_path": editor_ckpt_pth and str(editor_ckpt_pth), "device": device}
        given = {"model": {key: value for key, value in model.items() if value is not None}}
        path = Path(simple_config_pth)
        config = merge(Config, [(str(path), read_yaml(path)), ("SimpleRunner", given)])
        self.method, self.latent_editor = build_method(config)

    def available_editings(self) -> dict[str, dict[str, tuple[float, float]]]:
        """Family -> direction -> (lowest, highest) useful power."""
        return self.latent_editor.available()

    def invert(
        self, orig_img_pth: str | Path, align: bool = False, face: int | None = None,
        landmarks: str | Path | None = None,
    ) -> InvertedPhoto:  # fmt: skip
        """Read a photograph and invert it; with `align`, the crop around a face.

        That is the largest one, number `face` from left to right (from 1), or the one in the file `landmarks`
        (see `read_landmarks`). An inversion file (.safetensors) is read; with `align` it must have been made with it.
        """
        path = Path(orig_img_pth)
        check_face_options(align, face, landmarks, is_inversion_file(path))
        points = read_landmarks(landmarks) if landmarks else None
        if is_inversion_file(path):
            return self._check_own(InvertedPhoto.load(path, self.method), align)
        photo, source = load_image(path), Photograph.of(path)
        if not align:
            if note := squash_note(path, photo):
                logger.warning(note)
            crop = resize(photo, self.method.domain.generator.size)
            return InvertedPhoto(source, crop, self._invert(crop), self.method)
        if face is not None:
            faces, _ = self.faces(photo, path)
            if face > len(faces):
                raise UserError(f"{path}: shows {len(faces)} faces, counted from left to right; face is {face}")
            points = faces[face - 1]
        return self.aligned(photo, source, points)

    def faces(self, photo: Image.Image, path: Path) -> tuple[list[np.ndarray], int]:
        """As `find_faces`; the error names the file."""
        try:
            return find_faces(photo, weight_file("landmark"))
        except UserError as error:
            raise UserError(f"{path}: {error}") from None

    def aligned(self, photo: Image.Image, source: Photograph, landmarks: np.ndarray | None) -> InvertedPhoto:
        """The crop around a face, by its landmarks (None: those of the largest), inverted. Raises UserError."""
        domain = self.method.domain
        if domain.alignment is None:
            raise UserError(f"align: images of the domain {domain.name} are not aligned; leave align out")
        try:
            face = align_face(photo, domain.generator.size, landmarks, weight_file("landmark"))
        except UserError as error:
            raise UserError(f"{source.path}: {error}") from None
        if note := turned_note(source.path, face):
            logger.warning(note)
        return InvertedPhoto(source, face.image, self._invert(face.image), self.method, face.quad, photo)

    def photo(self, orig_img_pth: str | Path | InvertedPhoto, align: bool = False) -> InvertedPhoto:
        """The result of `invert` for a file; an inverted photograph itself, if it was made with the same weights."""
        if not isinstance(orig_img_pth, InvertedPhoto):
            return self.invert(orig_img_pth, align)
        return self._check_own(orig_img_pth, align)

    def _check_own(self, photo: InvertedPhoto, align: bool) -> InvertedPhoto:
        if photo.method is not self.method:
            self.method.origin.check(photo.method.origin, photo.path)
        if align and photo.quad is None:
            raise UserError(f"align: {photo.path} was inverted without it; use invert(…, align=True)")
        return photo

    def reconstruct(self, photo: InvertedPhoto) -> Image.Image:
        """The inversion's image, from which every edit starts."""
        return to_image(self.method.reconstruct(photo.inversion)[0])

    def edit(
        self, orig_img_pth: str | Path | InvertedPhoto, editing_name: str | None = None,
        edited_power: float | None = None, save_pth: str | Path | None = None, align: bool = False,
        use_mask: bool = False, mask_trashold: float = 0.995, mask_path: str | Path | None = None,
        save_e4e: bool = False, save_inversion: bool = False, save_strip: bool = False,
        edits: Sequence[tuple[str, float]] | None = None, save_latents: bool = False, face: int | None = None,
        landmarks: str | Path | None = None,
    ) -> Image.Image:  # fmt: skip
        """Edit a photograph; the edited image (the crop, with `align`) is returned and written to `save_pth`.

        Args:
            orig_img_pth: an image file; or the result of `invert`, or an inversion file, which need no inversion.
            editing_name: a direction, see `available_editings`.
            edited_power: its power; 0 changes nothing.
            save_pth: the result's file; its extension sets the format. Beside it are written, if requested,
                {stem}_aligned.jpg and {stem}_unaligned.jpg (with `align`: the crop, and the whole photograph with the
                edited crop in it), {stem}_inversion.jpg, {stem}_e4e_inversion.jpg, {stem}_e4e_edit.jpg,
                {stem}_strip.jpg, {stem}.safetensors, and the mask's images, named after the photograph. None writes
                nothing.
            align: cut out the largest face first; for a photograph that is not an aligned crop.
            use_mask: leave the background unedited. `mask_trashold`, 0 to 1, is the probability of background from
                which on a pixel is left unedited; `mask_path` is a mask of your own instead, white = leave unedited.
            save_e4e: write also the results of e4e alone.
            save_inversion: write also the inversion.
            save_strip: write also the crop, the inversion and the edited image side by side.
            edits: several directions with their powers, instead of `editing_name` and `edited_power`: their latent
                moves are summed.
            save_latents: write also the inversion file, which later edits can use instead of the photograph.
            face, landmarks: which face is cut out, as in `invert`.

        Raises UserError, before anything is computed, for bad options, images, masks, directions and powers, for
        files that are missing, and where a result would overwrite the photograph or the mask.
        """
        pairs = edit_pairs(editing_name, edited_power, edits)
        for name, power in pairs:
            self.latent_editor.check(name, [power])
        check_mask_options(use_mask, mask_trashold, mask_path)
        check_face_options(align, face, landmarks, isinstance(orig_img_pth, InvertedPhoto))
        files = [] if isinstance(orig_img_pth, InvertedPhoto) else [Path(orig_img_pth)]
        inverted = None if files and not is_inversion_file(files[0]) else self.photo(orig_img_pth, align)
        path = inverted.path if inverted else files[0]
        wanted = {
            "_aligned": align, "_unaligned": align, "_inversion": save_inversion, "_strip": save_strip,
            "_e4e_inversion": save_e4e, "_e4e_edit": save_e4e,
        }  # fmt: skip
        suffixes = [suffix for suffix, is_wanted in wanted.items() if is_wanted]
        if save_pth is not None:
            check_save_path(save_pth)
            written = [Path(save_pth), *(_beside(save_pth, suffix) for suffix in suffixes)]
            written += [Path(save_pth).parent / f"{path.stem}_{part}.jpg" for part in MASK_PARTS if use_mask]
            written += [Path(save_pth).with_suffix(INVERSION_SUFFIX)] if save_latents else []
            check_apart(written, [path, *files, *(given for given in (mask_path, landmarks) if given)])
        own_mask = read_mask(mask_path) if mask_path else None
        if own_mask is not None and (note := extent_note(own_mask, str(mask_path))):
            logger.warning(note)
        check_files(self.method, self.latent_editor, [name for name, _ in pairs], save_e4e)
        photo = inverted or self.invert(path, align, face, landmarks)
        if align and save_pth is not None:
            photo.original()  # fails before anything is computed if it has been removed
        mask = self.mask(photo, own_mask, mask_trashold) if use_mask else None
        edited = self.edited(photo, pairs, mask)
        if save_pth is not None:
            images = self._images_beside(photo, pairs, edited, suffixes)
            save_image(edited, save_pth)
            for suffix, image in images.items():
                save_image(image, _beside(save_pth, suffix))
            if save_latents:
                photo.save(Path(save_pth).with_suffix(INVERSION_SUFFIX))
            if mask is not None:
                save_mask_images(photo.path.stem, Path(save_pth).parent, photo.crop, mask)
        return edited

    def edited(
        self, photo: InvertedPhoto, edits: Sequence[tuple[str, float]], mask: Tensor | None = None
    ) -> Image.Image:
        """The crop after all the edits, pairs of direction and power, at once; `mask`: from the method `mask`."""
        return to_image(self.method.edit(photo.inversion, edit_steps(edits), mask)[0])

    def _images_beside(
        self, photo: InvertedPhoto, edits: Sequence[tuple[str, float]], edited: Image.Image, suffixes: Sequence[str]
    ) -> dict[str, Image.Image]:
        """The images that `edit` writes beside the edited one, by the suffix of their file names."""
        inversion = cache(lambda: self.reconstruct(photo))
        text = ", ".join(f"{name} {power:g}" for name, power in edits)
        makers: dict[str, Callable[[], Image.Image]] = {
            "_aligned": lambda: photo.crop,
            "_unaligned": lambda: photo.put_back(edited),
            "_inversion": inversion,
            "_strip": lambda: image_strip(
                [("before", photo.crop), ("inversion", inversion()), (text, edited)],
                max(TILE, photo.crop.width),  # none is scaled down
            ),
            "_e4e_inversion": lambda: to_image(self.method.e4e_images(photo.inversion)[0]),
            "_e4e_edit": lambda: to_image(self.method.e4e_images(photo.inversion, edit_steps(edits))[0]),
        }
        return {suffix: makers[suffix]() for suffix in suffixes}

    def edit_faces(
        self, orig_img_pth: str | Path, edits: Sequence[tuple[str, float]], save_pth: str | Path | None = None,
        use_mask: bool = False, mask_trashold: float = 0.995,
    ) -> Image.Image:  # fmt: skip
        """Edit every upright face of a photograph from left to right and put it back; returns the whole photograph.

        Each is cut out of the result of the one before, since crops of neighbours overlap. As `edit`, but without
        further files.
        """
        pairs = edit_pairs(None, None, edits)
        for name, power in pairs:
            self.latent_editor.check(name, [power])
        check_mask_options(use_mask, mask_trashold, None)
        path = Path(orig_img_pth)
        if save_pth is not None:
            check_save_path(save_pth)
            check_apart([save_pth], [path])
        check_files(self.method, self.latent_editor, [name for name, _ in pairs], False)
        whole, source = load_image(path), Photograph.of(path)
        for points in tqdm(self.faces(whole, path)[0], "faces", disable=None):
            photo = self.aligned(whole, source, points)
            mask = self.mask(photo, None, mask_trashold) if use_mask else None
            assert photo.quad is not None
            whole = paste_back(whole, self.edited(photo, pairs, mask), photo.quad)
        if save_pth is not None:
            save_image(whole, save_pth)
        return whole

    def mix(
        self, a: str | Path | InvertedPhoto, b: str | Path | InvertedPhoto, layers: str = "all", share: float = 0.5,
        save_pth: str | Path | None = None, align: bool = False,
    ) -> Image.Image:  # fmt: skip
        """An image between two, by style mixing or morphing in w and F; see `models.mixing.mix`.

        Args:
            a, b: image files, inversion files, or results of `invert`.
            layers: the styles that are mixed, as in "4-7" or "0-3,8"; the others are a's. Of 18 (faces), low ones hold
                pose and shape, high ones colours. "all" is a morph.
            share: of b, 0 to 1. 0 is the inversion of a, 1 of all layers that of b.
            save_pth: the result's file; None writes nothing.
            align: cut out the largest face of both first.

        Raises UserError, before anything is written.
        """
        if not 0 <= share <= 1:
            raise UserError(f"share is {share}; wanted 0 (a alone) to 1 (b alone)")
        chosen = parse_layers(layers, self.method.domain.generator.n_styles)
        if save_pth is not None:
            check_save_path(save_pth)
            check_apart([save_pth], map(path_of, (a, b)))
        check_files(self.method, self.latent_editor, [], latents=True)
        first, second = self.photo(a, align), self.photo(b, align)
        mixed = to_image(mix(self.method, first.inversion, second.inversion, [share], chosen)[0])
        if save_pth is not None:
            save_image(mixed, save_pth)
        return mixed

    def _invert(self, crop: Image.Image) -> Inversion:
        return self.method.invert(to_tensor(crop)[None])

    def mask(self, photo: InvertedPhoto, given: Tensor | None, threshold: float) -> Tensor:
        """1×1×H×W in [0, 1], 1 where the image is left unedited."""
        if given is not None:
            return given[None, None]
        if photo.background is None:
            paths = weight_file("farl_path"), weight_file("mobile_net_pth"), weight_file("landmark")
            photo.background = background_probability(photo.crop, self.method.device, *paths)
        mask = (photo.background >= threshold).to(torch.float32)[None, None]
        if note := extent_note(mask, f"{photo.path}: the mask of mask_trashold {threshold:g}"):
            logger.warning(note)
        return mask


def _beside(save_pth: str | Path, suffix: str) -> Path:
    return Path(save_pth).with_name(f"{Path(save_pth).stem}{suffix}.jpg")
