"""DeltaEdit (Lyu et al., arXiv 2303.06285): a network moves StyleSpace by a difference in CLIP's space."""

import logging
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from configs.paths import weight_file
from editings.clip_text import ClipEncoder
from editings.edit import Edit, conv_layers
from editings.files import check_shape, read_array, wrong_content
from editings.mapping import input_dim, mapping_network
from editings.text_edit import TextFamily
from models.stylegan2.generator import Styles
from models.weights import read_tensors
from utils.errors import UserError

logger = logging.getLogger(__name__)


class DeltaMapper(nn.Module):
    """For each of the coarse, medium and fine channels: embed the styles, embed the condition, join both.

    A level's channels are read as rows as wide as its network (3×512, 4×512 and 1×2464 for faces).

    Args:
        sizes: level -> its channels, in order.
    """

    def __init__(self, tensors: Mapping[str, Tensor], sizes: Mapping[str, int], path: Path) -> None:
        super().__init__()
        self.sizes = dict(sizes)
        self.networks = nn.ModuleDict(
            {
                f"{part}_{level}": mapping_network(tensors, f"{part}_{level}.mapping", path)
                for part in ("sm", "cm", "fm")
                for level in sizes
            }
        )
        for level, size in sizes.items():
            width = input_dim(self._network("sm", level))
            if size % width:
                raise wrong_content(path, f"a {level} network of {width} features", f"a divisor of {size} channels")
        self.condition_dim = input_dim(self._network("cm", next(iter(sizes))))

    def _network(self, part: str, level: str) -> nn.Sequential:
        network = self.networks[f"{part}_{level}"]
        assert isinstance(network, nn.Sequential)
        return network

    def forward(self, s: Tensor, condition: Tensor) -> Tensor:
        """s B×C (all conv channels), condition B×condition_dim → the move of s, B×C."""
        moves = []
        for level, channels in zip(self.sizes, s.split(list(self.sizes.values()), dim=1), strict=True):
            styles, conditions, join = (self._network(part, level) for part in ("sm", "cm", "fm"))
            n_rows = channels.shape[1] // input_dim(styles)
            embedded = conditions(condition)  # B×width
            # PixelNorm normalises dimension 1: the rows, or the features where a level is one row, as for the
            # condition. So the condition is repeated only after its network, and a single row stays B×width.
            if n_rows > 1:
                channels = channels.reshape(len(s), n_rows, -1)  # B×rows×width
                embedded = embedded[:, None].expand(-1, n_rows, -1)
            moves.append(join(torch.cat([styles(channels), embedded], dim=-1)).flatten(1))
        return torch.cat(moves, dim=1)


class DeltaEditMove:
    """p · DeltaMapper(s, [image embedding, text direction]); toRGB and the masked channels do not move."""

    def __init__(self, mapper: DeltaMapper, clip: ClipEncoder, text: Tensor, keep: Tensor) -> None:
        self.mapper = mapper
        self.clip = clip
        self.text = text  # E, norm 1
        self.keep = keep  # C, 1 for channels to move and 0 for the others

    def __call__(self, latent: Styles, power: Tensor, image: Tensor | None) -> Styles:
        if image is None:
            raise ValueError("DeltaEdit reads the image itself: pass it as `image`")
        convs = conv_layers(len(latent))
        s = torch.cat([latent[i] for i in convs], dim=1)  # B×C
        embedding = self.clip.image(image).to(s).expand(len(s), -1)
        condition = torch.cat([embedding, self.text.expand(len(s), -1)], dim=1)
        move = power[:, None] * self.keep * self.mapper(s, condition)
        moves = [torch.zeros_like(style) for style in latent]
        for layer, part in zip(convs, move.split([latent[i].shape[1] for i in convs], dim=1), strict=True):
            moves[layer] = part
        return moves


class DeltaEdit(TextFamily):
    """s + p · DeltaMapper(s, condition).

    Files: `relevance` (`.npy`, C×E over the conv channels), and the network's state dict. The domain's `levels`
    assign the convs to its parts.
    """

    prefix = "deltaedit"
    number = "threshold"
    example = "deltaedit_face_face with curly hair_0.03"

    @cached_property
    def _relevance(self) -> Tensor:
        return read_array(self.resources.folder / self.spec["relevance"])

    @cached_property
    def _mappers(self) -> dict[torch.dtype, DeltaMapper]:
        """One network per dtype for all directions."""
        return {}

    def _mapper(self, like: Styles, embedding: int) -> DeltaMapper:
        dtype = like[0].dtype
        if dtype not in self._mappers:
            path = weight_file(self.spec["mapper"])
            widths = [like[i].shape[1] for i in conv_layers(len(like))]
            sizes = {level: sum(widths[first:last]) for level, (first, last) in self.spec["levels"].items()}
            if sum(sizes.values()) != sum(widths):
                raise UserError(f"editings.deltaedit.levels: the generator has {len(widths)} convs; name each once")
            mapper = DeltaMapper(read_tensors(path), sizes, path)
            if mapper.condition_dim != 2 * embedding:
                raise wrong_content(path, f"a condition of {mapper.condition_dim} numbers", 2 * embedding)
            self._mappers[dtype] = mapper.to(like[0])
        return self._mappers[dtype]

    def edit(self, name: str, like: Styles) -> Edit[Styles]:
        edit = self.parse(name)
        difference = self.text_difference(edit).cpu()
        channels = sum(like[i].shape[1] for i in conv_layers(len(like)))
        path = self.resources.folder / self.spec["relevance"]
        relevance = check_shape(path, self._relevance, channels, len(difference))
        keep = (relevance @ difference).abs() >= edit.threshold
        if not keep.any():
            logger.warning("'%s' changes nothing: no channel reaches %s %g", name, self.number, edit.threshold)
        mapper = self._mapper(like, len(difference))
        text = F.normalize(difference, dim=-1)
        return DeltaEditMove(mapper, self.clip, text.to(like[0]), keep.to(like[0]))
