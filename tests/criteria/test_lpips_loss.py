"""LPIPS: the same distances as the package's own, backbones from files, no network."""

import lpips
import pytest
import torch
import torchvision
from conftest import normal

from criteria import lpips_loss
from criteria.lpips_loss import LPIPSLoss, LPIPSScaleLoss
from utils.errors import UserError


@pytest.fixture(scope="module")
def backbones(tmp_path_factory):
    """Random weights in the layout of torchvision's files (the classifier, which is not read, is left small)."""
    folder = tmp_path_factory.mktemp("backbones")
    torch.manual_seed(0)
    for net, make in (("vgg", torchvision.models.vgg16), ("alex", torchvision.models.alexnet)):
        with torch.device("meta"):
            features = make(weights=None).features
        tensors = {f"features.{k}": torch.randn(v.shape) * 0.05 for k, v in features.state_dict().items()}
        torch.save({**tensors, "classifier.6.bias": torch.ones(1000)}, folder / lpips_loss._BACKBONES[net])
    return folder


@pytest.fixture(scope="module")
def pair():
    x = 0.5 * normal(1, (2, 3, 64, 64))
    return x, x + 0.3 * normal(2, (2, 3, 64, 64))


@pytest.mark.parametrize("net", ["vgg", "alex"])
@pytest.mark.filterwarnings("ignore")  # of the package, about torchvision's old arguments
def test_equals_the_package(net, backbones, pair):
    path = backbones / lpips_loss._BACKBONES[net]
    reference = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    features = torch.load(path, weights_only=True)
    own = reference.net.state_dict()
    reference.net.load_state_dict({k: features[f"features.{k.partition('.')[2]}"] for k in own})
    loss = LPIPSLoss(net, path)
    with torch.no_grad():
        wanted = reference(*pair).flatten()
        assert torch.allclose(loss.distances(*pair), wanted, rtol=1e-5)
        assert torch.allclose(loss(*pair), wanted.mean(), rtol=1e-5)
    assert wanted.min() > 0
    assert wanted[0] != wanted[1]


def test_scales_frozen_and_gradient(backbones):
    path = backbones / lpips_loss._BACKBONES["alex"]
    x, y = 0.5 * normal(3, (1, 3, 256, 256)), 0.5 * normal(4, (1, 3, 256, 256))
    single, scales = LPIPSLoss("alex", path), LPIPSScaleLoss("alex", path)
    x.requires_grad_()
    value = scales(x, y)
    value.backward()
    assert x.grad is not None and x.grad.abs().sum() > 0
    assert not any(p.requires_grad for p in scales.parameters())
    assert not scales.net.training

    def at(size):
        return single(*(torch.nn.functional.interpolate(t, size=size, mode="bilinear") for t in (x, y)))

    assert torch.allclose(value, at(256) + at(128) + at(64), rtol=1e-5)


def test_search_and_missing(backbones, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(lpips_loss, "weight_file", lambda name: tmp_path / name)
    with pytest.raises(UserError, match=r"vgg16-397923af\.pth") as caught:
        LPIPSLoss("vgg")
    assert "download_weights.py --only vgg16-397923af.pth" in str(caught.value)
    name = lpips_loss._BACKBONES["alex"]
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    (cache / name).symlink_to(backbones / name)
    assert lpips_loss._find(name) == cache / name
    (tmp_path / "pretrained_models").mkdir()
    (tmp_path / "pretrained_models" / name).symlink_to(backbones / name)
    assert lpips_loss._find(name) == tmp_path / "pretrained_models" / name


def test_wrong_backbone(backbones):
    with pytest.raises(UserError, match="alexnet-owt"):
        LPIPSLoss("vgg", backbones / lpips_loss._BACKBONES["alex"])
