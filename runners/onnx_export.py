"""The networks of one domain as ONNX files, for programs without PyTorch."""

import logging
from pathlib import Path

import torch
from torch import Tensor, nn

from arguments.domain import DomainConfig
from configs.paths import weight_file
from models.e4e import E4E
from models.sfe import FeatureEditor, Inverter, decode, decode_coarse, delta, invert_e4e
from models.stylegan2.generator import Generator
from models.stylegan2.ops import backend
from models.weights import load_e4e, load_feature_editor, load_generator
from utils.errors import UserError
from utils.files import atomic_path, check_apart, check_writable

logger = logging.getLogger(__name__)


class EncoderPart(nn.Module):
    """An image to its inversion, and e4e's w."""

    def __init__(self, inverter: Inverter, e4e: E4E, decoder: Generator) -> None:
        super().__init__()
        self.inverter, self.e4e, self.decoder = inverter, e4e, decoder

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """image 1×3×S×S in [-1, 1] at the encoders' size → w 1×n_styles×D, features 1×C×h×w, w_e4e 1×n_styles×D."""
        w, features, _ = self.inverter(image, self.decoder)
        return w, features, invert_e4e(self.e4e, self.decoder, image)


class EditorPart(nn.Module):
    """The effect on F of an edit of e4e's w."""

    def __init__(self, editor: FeatureEditor, decoder: Generator, layer: int) -> None:
        super().__init__()
        self.editor, self.decoder, self.layer = editor, decoder, layer

    def forward(self, features: Tensor, w_e4e: Tensor, w_e4e_edited: Tensor) -> Tensor:
        """The outputs of EncoderPart, and the edited w_e4e → features for the decoder, 1×C×h×w."""
        before, after = (
            decode_coarse(self.decoder, self.decoder.affine(w), self.layer).features for w in (w_e4e, w_e4e_edited)
        )
        return self.editor(features, delta(before, after))


class DecoderPart(nn.Module):
    """Features and w to an image."""

    def __init__(self, decoder: Generator, layer: int) -> None:
        super().__init__()
        self.decoder, self.layer = decoder, layer

    def forward(self, features: Tensor, w: Tensor) -> Tensor:
        """features 1×C×h×w of EditorPart, the edited w → picture 1×3×size×size, about [-1, 1]."""
        coarse = decode_coarse(self.decoder, self.decoder.affine(w), self.layer)
        return decode(self.decoder, features, coarse, self.layer)


def export_onnx(domain: DomainConfig, checkpoint: Path, folder: Path) -> list[Path]:
    """Write encoder.onnx, editor.onnx and decoder.onnx of a domain and a Feature Editor's checkpoint.

    All run at batch size 1 in float32. Raises UserError for weights that do not fit, if a file would overwrite one of
    them, and if onnx is not installed.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(f"exporting needs one more package ({error.name}): pip install -e '.[onnx]'") from None
    paths = [folder / f"{name}.onnx" for name in ("encoder", "editor", "decoder")]
    generator_file, e4e_file = (weight_file(domain.weights[role]) for role in ("generator", "e4e"))
    for path in paths:
        check_writable(path)
    check_apart(paths, [checkpoint, generator_file, e4e_file])
    decoder = load_generator(generator_file, domain.generator)
    e4e = load_e4e(e4e_file, domain)
    inverter, editor = load_feature_editor(checkpoint, domain, "the checkpoint")
    size, layer = domain.encoder_size, domain.feature_layer
    # Two tensors, since PyTorch would treat one that is given twice as the same input.
    w, other_w = torch.zeros(2, 1, domain.generator.n_styles, domain.generator.style_dim).unbind()
    features = torch.zeros(1, domain.feature_channels, domain.feature_size, domain.feature_size)
    parts: list[tuple[nn.Module, dict[str, Tensor], list[str]]] = [
        (EncoderPart(inverter, e4e, decoder), {"image": torch.zeros(1, 3, size, size)}, ["w", "features", "w_e4e"]),
        (EditorPart(editor, decoder, layer), {"features": features, "w_e4e": w, "w_e4e_edited": other_w}, ["edited"]),
        (DecoderPart(decoder, layer), {"edited": features, "w": w}, ["picture"]),
    ]
    with backend.plain(), torch.no_grad():  # ONNX does not have our custom ops
        for path, (part, inputs, outputs) in zip(paths, parts, strict=True):
            program = torch.onnx.export(
                part.eval(), tuple(inputs.values()), input_names=list(inputs), output_names=outputs, dynamo=True,
                verbose=False,
            )  # fmt: skip
            assert program is not None
            with atomic_path(path) as temporary:
                program.save(temporary, external_data=False)
            logger.info("%s: %.0f MB", path, path.stat().st_size / 1e6)
    return paths
