"""Every metric's numbers against the goldens and against other people's code on the same images."""

import importlib.util
import math
from collections.abc import Callable
from pathlib import Path

import dlib
import lpips
import numpy as np
import pytest
import scipy.linalg
import torch
import torch.nn.functional as F
import torchvision
import torchvision.transforms.functional as transforms
from conftest import normal
from inception_file import NAME, write_inception
from PIL import Image
from pytorch_fid.fid_score import calculate_activation_statistics
from pytorch_fid.inception import InceptionV3
from torch import Tensor

from configs.paths import Paths
from datasets.images import PairedFolders
from metrics.base import FULL
from metrics.distances import MSSSIM
from metrics.fid import FID, FeatureStatistics, Gaussian, frechet_distance
from metrics.identity import ID, IDDlib, similarity
from metrics.metric_set import MetricSet
from models.faces.landmarks import find_landmarks
from utils.errors import UserError
from utils.images import load_image, to_tensor

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Five pairs of images of two sizes: noise at three scales, and a copy with more noise."""
    root, draw = tmp_path_factory.mktemp("pairs"), np.random.default_rng(5)
    for i, size in enumerate((128, 128, 128, 128, 96)):
        blocks = [np.kron(draw.normal(0, 40, (size // k, size // k, 3)), np.ones((k, k, 1))) for k in (1, 4, 16)]
        image = 128 + sum(blocks)
        for side, noise in (("real", 0), ("fake", 12)):
            (root / side / "sub").mkdir(parents=True, exist_ok=True)
            pixels = np.clip(image + draw.normal(0, 1, image.shape) * noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / side / ("sub" if i % 2 else "") / f"{i}.png")
    return root / "real", root / "fake"


@pytest.fixture(scope="module")
def face(photo_path: Path) -> Tensor:
    """A photograph of a face, 3×H×W uint8."""
    return FULL(load_image(photo_path))


@pytest.fixture(scope="module")
def inception(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with Inception's file in its pretrained_models."""
    folder = tmp_path_factory.mktemp("inception")
    write_inception(folder)
    return folder


def measured(names: list[str], folders: tuple[Path, Path]) -> MetricSet:
    metrics = MetricSet(names, CPU)
    metrics.add(metrics.read(pair) for pair in PairedFolders.find(*folders).pairs)
    return metrics


def as_published(path: Path, size: int = 256) -> Tensor:
    """torchvision's Resize and ToTensor of the file: 1×3×size×size in [0, 1]."""
    image = Image.open(path).convert("RGB")
    return transforms.to_tensor(torchvision.transforms.functional.resize(image, [size] * 2))[None]


def pairs(folders: tuple[Path, Path]) -> list[tuple[str, Path, Path]]:
    return [(pair.name, pair.real, pair.fake) for pair in PairedFolders.find(*folders).pairs]


def test_l2_is_the_mse_at_256(folders: tuple[Path, Path]) -> None:
    result = measured(["l2"], folders)
    wanted = {name: 4 * torch.mean((as_published(a) - as_published(b)) ** 2).item() for name, a, b in pairs(folders)}
    assert result.scores()["l2"] == pytest.approx(wanted, rel=1e-5)
    assert result.compute()["l2"] == pytest.approx(np.mean(list(wanted.values())), rel=1e-5)


def test_msssim_golden(golden: Callable[[str, Tensor], None]) -> None:
    u = normal(39, (2, 3, 256, 256)).sigmoid()
    v = (u + 0.05 * normal(40, (2, 3, 256, 256))).clamp(0, 1)
    eight_bits = ((image * 255).round().to(torch.uint8) for image in (u, v))
    golden("msssim", MSSSIM(CPU).measure(*eight_bits)[:, 0])


