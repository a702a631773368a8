"""MoCo-v2, ViT-Face, ArcFace and CurricularFace against what the published code computed from the same numbers."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import normal
from torch import nn

from criteria.face_embedding import load_arcface, load_curricular_face
from criteria.id_loss import IDLoss
from criteria.id_vit import IDViTLoss
from criteria.moco import MocoLoss
from utils.errors import UserError

FILES: dict[Callable[[Path], nn.Module], str] = {
    MocoLoss: "moco_v2_800ep_pretrain.pt",
    IDViTLoss: "Backbone_VITs_Epoch_2_Batch_12000_Time_2021-03-17-04-05_checkpoint.pth",
    IDLoss: "model_ir_se50.pth",
    load_curricular_face: "CurricularFace_Backbone.pth",
}


@pytest.fixture(scope="module")
def pair():
    x = 0.5 * normal(34, (2, 3, 256, 256))
    return x, x + 0.1 * normal(35, (2, 3, 256, 256))


@torch.no_grad()
def test_moco_golden(standin, golden, pair):
    loss = MocoLoss(standin(FILES[MocoLoss]))
    golden("moco/features", loss.embed(pair[0]))
    cosine = (loss.embed(pair[0]) * loss.embed(pair[1])).sum(1)
    assert torch.allclose(loss(*pair), 1 - cosine.mean(), atol=1e-6)


@torch.no_grad()
def test_vit_golden(standin, golden, pair):
    loss = IDViTLoss(standin(FILES[IDViTLoss]))
    golden("id_vit/embedding", loss.embed(pair[0]))
    golden("id_vit/loss", loss(*pair).reshape(1))


@torch.no_grad()
def test_curricular_golden(standin, golden):
    golden(
        "curricular/embedding",
        load_curricular_face(standin("CurricularFace_Backbone.pth"))(0.5 * normal(36, (2, 3, 112, 112))),
    )


@torch.no_grad()
def test_id_loss_reads_the_face_only(standin, pair):
    x = pair[0]
    loss = IDLoss(standin(FILES[IDLoss]))
    face = torch.zeros_like(x)
    face[:, :, 35:223, 32:220] = x[:, :, 35:223, 32:220]
    assert loss(face, x) < 1e-6
    face[:, :, 40, 40] += 50
    assert loss(face, x) > 1e-6
    crop = torch.nn.functional.adaptive_avg_pool2d(x[:, :, 35:223, 32:220], 112)
    assert torch.allclose(loss.embed(x), load_arcface(standin(FILES[IDLoss]))(crop), atol=1e-5)
    large = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.allclose(loss.embed(large), loss.embed(x), atol=1e-4)


@pytest.mark.parametrize("make", [MocoLoss, IDViTLoss, IDLoss])
def test_frozen_and_one_image_is_enough(make, standin, pair):
    loss = make(standin(FILES[make]))
    fake = pair[0][:1].clone().requires_grad_()
    before = {name: value.clone() for name, value in loss.state_dict().items() if "running" in name}
    value = loss(fake, pair[1][:1])
    value.backward()
    assert value.shape == ()
    assert fake.grad is not None and fake.grad.abs().sum() > 0
    assert not any(p.requires_grad for p in loss.parameters())
    assert not loss.net.training
    assert all(torch.equal(value, loss.state_dict()[name]) for name, value in before.items())


@pytest.mark.parametrize("make", FILES)
def test_missing_or_wrong_file(make, tmp_path):
    with pytest.raises(UserError, match=r"none\.pth.*download_weights"):
        make(tmp_path / "none.pth")
    torch.save({"state_dict": {"module.encoder_q.conv1.weight": torch.ones(1)}, "a": torch.ones(1)}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"w\.pth") as caught:
        make(tmp_path / "w.pth")
    assert "\n" not in str(caught.value)
