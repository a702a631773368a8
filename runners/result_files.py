"""The files of a folder's results."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from arguments.options import InferenceArgs
from datasets.images import ImageNames, output_names
from models.inversion_file import is_inversion_file
from models.sfe import Edits
from utils.errors import UserError
from utils.files import INVERSION_SUFFIX, SAVED_SUFFIXES, check_folders_apart
from utils.parallel import batches

_ALSO = frozenset({INVERSION_SUFFIX})


class ResultFiles:
    """The images of `folder`, inversion files among them, and the files below `output` that are made of each.

    `outputs`: name -> name of its results. `left_out`: what else is in the folder; "" if nothing is.
    """

    def __init__(self, folder: Path, output: Path, options: InferenceArgs, batch_size: int) -> None:
        """Raises UserError if there is no image, or if a result would overwrite one."""
        self.folder, self.output, self.options, self.batch_size = folder, output, options, batch_size
        images = ImageNames.find(folder, without=output, also=_ALSO)
        self.outputs, self.left_out = _outputs(images.names, _suffix(options.format)), images.left_out
        self._check_apart()

    def inversion(self, name: str) -> Path:
        return self.output / "inversion" / self.outputs[name]

    def latents(self, name: str) -> Path:
        return self.output / "latents" / f"{self.outputs[name]}{INVERSION_SUFFIX}"

    def edit(self, name: str, direction: str, power: float) -> Path:
        return self.output / direction / power_folder(power) / self.outputs[name]

    def of(self, name: str) -> Iterator[Path]:
        """All result files of an image."""
        options = self.options
        if options.inversions:
            yield self.inversion(name)
        if options.save_latents and not is_inversion_file(name):
            yield self.latents(name)
        for _, results in self.batches(name):
            yield from results

    def batches(self, name: str) -> Iterator[tuple[Edits, list[Path]]]:
        """The edits that are computed together, and their result files."""
        options = self.options
        for direction, powers in options.editings_data.items():
            for batch in batches(powers, self.batch_size):
                yield [(direction, batch)], [self.edit(name, direction, power) for power in batch]
        for folder, edits in options.stacks.items():
            yield [(key, [power]) for key, power in edits.items()], [self.output / folder / self.outputs[name]]

    def _check_apart(self) -> None:
        """Check that no result would overwrite an image."""
        options, names, outputs = self.options, list(self.outputs), list(self.outputs.values())
        folders = [self.output / "inversion", *(self.output / folder for folder in options.stacks)]
        for direction, powers in options.editings_data.items():
            folders += [self.output / direction / power_folder(power) for power in powers]
        if self.output.resolve() == self.folder.resolve():
            raise UserError(f"exp.output_dir: {self.output} is data.inference_dir itself; choose another folder")
        for folder in folders:
            check_folders_apart(self.folder, names, folder, outputs, "exp.output_dir")
        if options.save_latents:
            latents = [f"{self.outputs[name]}{INVERSION_SUFFIX}" for name in names if not is_inversion_file(name)]
            check_folders_apart(self.folder, names, self.output / "latents", latents, "exp.output_dir")


def _outputs(names: list[str], suffix: str) -> dict[str, str]:
    """Name -> name of its result. An inversion file is named like its image: a.png.safetensors -> a.png."""
    shown = {name: name.removesuffix(INVERSION_SUFFIX) for name in names}
    twins = [name for name, count in Counter(shown.values()).items() if count > 1]
    if twins:
        raise UserError(f"{twins[0]} and its inversion file would have the same results; remove one of them")
    outputs = output_names(list(shown.values()), suffix)
    return {name: outputs[image] for name, image in shown.items()}


def power_folder(power: float) -> str:
    return f"edit_power_{power:.4f}"


def _suffix(image_format: str) -> str:
    """ ".png" of inference.format=png."""
    suffix = f".{image_format.lower().removeprefix('.')}" if image_format else ""
    if suffix and suffix not in SAVED_SUFFIXES:
        raise UserError(f"inference.format is '{image_format}'; there are: {', '.join(sorted(SAVED_SUFFIXES))}")
    return suffix