def test_msssim_is_computed_at_1024_after_pillows_bicubic(folders: tuple[Path, Path]) -> None:
    from piq import multi_scale_ssim

    name, a, b = pairs(folders)[0]
    large = [Image.open(path).resize((1024, 1024), Image.Resampling.BICUBIC) for path in (a, b)]
    wanted = multi_scale_ssim(*(transforms.to_tensor(image)[None] for image in large))
    metrics = MetricSet(["msssim"], CPU)
    metrics.add([metrics.read(PairedFolders.find(*folders).pairs[0])])
    assert metrics.scores()["msssim"] == {name: pytest.approx(wanted.item(), rel=1e-5)}


def test_lpips_is_the_packages(folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    alexnet = torchvision.models.alexnet(weights=None)
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(alexnet.state_dict(), tmp_path / "hub" / "checkpoints" / "alexnet-owt-7be5be79.pth")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))  # where torchvision, and so the package, keeps its downloads
    package = lpips.LPIPS(net="alex", verbose=False)
    with torch.no_grad():
        wanted = {n: package(2 * as_published(a) - 1, 2 * as_published(b) - 1).item() for n, a, b in pairs(folders)}
    assert measured(["lpips"], folders).scores()["lpips"] == pytest.approx(wanted, rel=1e-4)


