"""The encoder's training where the w of real images is known, from the scores that they were drawn from."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from arguments.domain import load_domain
from arguments.loader import load_options
from arguments.loop_options import EncoderTrainConfig
from datasets.scores import FILE, Scores, write_scores
from models.stylegan2.generator import Generator
from models.weights import save
from training.distributed import Process
from training.tasks.encoder import EncoderTask
from utils.errors import UserError
from utils.images import save_image, to_image

CPU, IMAGES = torch.device("cpu"), 8


@pytest.fixture
def options(tmp_path: Path) -> list[str]:
    """A tiny domain with a generator, and images that it made from known scores."""
    domain = {
        "name": "tiny", "encoder_size": 32, "weights": {"generator": str(tmp_path / "generator.pt")},
        "generator": {"size": 16, "style_dim": 8, "n_mlp": 2, "channels": {4: 16, 8: 16, 16: 16}},
        "e4e": {"widths": [8, 8, 8, 16, 16], "blocks": [1, 1, 2, 1], "coarse_styles": 1, "middle_styles": 3},
    }  # fmt: skip
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(domain))
    torch.manual_seed(0)
    generator = Generator(load_domain(str(tmp_path / "tiny.yaml")).generator).eval()
    generator.style[1].weight.data[:, 2:] = 0  # it does without the numbers that scores leave free
    save({"g_ema": generator.state_dict(), "latent_avg": torch.zeros(8)}, tmp_path / "generator.pt")
    scores, names = np.random.default_rng(0).standard_normal((IMAGES, 2)), [f"{i}.png" for i in range(IMAGES)]
    write_scores(tmp_path / "images", names, scores, ["one", "two"], np.array([1, 1]), scores)
    config = {
        "exp": {"domain": str(tmp_path / "tiny.yaml"), "exp_dir": str(tmp_path), "name": "run"},
        "data": {"train_dir": str(tmp_path / "images")},
        "train": {"device": "cpu", "batch_size": 8, "predictor": 0, "l2": 0, "delta": 0, "w": 1},
    }  # fmt: skip
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    for name in names:
        save_image(to_image(torch.rand(3, 16, 16) * 2 - 1), tmp_path / "images" / name)
    return [f"exp.config_dir={tmp_path}", "exp.config=config.yaml"]


def test_w_of_real_images_is_that_of_their_scores(options: list[str]) -> None:
    """The loss is the mean over real and generated images; here the encoder answers the mean w to all of them."""
    losses = {}
    for more in ([], ["train.scores=true"]):
        config = load_options(EncoderTrainConfig, [*options, *more])
        torch.manual_seed(0)
        task = EncoderTask(config, load_domain(config.exp.domain), Process(CPU))
        for parameter in task.encoder.parameters():
            parameter.data.zero_()  # offsets of 0
        torch.manual_seed(1)
        losses[len(more)] = task.gradients(1)["w"].item()
    z = Scores(Path(config.data.train_dir), 8).latents(task.batch.names[:4], task.batch.flipped[:4])
    real = (task.decoder.mapping(z) - task.decoder.latent_avg).square().mean().item()
    assert losses[1] == pytest.approx((losses[0] + real) / 2, rel=1e-3)


def test_scores_must_be_there(options: list[str]) -> None:
    config = load_options(EncoderTrainConfig, [*options, "train.scores=true"])
    (Path(config.data.train_dir) / FILE).unlink()
    with pytest.raises(UserError, match=r"scores\.npz does not exist"):
        EncoderTask(config, load_domain(config.exp.domain), Process(CPU))
