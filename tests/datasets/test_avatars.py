"""Avatars: what is drawn, what the labels say, and what the splits hold."""

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from arguments.domain import load_domain
from datasets.avatars import CHOICES, HELD_OUT, SPLITS, VALUES, Avatar, Avatars, draw, render
from datasets.labels import HIDDEN, Labels
from utils.errors import UserError
from utils.images import load_image

for package in ("dicebear", "dicebear_styles", "resvg_py"):
    pytest.importorskip(package, reason="avatars are drawn with the optional packages: pip install -e '.[avatars]'")

ROOT = Path(__file__).resolve().parents[2]
VISIBLE = 20  # of 255: how much a pixel must differ for a person to see it

# Shows every attribute but hair, which its hat covers.
FULL = Avatar(
    skin="light", hair="shortFlat", hair_color="brown", hat="turban", hat_color="red", eyes="default", brows="default",
    mouth="serious", facial_hair="beardLight", glasses="round", glasses_color="black", clothing="graphicShirt",
    clothing_color="blue", graphic="bat", background="white",
)  # fmt: skip


def pixels(avatar: Avatar) -> np.ndarray:
    return np.asarray(render(avatar, 64)).astype(int)


def differ(a: Avatar, b: Avatar) -> np.ndarray:
    """64×64: which pixels."""
    return np.abs(pixels(a) - pixels(b)).max(axis=-1) > VISIBLE


@pytest.mark.parametrize("name", VALUES)
def test_every_value_is_drawn_and_gives_an_image_of_its_own(name):
    avatar = replace(FULL, hat="none") if name == "hair" else FULL
    images = [pixels(replace(avatar, **{name: value})).tobytes() for value in VALUES[name]]
    assert len(set(images)) == len(VALUES[name])


def test_every_shape_is_one_of_the_style():
    import importlib.resources

    text = importlib.resources.files("dicebear_styles").joinpath("avataaars.json").read_text("utf-8")
    components = json.loads(text)["components"]
    names = {
        "hair": "top", "hat": "top", "eyes": "eyes", "brows": "eyebrows", "mouth": "mouth", "facial_hair": "facialHair",
        "glasses": "accessories", "clothing": "clothes", "graphic": "clothesGraphic",
    }  # fmt: skip
    for name, component in names.items():
        assert set(VALUES[name]) - {"none"} <= set(components[component]["variants"]), name


def test_labels_hide_exactly_what_does_not_change_the_image():
    hidden = set()
    for index in range(60):
        avatar = draw("train", index)
        for name, label in avatar.labels().items():
            assert label == HIDDEN or VALUES[name][label] == getattr(avatar, name)
            if label == HIDDEN:
                hidden.add(name)
                for value in VALUES[name][:3]:
                    assert not differ(avatar, replace(avatar, **{name: value})).any(), (index, name)
    assert hidden == {"hair", "hair_color", "hat_color", "glasses_color", "graphic", "eyes"}


def test_the_same_avatar_with_another_attribute_differs_there_only():
    plain = replace(FULL, glasses="none", facial_hair="none")
    glasses, smile = differ(plain, replace(plain, glasses="round")), differ(plain, replace(plain, mouth="smile"))
    # The style puts glasses and mouth into boxes of the 280 px drawing: 76…206 × 46…139, and 94…186 × 140…178.
    for changed, (left, right, top, bottom) in ((glasses, (17, 48, 10, 33)), (smile, (21, 43, 31, 42))):
        assert changed[top:bottom, left:right].sum() > 10
        changed[top:bottom, left:right] = False
        assert not changed.any()


def test_an_avatar_is_known_by_split_and_number():
    assert draw("test", 7) == draw("test", 7)
    assert len({draw(split, i) for split in SPLITS for i in range(500)}) == 500 * len(SPLITS)


def test_values_come_as_often_as_the_table_says_and_independently():
    count = 4000
    avatars = [asdict(draw("train", i)) for i in range(count)]
    for name, choices in CHOICES.items():
        for value, weight in choices.items():
            share = weight / sum(choices.values())
            result = np.mean([avatar[name] == value for avatar in avatars])
            assert abs(result - share) < 4.5 * (share * (1 - share) / count) ** 0.5, (name, value)
    traits = {
        name: np.array([avatar[trait.attribute] in trait.values for avatar in avatars], float)
        for name, trait in load_domain("avatars").traits.items()
    }
    assert np.abs(np.corrcoef(list(traits.values())) - np.eye(len(traits))).max() < 0.06
    assert 0.3 <= traits["glasses"].mean() <= 0.4
    assert 0.4 <= traits["smile"].mean() <= 0.6


def test_traits_of_the_domain_are_values_that_exist():
    for name, trait in load_domain("avatars").traits.items():
        assert set(trait.values) < set(VALUES[trait.attribute]), name


def test_held_out_values_are_in_the_unseen_split_only():
    def held_out(split: str, index: int) -> bool:
        avatar = draw(split, index)
        return any(getattr(avatar, name) in values and avatar.shows(name) for name, values in HELD_OUT.items())

    for split in SPLITS:
        assert {held_out(split, i) for i in range(1500)} == {split == "unseen"}
    assert {draw("unseen", i).graphic for i in range(60)} >= set(HELD_OUT["graphic"])
    assert {draw("unseen", i).hat for i in range(60)} >= set(HELD_OUT["hat"])


def test_data_set_gives_images_with_labels_and_forces_attributes():
    plain, forced = Avatars("test", 3, 32), Avatars("test", 3, 32, glasses="round", mouth="smile")
    assert len(forced) == 3
    image, labels = forced[2]
    assert image.shape == (3, 32, 32) and -1 <= image.min() < image.max() <= 1
    assert VALUES["glasses"][labels["glasses"]] == "round" and VALUES["mouth"][labels["mouth"]] == "smile"
    assert forced.avatar(2) == replace(plain.avatar(2), glasses="round", mouth="smile")
    with pytest.raises(IndexError):
        plain[3]


@pytest.mark.parametrize(
    ("split", "forced", "words"),
    [
        ("trian", {}, "wanted one of train, validation"),
        ("train", {"glases": "round"}, "no attribute glases; there are: skin"),
        ("train", {"glasses": "rond"}, "glasses is 'rond'; nearest: round"),
    ],
)
def test_mistakes_give_one_line(split, forced, words):
    with pytest.raises(UserError, match=words):
        Avatars(split, 1, 32, **forced)


def test_script_makes_images_and_resumes(tmp_path):
    command = [
        sys.executable, "scripts/make_avatars.py", "--split", "validation", "--count", "5", "--size", "32",
        "--output_dir", str(tmp_path), "--workers", "1",
    ]  # fmt: skip
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    before = (tmp_path / "000001.png").stat().st_mtime_ns
    (tmp_path / "000003.png").unlink()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    assert (tmp_path / "000001.png").stat().st_mtime_ns == before
    rows = [json.loads(line) for line in (tmp_path / "labels.jsonl").read_text().splitlines()]
    assert [row.pop("file") for row in rows] == [f"{i:06d}.png" for i in range(5)]
    for i, row in enumerate(rows):
        avatar = draw("validation", i)
        assert row == {name: getattr(avatar, name) if avatar.shows(name) else None for name in VALUES}
        np.testing.assert_array_equal(load_image(tmp_path / f"{i:06d}.png"), render(avatar, 32))
    labels = Labels(tmp_path)
    for name, index in labels.of([f"{i:06d}.png" for i in range(5)]).items():
        known = [None if i == HIDDEN else labels.attributes[name][i] for i in index.tolist()]
        assert known == [row[name] for row in rows]
