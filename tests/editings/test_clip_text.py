"""CLIP from local files: every accepted format gives the same numbers, and the network is never asked."""

import copy
import socket
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from direction_files import EMBEDDING, TEMPLATES, tiny_clip
from open_clip.model import CLIP
from open_clip.tokenizer import tokenize
from safetensors.torch import save_file
from torch import Tensor

from editings.clip_text import ClipEncoder, load_clip
from utils.errors import UserError


@pytest.fixture(scope="module")
def clip() -> CLIP:
    """Its weights are exact in half precision, as OpenAI's are."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = tiny_clip()
    for tensor in network.state_dict().values():
        tensor.copy_(tensor.half())
    return network


@pytest.fixture
def encoder(clip: CLIP, tmp_path: Path) -> ClipEncoder:
    torch.save(clip.state_dict(), tmp_path / "ViT.pt")
    (tmp_path / "templates.txt").write_text("\n".join([*TEMPLATES, ""]))
    return ClipEncoder(tmp_path / "ViT.pt", tmp_path / "templates.txt", torch.device("cpu"))


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("went to the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def embedding(clip: CLIP, text: str) -> Tensor:
    return clip.encode_text(tokenize([text]))[0]


def torchscript(clip: CLIP, path: Path) -> None:
    """As OpenAI's file: a TorchScript archive in half precision, with its settings among the tensors."""
    network = copy.deepcopy(clip).half()
    for name, value in {"input_resolution": 64, "context_length": 77, "vocab_size": 49408}.items():
        if hasattr(network, name):
            delattr(network, name)
        network.register_buffer(name, torch.tensor(value))
    images = torch.zeros(2, 3, 64, 64, dtype=torch.half)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        inputs = {"encode_text": (torch.zeros(2, 77, dtype=torch.int),), "encode_image": (images,)}
        torch.jit.trace_module(network, inputs).save(str(path))


@pytest.mark.parametrize("kind", ["state.pt", "nested.pt", "half.pt", "state.safetensors", "openai.pt"])
def test_every_format_gives_the_same_network(clip: CLIP, tmp_path: Path, kind: str) -> None:
    state, path = clip.state_dict(), tmp_path / kind
    match kind:
        case "state.pt":
            torch.save(state, path)
        case "nested.pt":
            torch.save({"state_dict": state, "epoch": 3}, path)
        case "half.pt":
            torch.save({key: value.half() for key, value in state.items()}, path)
        case "state.safetensors":
            save_file({key: value.contiguous() for key, value in state.items()}, path)
        case "openai.pt":
            torchscript(clip, path)
    result = load_clip(path)
    assert {p.dtype for p in result.parameters()} == {torch.float32}
    assert not result.training and not any(p.requires_grad for p in result.parameters())
    torch.testing.assert_close(embedding(result, "a face"), embedding(clip, "a face"))
    image = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(result.encode_image(image), clip.encode_image(image))


def test_full_precision_weights_are_not_rounded(tmp_path: Path) -> None:
    network = tiny_clip()
    torch.save(network.state_dict(), tmp_path / "ViT.pt")
    result = load_clip(tmp_path / "ViT.pt").state_dict()
    assert all(torch.equal(result[key], value) for key, value in network.state_dict().items())


def test_activations_are_quickgelu(clip: CLIP, encoder: ClipEncoder) -> None:
    plain = tiny_clip(quick_gelu=False)
    plain.load_state_dict(clip.state_dict())
    result = embedding(load_clip(encoder.weights), "a face")
    torch.testing.assert_close(result, embedding(clip, "a face"))
    assert (embedding(plain, "a face") - result).abs().max() > 1e-3 * result.abs().max()


def test_a_phrase_is_the_mean_of_its_normalised_sentences(clip: CLIP, encoder: ClipEncoder) -> None:
    sentences = ["a photo of a {odd} face.", "the {odd} face in a video game."]
    mean = sum(F.normalize(embedding(clip, sentence), dim=0) for sentence in sentences) / 2
    result = encoder.text("{odd} face")
    assert result.shape == (EMBEDDING,)
    torch.testing.assert_close(result, F.normalize(mean, dim=0))


def test_an_image_is_pooled_and_not_shifted(clip: CLIP, encoder: ClipEncoder) -> None:
    image = torch.rand(2, 3, 192, 192) * 2 - 1
    wanted = F.normalize(clip.encode_image(F.avg_pool2d(image, 3)), dim=1)
    torch.testing.assert_close(encoder.image(image), wanted)


def test_a_missing_file_gives_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"ViT-B-32\.pt .*download_weights"):
        load_clip(tmp_path / "ViT-B-32.pt")


def test_a_damaged_archive_gives_one_line(tmp_path: Path, clip: CLIP) -> None:
    whole, cut, holed = (tmp_path / f"{name}.pt" for name in ("whole", "cut", "holed"))
    torchscript(clip, whole)
    cut.write_bytes(whole.read_bytes()[:100_000])
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(holed, "w") as target:
        for name in source.namelist():
            if not name.endswith("/data.pkl"):
                target.writestr(name, source.read(name))
    for path in (cut, holed):
        with pytest.raises(UserError) as error:
            load_clip(path)
        assert str(path) in str(error.value) and "\n" not in str(error.value)
