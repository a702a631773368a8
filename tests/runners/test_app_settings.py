"""What can be set on the page, without a browser: sliders, links, undo and redo."""

from pathlib import Path

import pytest
from small_domain import SmallDomain

pytest.importorskip("gradio", reason="the page's packages are not installed: pip install -e '.[app]'")

from configs.paths import ROOT
from runners.app.page import Page
from runners.app.settings import AUTOMATIC, PAINTED, History, Settings, read_query
from runners.app.sliders import family_name, sliders, trait_of
from runners.app.studio import Studio
from runners.simple_runner import CONFIG


def test_every_direction_has_a_slider() -> None:
    """One for each trait of the published domain, in groups; text edits are greyed while their files are missing."""
    studio = Studio(CONFIG, "cpu", ROOT)
    page, available = Page(studio), studio.runner.available_editings()
    found = {direction.name: direction for slider, _ in page.rows for direction in slider.directions}
    rows = {direction.name: slider for slider, _ in page.rows for direction in slider.directions}
    fixed = {family: available[family] for family in available if family not in studio.text_families}
    assert {name for family in fixed.values() for name in family} == set(found)
    for family, directions in fixed.items():
        for name, (low, high) in directions.items():
            options = page.slider(rows[name], found[name])
            named = "" if found[name] == rows[name].directions[0] else family_name(family)
            assert (options["minimum"], options["maximum"], options["info"]) == (low, high, named)
            assert "_" not in family_name(family) and 20 <= (high - low) / options["step"] <= 200
    by_trait = {slider.trait: [d.name for d in slider.directions] for slider, _ in page.rows}
    assert by_trait["smile"] == ["fs_smiling", "smile", "smiling"] and by_trait["glasses"] == ["fs_glasses", "glasses"]
    assert set(studio.sliders) == {"Face", "Expression", "Hair", "Pose", "Accessories", "More"}
    assert {slider.trait for slider in studio.sliders["Pose"]} == {"rotation", "head_angle_up"}

    files = studio.text_families["styleclip_global"].files()
    assert {path.name for path in files} == {"ViT-B-32.pt", "templates.txt", "delta_i_c.npy", "S_mean_std"}
    missing, problem = [path for path in files if not path.exists()], page.problem_of("styleclip_global")
    assert all(path.name in problem for path in missing) and bool(missing) == bool(problem)
    assert page.words_slider("styleclip_global")["interactive"] == (not problem)


def test_the_form_shows_settings_and_gives_them_back() -> None:
    studio = Studio(CONFIG, "cpu", ROOT)
    page = Page(studio)
    for family, texts in studio.text_families.items():
        name = f"{texts.prefix}_a face_smiling face_0.05"
        settings = Settings({"age": -2.5, "smiling": 3.0, name: 1.5}, AUTOMATIC, 0.2)
        values = page.set(settings)
        assert page.settings(values) == settings and values[page.words_family] == family
        studio.runner.latent_editor.check(name, [1.5])
    assert page.settings(page.set(Settings())) == Settings()


def test_directions_of_several_families_share_a_slider() -> None:
    names = {"smile": ["smile", "fs_smiling", "smiling", "smile_w", "smile_pc", "smile_ss"],
             "lipstick": ["lipstick", "sslipstick"], "long_hair": ["long_hair_w", "long hair"],
             "wheel_size": ["wheel_size"]}  # fmt: skip
    assert all(trait_of(name) == trait for trait, directions in names.items() for name in directions)
    groups = sliders({"ganspace": {"hat_pc": (-6, 6), "wheels": (0, 1)}, "fs_boundaries": {"hat": (-10, 10)}})
    assert list(groups) == ["Accessories", "More"]
    assert [direction.family for direction in groups["Accessories"][0].directions] == ["FS boundary", "GANSpace"]


def test_a_link_opens_with_its_settings(small: SmallDomain, tmp_path: Path) -> None:
    studio = Studio(small.config, "cpu", tmp_path)
    settings = Settings({"age": 5.0, "glasses": -2.5}, AUTOMATIC, 0.25)
    assert read_query("?" + settings.query(), studio.clamped) == (settings, [])
    assert read_query("?" + Settings({}, PAINTED).query(), studio.clamped) == (Settings(), [])  # an image is no setting
    found, problems = read_query("?edit=age:99&edit=agee:1&edit=glasses:nan&mask=x&__theme=dark", studio.clamped)
    assert found == Settings({"age": 10.0}) and len(problems) == 3 and "agee:1" in problems[0]
    assert read_query("?" + "edit=age:1&" * 200, studio.clamped)[1] == ["it is too long"]


def test_history() -> None:
    """Moves of one control in quick succession are one step; what was undone is dropped by a new step."""
    now = [0.0]
    history = History(Settings(), lambda: now[0])
    a, b, c = Settings({"age": 1.0}), Settings({"age": 2.0}), Settings({"age": 2.0, "glasses": 1.0})
    for settings, seconds in ((a, 5), (b, 0.5), (c, 0.5), (c, 5)):
        now[0] += seconds
        history.add(settings)
    assert [history.move(-1) for _ in range(3)] == [b, Settings(), Settings()] and not history.can_undo
    assert [history.move(1) for _ in range(3)] == [b, c, c] and not history.can_redo
    history.move(-2)
    history.add(a)
    assert history.current == a and history.can_undo and not history.can_redo
    for i in range(300):
        now[0] += 5
        history.add(Settings({"age": float(i)}))
    assert [history.move(-1) for _ in range(300)][-1] == Settings({"age": 200.0})  # a hundred steps are kept
