"""Folders of pictures, and pairs of folders."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from torch import Tensor
from torch.utils.data import Dataset

from utils.errors import UserError
from utils.files import IMAGE_SUFFIXES, list_images
from utils.images import load_image, resize, to_tensor

TRANSFORMS = {"face_256": 256, "face_1024": 1024}  # name -> px


def transform_size(name: str, domain_size: int) -> int:
    """The size that `data.transform` asks for, in px; an empty name stands for the domain's own."""
    if name and name not in TRANSFORMS:
        raise UserError(f"transform is '{name}'; there are: {', '.join(TRANSFORMS)}")
    return TRANSFORMS[name] if name else domain_size


def relative_names(folder: Path) -> list[str]:
    """Sorted paths of all pictures below `folder`, relative to it, with "/" on every system.

    Raises UserError if the folder is missing or has no picture.
    """
    names = sorted(path.relative_to(folder).as_posix() for path in list_images(folder))
    if not names:
        raise UserError(f"{folder}: has no picture; wanted: files that end in {', '.join(sorted(IMAGE_SUFFIXES))}")
    return names


def output_names(names: Sequence[str], suffix: str) -> dict[str, str]:
    """Name -> name with the extension `suffix` (".jpg"), no two alike; an empty suffix changes nothing.

    Pictures that differ in nothing but the extension keep it before the new one: a.png -> a.png.jpg.
    """
    if not suffix:
        return {name: name for name in names}
    outputs = {name: str(PurePosixPath(name).with_suffix(suffix)) for name in names}
    counts = Counter(outputs.values())
    outputs = {name: output if counts[output] == 1 else name + suffix for name, output in outputs.items()}
    output, count = Counter(outputs.values()).most_common(1)[0]
    if count > 1:
        twins = " and ".join(name for name in names if outputs[name] == output)
        raise UserError(f"{twins} would both be written as {output}; rename one")
    return outputs


class ImageFolder(Dataset[Tensor]):
    """All pictures below a folder, sorted by path, as 3×size×size float32 in [-1, 1].

    Reading one raises UserError if it is damaged.
    """

    def __init__(self, folder: str | Path, size: int) -> None:
        self.folder, self.size = Path(folder), size
        self.names = relative_names(self.folder)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Tensor:
        return to_tensor(resize(load_image(self.folder / self.names[index]), self.size))


@dataclass(frozen=True)
class Pair:
    """Two files of one picture; `name` is the real one's path in its folder."""

    name: str
    real: Path
    fake: Path


@dataclass(frozen=True)
class PairedFolders:
    """The pairs of two folders, by relative path without extension, and the files without partner."""

    pairs: list[Pair]
    unpaired: list[Path]

    @classmethod
    def find(cls, real: Path, fake: Path) -> "PairedFolders":
        """Of several files with one stem, those of the same name are a pair. Raises UserError if nothing fits."""
        real_names, fake_names = relative_names(real), relative_names(fake)
        fakes = _by_stem(fake_names)
        reals = _by_stem(real_names)
        partners: dict[str, str] = {}
        for stem, names in reals.items():
            candidates = fakes.get(stem, [])
            if len(names) == len(candidates) == 1:
                partners[names[0]] = candidates[0]
            else:
                partners |= {name: name for name in names if name in candidates}
        if not partners:
            raise UserError(
                f"no picture of {fake} is named like one of {real} (relative path without extension); "
                f"the first are {fake_names[0]} and {real_names[0]}"
            )
        taken = set(partners.values())
        unpaired = [real / name for name in real_names if name not in partners]
        unpaired += [fake / name for name in fake_names if name not in taken]
        return cls([Pair(name, real / name, fake / other) for name, other in sorted(partners.items())], unpaired)


def _by_stem(names: Iterable[str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[str(PurePosixPath(name).with_suffix(""))].append(name)
    return groups
