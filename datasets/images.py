"""Folders of images, and pairs of folders."""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from torch import Tensor
from torch.utils.data import Dataset

from utils.errors import UserError
from utils.files import IMAGE_SUFFIXES, SAVED_SUFFIXES, find_images
from utils.images import load_square, to_tensor
from utils.processes import rank_and_size

logger = logging.getLogger(__name__)

TRANSFORMS = {"face_256": 256, "face_1024": 1024}  # name -> px


def transform_size(name: str, domain_size: int) -> int:
    """The size that `data.transform` asks for, in px; an empty name means the domain's."""
    if name and name not in TRANSFORMS:
        raise UserError(f"transform is '{name}'; there are: {', '.join(TRANSFORMS)}")
    return TRANSFORMS[name] if name else domain_size


@dataclass(frozen=True)
class ImageNames:
    """Sorted paths of all images below a folder, relative to it, with "/" on every system.

    `left_out` says what else is there, and why it is left out; "" if nothing is.
    """

    names: list[str]
    left_out: str

    @classmethod
    def find(
        cls, folder: Path, without: Path | None = None, also: frozenset[str] = frozenset()
    ) -> "ImageNames":
        """`without`: a folder that is left out, since results are written there; `also`: see `find_images`.

        Raises UserError if the folder is missing or has no image.
        """
        listing = find_images(folder, without, also)
        names = sorted(path.relative_to(folder).as_posix() for path in listing.paths)
        if not names:
            fault = f"has no image, but {listing.left_out}" if listing.left_out else "has no image"
            raise UserError(f"{folder}: {fault}; wanted: files that end in {', '.join(sorted(IMAGE_SUFFIXES))}")
        return cls(names, f"{folder}: left out {listing.left_out}" if listing.left_out else "")


def relative_names(folder: Path, also: frozenset[str] = frozenset()) -> list[str]:
    """The names of `ImageNames.find`; what is left out goes to the log."""
    images = ImageNames.find(folder, also=also)
    if images.left_out and rank_and_size()[0] == 0:
        logger.info(images.left_out)
    return images.names


def output_names(names: Sequence[str], suffix: str) -> dict[str, str]:
    """Name -> name of its result, with the extension `suffix` (".jpg"), no two alike.

    An empty suffix keeps each image's, or means .png for formats that are not written (.gif). Images that
    differ in nothing but the extension keep it before the new one: a.png -> a.png.jpg.
    """
    wanted = {name: suffix or _saved(PurePosixPath(name).suffix) for name in names}
    outputs = {name: str(PurePosixPath(name).with_suffix(ending)) for name, ending in wanted.items()}
    counts = Counter(outputs.values())
    outputs = {name: out if counts[out] == 1 or (out == name and not suffix) else name + wanted[name]
               for name, out in outputs.items()}  # fmt: skip
    output, count = Counter(outputs.values()).most_common(1)[0]
    if count > 1:
        twins = " and ".join(name for name in names if outputs[name] == output)
        raise UserError(f"{twins} would both be written as {output}; rename one")
    return outputs


def _saved(suffix: str) -> str:
    return suffix if suffix.lower() in SAVED_SUFFIXES else ".png"


class ImageFolder(Dataset[Tensor]):
    """All images below a folder, sorted by path, as 3×size×size float32 in [-1, 1].

    Reading one raises UserError if it is damaged.
    """

    def __init__(self, folder: str | Path, size: int) -> None:
        self.folder, self.size = Path(folder), size
        self.names = relative_names(self.folder)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Tensor:
        return to_tensor(load_square(self.folder / self.names[index], self.size))


@dataclass(frozen=True)
class Pair:
    """Two files of one image; `name` is the real one's path in its folder."""

    name: str
    real: Path
    fake: Path


@dataclass(frozen=True)
class PairedFolders:
    """The pairs of two folders, by relative path without extension, and the files without partner.

    `left_out`: a line for each folder that holds something else than images.
    """

    pairs: list[Pair]
    unpaired: list[Path]
    left_out: list[str]

    @classmethod
    def find(cls, real: Path, fake: Path) -> "PairedFolders":
        """Raises UserError if nothing fits.

        Of several files with one stem, those of the same name are a pair, and those that `output_names` would make of
        each other: a.png and a.png.jpg.
        """
        folders = [ImageNames.find(folder) for folder in (real, fake)]
        real_names, fake_names = (images.names for images in folders)
        fakes = _by_stem(fake_names)
        reals = _by_stem(real_names)
        partners: dict[str, str] = {}
        for stem, names in reals.items():
            candidates = fakes.get(stem, [])
            for name in names:
                whole = fakes.get(name, []) if name not in reals else []
                if name in candidates:
                    partners[name] = name
                elif len(whole) == 1:
                    partners[name] = whole[0]
                elif len(names) == len(candidates) == 1:
                    partners[name] = candidates[0]
        if not partners:
            raise UserError(
                f"no image of {fake} is named like one of {real} (relative path without extension); "
                f"the first are {fake_names[0]} and {real_names[0]}"
            )
        paired = set(partners.values())
        unpaired = [real / name for name in real_names if name not in partners]
        unpaired += [fake / name for name in fake_names if name not in paired]
        pairs = [Pair(name, real / name, fake / other) for name, other in sorted(partners.items())]
        return cls(pairs, unpaired, [images.left_out for images in folders if images.left_out])


def _by_stem(names: Iterable[str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[str(PurePosixPath(name).with_suffix(""))].append(name)
    return groups
