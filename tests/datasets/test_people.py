"""People: every factor acts, labels are true, edits change what they say, and images are the same everywhere."""

import hashlib
import os
import subprocess
import sys
from dataclasses import fields, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import binary_dilation

from datasets.people.camera import EYE, crop_window, photo_window
from datasets.people.details import SHARES, UNSEEN, Details
from datasets.people.factors import CURVES, MIRROR, N_IDENTITY, N_SCORES, Factors
from datasets.people.head import head_model
from datasets.people.person import assemble
from datasets.people.render import Picture, render
from datasets.people.splits import BINS, SPLITS, shown, subject
from models.faces.alignment import align
from models.faces.landmarks import find_landmarks

for package in ("anny", "embreex"):
    pytest.importorskip(package, reason="people are drawn with the optional packages: pip install -e '.[people]'")

ROOT = Path(__file__).resolve().parents[2]
SIZE = 64
PLAIN = Details()
# Shows every factor but the hat's, which needs the hair covered.
FULL = Factors(
    masculinity=0.55, smile=0.2, mouth_open=0.3, hair_length=0.45, curl=0.3, grey=0.3, beard=0.6, glasses=1.0,
    makeup=0.5, hair_red=0.2, light_contrast=0.6,
)  # fmt: skip


@cache
def drawn(factors: Factors, details: Details = PLAIN, size: int = SIZE, window_of: Factors | None = None) -> Picture:
    """The crop; with `window_of` that of another person, so that both are seen from the same place."""
    person = assemble(factors, EYE, details)
    window = crop_window(assemble(window_of, EYE) if window_of else person)
    return render(person, window, size)


def change(a: Picture, b: Picture) -> np.ndarray:
    """size×size: the largest difference of a channel."""
    return np.abs(a.rgb.astype(int) - b.rgb).max(axis=-1)


CHANGES = {
    "age": 75.0, "masculinity": 0.1, "weight": 0.95, "skin_tone": 0.8, "skin_redness": 2.0, "smile": 1.0,
    "mouth_open": 0.8, "frown": 1.0, "brow_raise": 1.0, "eye_open": -1.0, "gaze_x": 15.0, "gaze_y": 8.0,
    "yaw": 20.0, "pitch": 10.0,
    "roll": 10.0, "hair_length": 1.0, "hair_volume": 1.0, "hair_part": 1.0, "fringe": 1.0, "curl": 1.0,
    "hair_light": 0.9, "hair_red": 1.0, "grey": 1.0, "hairline": 1.0, "beard": 1.0, "beard_cheeks": 0.0,
    "moustache": 0.0, "brow_thickness": 1.0, "brow_height": 2.0, "glasses": 0.0, "lens_size": 1.0, "lens_shape": 0.0,
    "frame_thickness": 1.0, "frame_colour": 1.0, "sunglasses": 1.0, "makeup": 1.0, "lip_colour": 1.0,
    "lid_colour": 1.0, "hat": 1.0, "hat_style": 1.0, "hat_hue": 0.1, "hat_value": 0.9, "clothes_hue": 0.1,
    "clothes_value": 0.9, "neckline": 1.0, "light_azimuth": -60.0, "light_elevation": 70.0, "light_warmth": 1.0,
    "light_contrast": 1.0, "backdrop_hue": 0.1, "backdrop_value": 0.9, "backdrop_colour": 1.0, "iris": 1.0,
}  # fmt: skip


def test_every_factor_acts_and_changes_no_other_label():
    assert set(CHANGES) == {field.name for field in fields(Factors)} - {"identity"}
    assert [name for name, _ in CURVES] == [name for name in FULL.labels() if not name.startswith("identity")]
    still = []
    for name, value in CHANGES.items():
        before = replace(FULL, hat=1.0) if name.startswith("hat_") else FULL
        after = replace(before, **{name: value})
        labels = before.labels()
        assert {key for key, found in after.labels().items() if found != labels[key]} == {name}
        if (change(drawn(before), drawn(after)) > 3).sum() < 8:
            still.append(name)
    assert not still


def test_every_component_of_the_identity_moves_the_face_by_a_millimetre():
    model, mean = head_model(), head_model().vertices(Factors())
    for k in range(N_IDENTITY):
        factors = Factors(identity=tuple(2.0 if i == k else 0.0 for i in range(N_IDENTITY)))
        assert np.linalg.norm(model.vertices(factors) - mean, axis=1).max() > 1e-3, k
        assert {name for name, value in factors.labels().items() if value != Factors().labels()[name]} == {
            f"identity_{k:02d}"
        }


def test_labels_go_there_and_back():
    factors = subject("train", 3).factors
    assert Factors.from_labels(factors.labels()) == factors
    assert len(factors.labels()) == N_SCORES == len(MIRROR)


