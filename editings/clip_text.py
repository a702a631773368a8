"""CLIP's text and image embeddings, from OpenAI's weights in a local file. Nothing is downloaded."""

import logging
import warnings
import zipfile
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from editings.files import read_lines, wrong_content
from models.weights import freeze, read
from utils.errors import UserError

logger = logging.getLogger(__name__)


class ClipEncoder:
    """CLIP (Radford et al., arXiv 2103.00020) in fp32. Network and templates are read at the first embedding.

    Args:
        weights: OpenAI's `ViT-B-32.pt` (a TorchScript archive), or its weights as a state dict in open_clip's layout
            (`.pt` or `.safetensors`). Networks trained with plain GELU do not work: OpenAI's have QuickGELU.
        templates: text file with a sentence per line; `{}` is replaced by the phrase.
    """

    def __init__(self, weights: Path, templates: Path, device: torch.device) -> None:
        self.weights = weights
        self.templates = templates
        self.device = device
        self._phrases: dict[str, Tensor] = {}

    def text(self, phrase: str) -> Tensor:
        """The phrase's embedding (E, norm 1): the mean over all templates, each normalised, normalised again."""
        if phrase not in self._phrases:
            sentences = [template.replace("{}", phrase) for template in self._templates]
            with torch.inference_mode(False), torch.no_grad():
                self._phrases[phrase] = F.normalize(self._sentences(sentences).mean(dim=0), dim=-1)
        return self._phrases[phrase]

    def _sentences(self, sentences: list[str]) -> Tensor:
        """N sentences → N×E, each of norm 1."""
        network = self._network
        from open_clip.tokenizer import tokenize  # takes seconds to import

        tokens = tokenize(sentences, context_length=network.context_length).to(self.device)  # N×77
        # Attention is causal, and the output is read at the end token, which has the highest number. So the padding
        # after the longest sentence changes nothing and is left out: about five times less work.
        length = int(tokens.argmax(dim=1).max()) + 1
        shorter = {
            "positional_embedding": network.positional_embedding[:length],
            "attn_mask": network.attn_mask[:length, :length],
        }
        return functional_call(network, shorter, kwargs={"text": tokens[:, :length]})[1]

    @torch.no_grad()
    def image(self, image: Tensor) -> Tensor:
        """B×3×H×W in [-1, 1] → B×E, norm 1. Pooled to CLIP's size, *without* CLIP's mean and std, as in DeltaEdit."""
        size = self._network.visual.image_size
        pooled = F.adaptive_avg_pool2d(image.float(), size)
        return F.normalize(self._network.encode_image(pooled), dim=-1)

    @cached_property
    def _templates(self) -> list[str]:
        lines = read_lines(self.templates)
        if not lines or not all("{}" in line for line in lines):
            raise wrong_content(self.templates, f"{len(lines)} lines, not all with a {{}}", "a sentence with {} a line")
        return lines

    @cached_property
    def _network(self) -> Any:
        return load_clip(self.weights).to(self.device)


def load_clip(path: Path) -> nn.Module:
    """OpenAI's CLIP from a local file, frozen, fp32, on the CPU; its size is that of the file's tensors.

    Raises UserError for a file that is missing, damaged, or not CLIP's.
    """
    if not path.is_file():
        raise UserError(f"{path} (CLIP, for text edits) does not exist; scripts/download_weights.py fetches it")
    logger.info("reading CLIP from %s", path)
    state = _read_torchscript(path) if _is_torchscript(path) else read(path)
    state = dict(state.get("state_dict", state))

    from open_clip.model import build_model_from_openai_state_dict

    try:
        # Settings of OpenAI's archive and a constant of its text network, which are among the tensors.
        for name in ("input_resolution", "context_length", "vocab_size", "attn_mask"):
            state.pop(name, None)
        network = build_model_from_openai_state_dict(dict(state), cast_dtype=torch.float32).float()
        network.load_state_dict(state)  # again, since the builder rounds to half precision
    except (AttributeError, KeyError, RuntimeError, TypeError) as error:
        raise UserError(f"{path} holds no CLIP ViT; wanted OpenAI's ViT-B-32.pt") from error
    return freeze(network)


def _is_torchscript(path: Path) -> bool:
    """torch.save's files are zip archives too, but only TorchScript's have code in them."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())


def _read_torchscript(path: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():  # deprecated, but torch has no other reader of OpenAI's own file
            warnings.simplefilter("ignore")
            return dict(torch.jit.load(path, map_location="cpu").state_dict())
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"{path} is a damaged TorchScript archive; fetch it again") from error