def test_id_vit(folders: tuple[Path, Path], standin: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """10000 × MSE of the embeddings of images in [0, 1], pooled to 112; the network has its own golden."""
    from criteria.id_vit import IDViTLoss

    monkeypatch.setattr(Paths, "vit_path", str(standin(Path(Paths.vit_path).name)))
    network, wanted = IDViTLoss(), {}
    for name, *files in pairs(folders):
        with torch.no_grad():
            a, b = (network.net(F.adaptive_avg_pool2d(as_published(file), 112)) for file in files)
        wanted[name] = 10000 * F.mse_loss(a, b).item()
    assert measured(["id_vit"], folders).scores()["id_vit"] == pytest.approx(wanted, rel=1e-3)


def test_similarity_finds_the_map() -> None:
    draw = np.random.default_rng(0)
    source, angle, scale = draw.normal(0, 50, (5, 2)), 0.7, 1.3
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = similarity(source, source @ turn.T + [5, -8])
    assert matrix == pytest.approx(np.column_stack([turn, [5, -8]]))


def test_id(face: Tensor, standin: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Crops have eyes and mouth where ArcFace expects them, wherever the face is; without a face there is no number."""
    name = "CurricularFace_Backbone.pth"
    monkeypatch.setattr(Paths, "curricular_face_path", str(standin(name)))
    metric = ID(CPU)
    turned = FULL(Image.fromarray(face.permute(1, 2, 0).numpy()).rotate(15, expand=True).resize((480, 480)))
    for image in (face, turned):
        (crop,) = metric.crops(image[None])
        assert crop.shape == (3, 112, 112)
        landmarks = find_landmarks(Image.fromarray(crop.permute(1, 2, 0).numpy()).resize((448, 448))) / 4
        eyes, mouth = landmarks[36:48].reshape(2, 6, 2).mean(axis=1), landmarks[[48, 54]]
        wanted = [[38.3, 51.7], [73.5, 51.5], [41.5, 92.4], [70.7, 92.2]]
        offsets = np.abs(np.concatenate([eyes, mouth]) - wanted).max(axis=1)
        assert (offsets < [4, 4, 9, 9]).all()  # she smiles, and the two detectors' corners of the mouth differ

    blank = torch.full_like(face, 128)
    metric.add(torch.stack([face, face, blank]), torch.stack([face, blank, blank]), ["same", "none", "nobody"])
    assert metric.scores == {"same": (pytest.approx(1, abs=1e-5),)} and metric.skipped == ["nobody", "none"]
    assert metric.compute()["id"] == pytest.approx(1, abs=1e-5)
    assert metric.crops(torch.zeros(2, 3, 16, 16, dtype=torch.uint8)) == [None, None]

    metric.add(face[None], (face.float() * 0.4).to(torch.uint8)[None], ["dark"])
    crops = [metric.crops(x[None])[0] for x in (face, (face.float() * 0.4).to(torch.uint8))]
    a, b = metric.network(torch.stack(crops) / 127.5 - 1)
    assert metric.scores["dark"][0] == pytest.approx(F.cosine_similarity(a, b, dim=0).item(), abs=1e-4)
    assert metric.scores["dark"][0] < 0.9999


def test_id_dlib_is_dlibs_own(face: Tensor) -> None:
    """Against dlib's detector, predictor and descriptor by its documented calls."""
    spec = importlib.util.find_spec("face_recognition_models")
    assert spec is not None and spec.origin is not None
    models = Path(spec.origin).parent / "models"
    mirrored = face.flip(-1)
    detect = dlib.get_frontal_face_detector()
    predict = dlib.shape_predictor(str(models / "shape_predictor_68_face_landmarks.dat"))
    describe = dlib.face_recognition_model_v1(str(models / "dlib_face_recognition_resnet_model_v1.dat"))
    vectors = []
    for image in (face, mirrored):
        pixels = image.permute(1, 2, 0).contiguous().numpy()
        vectors.append(np.array(describe.compute_face_descriptor(pixels, predict(pixels, detect(pixels, 1)[0]))))
    metric = IDDlib(CPU)
    noise = torch.randint(0, 255, face.shape, dtype=torch.uint8)
    metric.add(torch.stack([face, face, face]), torch.stack([face, mirrored, noise]), ["same", "mirrored", "noise"])
    assert metric.scores["same"] == (pytest.approx(1), pytest.approx(0))
    cosine = vectors[0] @ vectors[1] / np.linalg.norm(vectors[0]) / np.linalg.norm(vectors[1])
    distance = np.linalg.norm(vectors[0] - vectors[1])
    assert metric.scores["mirrored"] == (pytest.approx(cosine, abs=2e-3), pytest.approx(distance, abs=0.02))
    assert 0.05 < distance < 0.6  # one person, to dlib
    assert metric.skipped == ["noise"]
    assert metric.compute() == {
        "id_dlib": pytest.approx((1 + cosine) / 2, abs=2e-3), "id_dlib_euclidean": pytest.approx(distance / 2, abs=0.02)
    }  # fmt: skip


def test_frechet_golden(golden: Callable[[str, Tensor], None]) -> None:
    a = np.random.Generator(np.random.PCG64(41)).standard_normal((300, 64))
    b = 1.1 * np.random.Generator(np.random.PCG64(42)).standard_normal((300, 64)) + 0.2
    distance = frechet_distance(*(Gaussian(x.mean(axis=0), np.cov(x, rowvar=False)) for x in (a, b)))
    golden("frechet", torch.tensor([distance]))


@pytest.mark.parametrize("count", [20, 500])  # fewer and more than the 64 features
def test_frechet_is_the_formula_of_pytorch_fid(count: int) -> None:
    draw = np.random.default_rng(count)
    a, b = (Gaussian(x.mean(axis=0), np.cov(x, rowvar=False)) for x in draw.normal(0, [[[1]], [[3]]], (2, count, 64)))
    root = scipy.linalg.sqrtm(a.covariance @ b.covariance + (1e-12 * np.eye(64) if count < 64 else 0))
    traces = np.trace(a.covariance) + np.trace(b.covariance) - 2 * np.trace(root.real)
    assert frechet_distance(a, b) == pytest.approx(np.sum((a.mean - b.mean) ** 2) + traces, rel=1e-4)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9 * np.trace(a.covariance))


def test_statistics_of_a_stream_are_numpys() -> None:
    features = np.random.default_rng(0).normal(3, 0.5, (70, 2048)).astype(np.float32)
    whole, parts = FeatureStatistics(), [FeatureStatistics(), FeatureStatistics()]
    whole.add(torch.from_numpy(features))
    for i in range(0, 70, 8):
        parts[i % 16 // 8].add(torch.from_numpy(features[i : i + 8]))
    parts[0].merge(parts[1])
    for statistics in (whole, parts[0]):
        result = statistics.gaussian()
        assert np.abs(result.mean - features.astype(np.float64).mean(axis=0)).max() < 1e-12
        assert np.abs(result.covariance - np.cov(features.astype(np.float64), rowvar=False)).max() < 1e-12


def test_fid_statistics_are_pytorch_fids(
    folders: tuple[Path, Path], inception: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own Inception, loader and statistics on the same files; then saved, and read again in its layout."""
    monkeypatch.chdir(inception)
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "checkpoints").symlink_to(inception / "pretrained_models")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    files = sorted(folders[0].rglob("*.png"))
    mean, covariance = calculate_activation_statistics(files, InceptionV3(), batch_size=1, num_workers=0)

    metrics = measured(["fid"], (folders[0], folders[0]))
    assert metrics.compute()["fid"] == pytest.approx(0, abs=1e-6 * np.trace(covariance))
    fid = metrics.metrics["fid"]
    assert isinstance(fid, FID)
    result = fid.reference_statistics()
    assert np.abs(result.mean - mean).max() < 1e-4 * np.abs(mean).max()
    assert np.abs(result.covariance - covariance).max() < 1e-3 * np.abs(covariance).max()

    result.save(tmp_path / "statistics.npz")
    with np.load(tmp_path / "statistics.npz") as content:
        assert set(content) == {"mu", "sigma"}
    again = Gaussian.load(tmp_path / "statistics.npz")
    assert (again.mean == result.mean).all() and (again.covariance == result.covariance).all()
    reused = MetricSet(["fid"], CPU)
    reused.metrics["fid"].reference = again  # type: ignore[attr-defined]
    reused.add(reused.read(pair) for pair in PairedFolders.find(*folders).pairs)
    assert reused.metrics["fid"].real.count == 0  # type: ignore[attr-defined]
    assert reused.compute()["fid"] > 1e-3 * np.trace(covariance)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist; wanted: FID statistics"),
        (b"no zip", "holds no FID statistics"),
        ("small", r"shape \(3,\)"),
    ],
)
def test_bad_statistics_give_one_line(tmp_path: Path, content: bytes | str | None, message: str) -> None:
    path = tmp_path / "s.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        np.savez(path, mu=np.zeros(3), sigma=np.eye(3))
    with pytest.raises(UserError, match=message):
        Gaussian.load(path)


def test_tensors_give_what_their_files_give(
    folders: tuple[Path, Path], inception: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in validation, where images are in memory; also when merged from two shares."""
    monkeypatch.chdir(inception)
    result = PairedFolders.find(*folders).pairs[:3]
    files, *shares = (MetricSet(["l2", "msssim", "fid"], CPU) for _ in range(3))
    files.add(files.read(pair) for pair in result)
    for i, pair in enumerate(result):
        shares[i % 2].update(*(to_tensor(load_image(path))[None] for path in (pair.real, pair.fake)), [pair.name])
    shares[0].merge(shares[1].state())
    assert shares[0].scores() == {column: pytest.approx(values, rel=1e-6) for column, values in files.scores().items()}
    for ours, theirs in zip(shares[0].state()["fid"], files.state()["fid"], strict=True):
        assert ours.count == theirs.count == 3
        torch.testing.assert_close((ours.sum, ours.products), (theirs.sum, theirs.products), rtol=1e-4, atol=1e-6)


def test_nothing_measured_is_not_a_number() -> None:
    assert math.isnan(MetricSet(["l2"], CPU).compute()["l2"])


def test_unknown_and_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line: which file, where from, where to put it."""
    with pytest.raises(UserError, match="no metric 'l3'; there are: l2, lpips, msssim, fid, id, id_vit, id_dlib"):
        MetricSet(["l3"], CPU)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for field in ("vit_path", "curricular_face_path"):
        monkeypatch.setattr(Paths, field, str(tmp_path / field))
    files = {"id": "curricular_face_path", "id_vit": "vit_path", "fid": NAME, "lpips": "alexnet-owt-7be5be79.pth"}
    for name, file in files.items():
        if not (Path(__file__).resolve().parents[2] / "pretrained_models" / file).exists():
            with pytest.raises(UserError, match=rf"{file}.*download_weights\.py") as caught:
                MetricSet([name], CPU)
            assert "\n" not in str(caught.value)