@pytest.mark.parametrize("split", SPLITS)
def test_nature_and_splits(split):
    """What nature forbids is not drawn, and what is held out is in one split only."""
    people = [subject(split, index) for index in range(400)]
    for person in people:
        f, kinds = person.factors, person.details.kinds
        assert not (f.beard and (f.age < 18 or f.masculinity < 0.5))
        assert len(kinds & set(UNSEEN)) == (split == "unseen")
        assert kinds <= set(SHARES) | set(UNSEEN)
    shares = {kind: np.mean([kind in person.details.kinds for person in people]) for kind in SHARES}
    assert all(abs(found - SHARES[kind]) < 0.08 for kind, found in shares.items())
    assert 12 < min(p.factors.age for p in people) < 15 and 75 < max(p.factors.age for p in people) <= 80


def test_no_person_is_in_two_splits():
    scores = [tuple(subject(split, index).scores[:3]) for split in SPLITS for index in range(200)]
    assert len(set(scores)) == len(scores)


SOURCES = {
    "gender": "masculinity", "skin": "skin_tone", "mouth": "mouth_open", "brows": "brow_raise", "eyes": "eye_open",
    "hair": "hair_length", "volume": "hair_volume", "light": "light_azimuth", "contrast": "light_contrast",
    "backdrop": "backdrop_value", "clothes": "clothes_value",
}  # fmt: skip
BARE = Factors(beard=0.5, hair_length=0.5)


def test_labels_follow_their_factors():
    """From the lowest to the highest value a factor's label takes all its names, in order."""
    for name, (bounds, names) in BINS.items():
        if name in ("glasses", "hat"):
            continue
        values = [bounds[0] - 0.01, *(bound + 0.01 for bound in bounds)]
        found = [shown(replace(BARE, **{SOURCES.get(name, name): value}))[name] for value in values]
        assert found == list(names), name


def test_labels_say_what_is_hidden():
    assert shown(BARE)["glasses"] == "none" and shown(replace(BARE, glasses=1.0))["glasses"] == "clear"
    dark = shown(replace(BARE, glasses=1.0, sunglasses=1.0))
    assert (dark["glasses"], dark["eyes"], dark["iris"]) == ("dark", None, None)
    assert shown(replace(BARE, sunglasses=1.0))["glasses"] == "none"
    hat = shown(replace(BARE, hat=1.0, hat_style=0.9))
    assert (hat["hat"], hat["fringe"], hat["hairline"], hat["volume"]) == ("peaked", None, None, None)
    bald = shown(replace(BARE, hair_length=0.0))
    assert {bald[name] for name in ("volume", "fringe", "curl", "grey", "hair_light", "hair_red", "hairline")} == {None}
    assert shown(replace(BARE, beard=0.0))["moustache"] is None and shown(replace(BARE, grey=1.0))["hair_red"] is None


def test_what_is_hidden_does_not_show():
    """Where a label is None its factor moves no pixel; dark lenses let a little through."""

    def iris(factors: Factors) -> int:
        return int(change(drawn(factors), drawn(replace(factors, iris=1.0))).sum())

    assert iris(replace(BARE, glasses=1.0, sunglasses=1.0)) < 0.5 * iris(BARE)
    bald = replace(BARE, hair_length=0.0, beard=0.0, brow_thickness=0.0)
    for name, value in (("fringe", 1.0), ("curl", 1.0), ("hair_volume", 1.0), ("hairline", 1.0)):
        assert not change(drawn(bald), drawn(replace(bald, **{name: value}))).any(), name


def test_glasses_change_the_eyes_and_not_the_mouth():
    bare, worn = Factors(), replace(Factors(), glasses=1.0)
    moved = change(drawn(bare, size=128), drawn(worn, size=128))
    eyes, mouth = moved[44:70, 24:104], moved[84:]
    assert (eyes > 25).mean() > 0.1 and (mouth > 4).mean() < 0.01


def test_longer_hair_covers_more():
    shares = []
    for length in (0.0, 0.3, 0.6, 1.0):
        image = drawn(replace(Factors(), hair_length=length), size=128, window_of=Factors())
        shares.append(float((image.person - image.face)[:100].mean()))  # above the clothes
    assert shares == sorted(shares) and shares[0] < 0.05 and shares[1] > 0.15 and shares[-1] > 1.4 * shares[1]


def test_smile_and_turn_are_found_by_landmarks():
    """dlib, which learned from photographs, sees what the factors say."""

    def landmarks(**changes: float) -> np.ndarray:
        image = drawn(replace(Factors(), **changes), size=256, window_of=Factors())
        return find_landmarks(Image.fromarray(image.rgb))

    plain, smiling, turned = landmarks(), landmarks(smile=1.0), landmarks(yaw=15.0)
    open_mouth = landmarks(mouth_open=0.8)

    def corners_up(points: np.ndarray) -> float:
        return float(points[[51, 57], 1].mean() - points[[48, 54], 1].mean())

    assert corners_up(smiling) > corners_up(plain) + 2
    assert smiling[54, 0] - smiling[48, 0] > plain[54, 0] - plain[48, 0] + 8
    assert open_mouth[66, 1] - open_mouth[62, 1] > plain[66, 1] - plain[62, 1] + 6
    nose = turned[30, 0] - turned[[36, 45], 0].mean()
    assert nose > plain[30, 0] - plain[[36, 45], 0].mean() + 8  # to the image's right


