"""The stream of training images."""

import gc
import logging
import threading
from pathlib import Path

import pytest
import torch
from PIL import Image

from datasets.training_images import TrainingImages
from utils.errors import UserError
from utils.images import load_image, to_tensor

COUNT = 7
SIZE = 16
CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images whose left half is bright, each with a grey of its own: number and flip can be read off."""
    for i in range(COUNT):
        image = Image.new("RGB", (SIZE, SIZE), (20 * i, 20 * i, 20 * i))
        image.paste((255, 255, 255), (0, 0, SIZE // 2, SIZE))
        (tmp_path / "a" / "b").mkdir(parents=True, exist_ok=True)
        image.save(tmp_path / "a" / "b" / f"{i}.png")
    return tmp_path


def take(images: TrainingImages, count: int, batch: int = 1) -> list[tuple[str, bool]]:
    """(name, flipped) of the next samples."""
    result = []
    for _ in range(count // batch):
        taken = images.next_batch(batch)
        assert taken.pixels.shape == (batch, 3, SIZE, SIZE) and taken.pixels.dtype == torch.uint8
        result += [(name, bool(x[0, 0, 0] < 0.99)) for name, x in zip(taken.names, taken.images(CPU), strict=True)]
    return result


def test_a_dropped_stream_ends_its_threads_without_the_garbage_collector(folder: Path) -> None:
    gc.disable()
    try:
        before = set(threading.enumerate())
        stream = TrainingImages(folder, SIZE, seed=3, workers=3)
        take(stream, 4)
        assert len(set(threading.enumerate()) - before) == 3
        del stream
        assert set(threading.enumerate()) <= before
    finally:
        gc.enable()


def test_every_epoch_shows_each_image_once_in_an_order_of_its_own(folder: Path) -> None:
    samples = take(TrainingImages(folder, SIZE, seed=3, workers=2), 20 * COUNT)
    epochs = [[name for name, _ in samples[i * COUNT : (i + 1) * COUNT]] for i in range(20)]
    assert all(sorted(epoch) == [f"a/b/{i}.png" for i in range(COUNT)] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 15


def test_half_of_the_images_are_flipped_and_nothing_else_changes(folder: Path) -> None:
    images = TrainingImages(folder, SIZE, seed=3, workers=0)
    flips = 0
    for _ in range(400):
        batch = images.next_batch(1)
        original = to_tensor(load_image(folder / batch.names[0]))
        (image,) = batch.images(CPU)
        flipped = not torch.equal(image, original)
        assert not flipped or torch.equal(image, original.flip(-1))
        flips += flipped
    assert 150 < flips < 250
    unmirrored = take(TrainingImages(folder, SIZE, seed=3, workers=0, mirror=False), 200)
    assert not any(flipped for _, flipped in unmirrored)


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_samples_depend_on_seed_and_position_alone(folder: Path, workers: int) -> None:
    expected = take(TrainingImages(folder, SIZE, seed=3, workers=0), 40)
    assert take(TrainingImages(folder, SIZE, seed=3, workers=workers), 40, batch=4) == expected
    assert take(TrainingImages(folder, SIZE, seed=4, workers=workers), 40) != expected


@pytest.mark.parametrize("position", [1, 6, 7, 8, 23])
def test_resumes_at_any_sample_and_with_any_batch(folder: Path, position: int) -> None:
    expected = take(TrainingImages(folder, SIZE, seed=3, workers=0), position + 12)
    first = TrainingImages(folder, SIZE, seed=3, workers=2)
    take(first, position)
    second = TrainingImages(folder, SIZE, seed=3, workers=2)
    second.load_state_dict(first.state_dict())
    assert take(second, 12, batch=3) == expected[position:]


def test_processes_share_the_stream_out_interleaved(folder: Path) -> None:
    expected = take(TrainingImages(folder, SIZE, seed=3, workers=0), 24)
    for rank in range(3):
        images = TrainingImages(folder, SIZE, seed=3, workers=1, rank=rank, ranks=3)
        assert take(images, 8, batch=2) == expected[rank::3]
        assert images.state_dict()["position"] == 24


def test_damaged_images_are_replaced_counted_and_listed(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "a/b/2.png").write_bytes((folder / "a/b/2.png").read_bytes()[:40])
    (folder / "a/b/3.png").write_text("no image")
    images = TrainingImages(folder, SIZE, seed=3, workers=2)
    with caplog.at_level(logging.WARNING):
        names = [name for name, _ in take(images, 3 * COUNT)]
    assert set(images.damaged) == {"a/b/2.png", "a/b/3.png"}
    assert names.count("a/b/4.png") == 9 and len(names) == 3 * COUNT  # it replaces both
    assert len(caplog.messages) == 2  # each is logged once
    assert any("2 of 7" in text for text in caplog.messages) and any("2.png" in text for text in caplog.messages)


def test_a_folder_of_nothing_but_damage_is_an_error(tmp_path: Path) -> None:
    for i in range(3):
        (tmp_path / f"{i}.png").write_text("no image")
    with pytest.raises(UserError, match="none of its 3 images can be read"):
        TrainingImages(tmp_path, SIZE, seed=1, workers=2).next_batch(2)


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no image"):
        TrainingImages(tmp_path, SIZE, seed=1, workers=2)


def test_resuming_with_another_number_of_images_warns(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = TrainingImages(folder, SIZE, seed=3, workers=0).state_dict()
    (folder / "a/b/0.png").unlink()
    TrainingImages(folder, SIZE, seed=3, workers=0).load_state_dict(state)
    assert "holds 6 images, 7 when" in caplog.text
