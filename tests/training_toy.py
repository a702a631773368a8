"""A domain of 32 px whose generator made its training images, small enough to train in seconds."""

import functools
from pathlib import Path

import torch
import yaml
from small_domain import SmallDomain
from torch import Tensor, nn

from arguments.loader import load_options
from arguments.train_options import TrainConfig
from models.weights import load_e4e, load_generator, load_inverter, save
from utils.images import save_image, to_image

SIZE = 32
IMAGES = 8
EDITS = {"age": [-3.0, 3.0], "glasses": [4.0]}


class TrainingToy:
    """Files of the domain in `folder`, `images/` for training, and one YAML for each stage.

    The networks are random, but their numbers have the usual sizes, as those of trained ones.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = SmallDomain(folder, SIZE)
        self.domain = self.files.load()
        self.images = folder / "images"
        self.experiments = folder / "experiments"
        images = self._calibrate_generator()
        for i, image in enumerate(images):
            save_image(to_image(image), self.images / f"{i}.png")
        self._calibrate_encoders(images)
        common = {
            "exp": {"domain": str(self.files.path), "exp_dir": str(self.experiments), "wandb": False},
            "data": {"input_train_dir": str(self.images)},
            "model": {"device": "cpu", "batch_size": 4, "workers": 1},
            "encoder_losses": {"l2": 1.0, "adv": 0.01},
        }
        losses = {"l2": 1.0, "adv": 0.01, "feat_rec": 0.01}
        stage_1 = {"train_runner": "fse_inverter", "val_metrics": ["l2"]}
        stage_2 = {"train_runner": "fse_editor", "val_metrics": ["l2"], "editings_data": EDITS}
        inverter = {"fse_full": {"inverter_pth": str(self.files.inverter)}}
        self._write("stage_1.yaml", common, train=stage_1, method="fse_inverter", encoder_losses=losses)
        self._write("stage_2.yaml", common, train=stage_2, method="fse_full", methods_args=inverter)

    def arguments(self, stage: int, name: str, *more: str) -> list[str]:
        """Of scripts/train.py."""
        return [f"exp.config_dir={self.folder}", f"exp.config=stage_{stage}.yaml", f"exp.name={name}", *more]

    def config(self, stage: int, name: str, *more: str) -> TrainConfig:
        return load_options(TrainConfig, self.arguments(stage, name, *more))

    def _write(self, name: str, common: dict, train: dict, method: str, **more: object) -> None:
        content = {**common, "train": train, **more, "model": {**common["model"], "method": method}}
        (self.folder / name).write_text(yaml.safe_dump(content))

    def _calibrate_generator(self) -> Tensor:
        """Scale the generator's colours to [-1, 1], and return some of its images."""
        generator = load_generator(self.files.generator, self.domain.generator)
        w = torch.randn(IMAGES, self.domain.generator.n_styles, 16, generator=torch.Generator().manual_seed(6))
        with torch.no_grad():
            scale = generator(generator.affine(w)).std() / 0.35
            for to_rgb in (generator.to_rgb1, *generator.to_rgbs):
                to_rgb.conv.weight /= scale
                to_rgb.bias.zero_()
            images = generator(generator.affine(w))
        save({"g_ema": generator.state_dict(), "latent_avg": generator.latent_avg}, self.files.generator)
        return images

    @torch.no_grad()
    def _calibrate_encoders(self, images: Tensor) -> None:
        """BatchNorm statistics of the images, and latents of standard deviation ½."""
        inverter = load_inverter(self.files.inverter, self.domain)
        e4e = load_e4e(self.files.e4e, self.domain)
        for network in (inverter.fs_backbone, e4e):
            for layer in network.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.momentum = 1.0
            network.train()(images)
            network.eval()
        for head in inverter.fs_backbone.styles:
            scale = 2 * head(torch.zeros(1, head.in_features)).std() + 2 * inverter.fs_backbone(images)[0].std()
            head.weight.div_(scale)
            head.bias.div_(scale)
        scale = 2 * e4e(images).std()
        for head in e4e.styles:
            head.linear.weight.div_(scale)
            head.linear.bias.div_(scale)
        for path, network in ((self.files.inverter, inverter), (self.files.e4e, e4e)):
            save({"state_dict": {f"encoder.{k}": v for k, v in network.state_dict().items()}}, path)


@functools.cache
def shared_toy(base: Path) -> TrainingToy:
    """One for all tests of a session, in a folder of `base`; experiments of different tests have different names."""
    folder = base / "training_toy"
    folder.mkdir()
    return TrainingToy(folder)