def test_an_edit_leaves_the_rest_alone():
    """True edits: pixels that show only something else are the same bytes."""
    details = Details(frozenset({"moles", "freckles", "print", "pattern"}), 5)
    before = drawn(FULL, details)
    backdrop = drawn(replace(FULL, backdrop_hue=0.1), details)
    assert not change(before, backdrop)[before.person == 1].any() and change(before, backdrop)[before.person == 0].any()
    clothes = drawn(replace(FULL, clothes_value=0.95), details)
    assert not change(before, clothes)[before.face == 1].any() and change(before, clothes).any()
    hat = drawn(replace(FULL, hat=1.0), details)
    assert (change(before, hat)[SIZE * 3 // 4 :] > 8).mean() < 0.05 and (change(before, hat)[: SIZE // 4] > 25).any()
    assert assemble(FULL, EYE).eyes.tolist() == assemble(replace(FULL, hat=1.0, glasses=0.0), EYE).eyes.tolist()


@pytest.mark.parametrize("kind", [*SHARES, *UNSEEN])
def test_details_lie_where_their_mask_says(kind):
    """What is painted changes no pixel outside the mask; what is worn also throws a little shadow."""
    factors = replace(FULL, glasses=0.0, beard=0.0, neckline=0.0, hair_length=0.1)
    bare, detailed = drawn(factors, size=96), drawn(factors, Details(frozenset({kind}), 3), size=96)
    moved = change(bare, detailed)
    assert not bare.details.any() and detailed.details.max() > 0.2 and (moved > 12).any()
    if kind in ("earrings", "eye_patch", "headphones", "scarf"):
        near = binary_dilation(detailed.details > 0, iterations=10)
        assert moved[near].sum() > 0.85 * moved.sum()
        assert (moved[detailed.details == 1] > 8).mean() > 0.5
    else:
        outside = moved[detailed.details == 0]
        assert outside.max() <= 2


def test_mirrored_scores_draw_the_mirrored_image():
    """About: strands of hair and pores are not symmetric. Other people are at least eight times as far."""
    for index in (0, 5):
        scores = subject("test", index).scores
        one, other = (drawn(Factors.from_scores(s)).rgb / 255 for s in (scores, scores * MIRROR))
        stranger = drawn(subject("test", index + 10).factors).rgb / 255
        mirrored, far = np.square(one[:, ::-1] - other).mean(), np.square(one - stranger).mean()
        assert mirrored < 0.006 and mirrored < far / 8


DIGEST = """
import hashlib
from datasets.people.splits import subject
for split, index in (("train", 1), ("unseen", 2), ("test", 1)):
    image = subject(split, index).crop(64)
    print(hashlib.sha256(image.rgb.tobytes() + image.details.tobytes()).hexdigest())
"""


def test_two_processes_draw_the_same_bytes():
    outputs = []
    for threads in ("1", "2"):
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        command = [sys.executable, "-c", DIGEST]
        outputs.append(subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True))
    here = []
    for split, index in (("train", 1), ("unseen", 2), ("test", 1)):
        image = subject(split, index).crop(64)
        here.append(hashlib.sha256(image.rgb.tobytes() + image.details.tobytes()).hexdigest())
    assert outputs[0].stdout == outputs[1].stdout == "\n".join(here) + "\n"


def test_crop_lies_where_the_aligner_would_cut():
    """FFHQ's rule on the true landmarks of a photograph gives the crop's window, and so the crop's image."""
    person = subject("test", 3)
    image, posed, window = person.photo(np.random.default_rng(3), 384)
    points = window.pixels(np.concatenate([posed.eyes, posed.mouth[None]]), 384) - 0.5
    landmarks = np.zeros((68, 2))
    landmarks[36:42], landmarks[42:48], landmarks[[48, 54]] = points[0], points[1], points[2]
    found = align(Image.fromarray(image.rgb), 128, landmarks)
    crop = crop_window(posed)
    corners = [crop.centre + x * crop.right + y * crop.up for x, y in ((-1, 1), (-1, -1), (1, -1), (1, 1))]
    plane = np.array([(x, 0.0, z) for x, z in corners])
    assert np.abs(found.quad - (window.pixels(plane, 384) - 0.5)).max() < 0.01
    assert np.square(np.asarray(found.image) / 255 - person.crop(128).rgb / 255).mean() < 0.003


def test_photographs_show_the_whole_face_off_the_centre():
    places = []
    for index in range(20):
        person = subject("train", index).person()
        window = photo_window(person, np.random.default_rng(index))
        x, y = window.pixels(person.eyes.mean(axis=0)[None], 768)[0]
        places.append((x, y))
        head = window.pixels(person.head.vertices[np.abs(person.head.vertices[:, 2]) < 0.09], 768)
        assert head.min() > 0 and head.max() < 768
    assert np.ptp(places, axis=0).min() > 60
