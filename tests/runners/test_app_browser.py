"""The page as a visitor uses it, in headless Chromium."""

import io
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path

import app_browser
import numpy as np
import pytest
import requests
from app_browser import Browser
from app_server import AppServer
from PIL import Image
from small_domain import SmallDomain

from runners.simple_runner import SimpleRunner
from utils.images import resize

pytest.importorskip("gradio", reason="the page's packages are not installed: pip install -e '.[app]'")
if reason := app_browser.missing():
    pytest.skip(reason, allow_module_level=True)


NAME_OF_FOCUS = """const e = document.activeElement;
return (e.getAttribute('aria-label') || [...(e.labels || [])].map(l => l.innerText).join(' ') ||
  e.closest('label')?.innerText || e.innerText || e.title || '').replace('▼', '').trim() """
# Controls and words outside of the window, pairs of controls that cover each other, and a photograph that is cut.
OUTSIDE_OR_OVERLAPPING = """const found = [], name = e => e.id || e.ariaLabel || e.innerText || e.outerHTML;
const shown = words => [...document.querySelectorAll(words)].filter(e => e.checkVisibility() && e.offsetWidth > 1);
for (const e of shown('button, input, img, h1, p, label, [role=tab]')) {
  const box = e.getBoundingClientRect();
  if (box.left < -1 || box.right > innerWidth + 1) found.push('outside: ' + name(e));
}
if (document.documentElement.scrollWidth > innerWidth) found.push('scrolls sideways');
const bottom = e => e.getBoundingClientRect().bottom;
for (const e of shown('#photograph img')) if (bottom(e) > bottom(e.closest('.block')) + 1)
  found.push('cut: ' + name(e));
const labels = '.caption, [data-testid=block-info], [data-testid=block-label]';
const controls = shown('button, input, #photograph, .samples, ' + labels)
  .filter(e => !e.closest('.compare'));
for (const a of controls) for (const b of controls) {
  if (a === b || a.contains(b) || b.contains(a) || a.compareDocumentPosition(b) & 2) continue;
  const [p, q] = [a.getBoundingClientRect(), b.getBoundingClientRect()];
  const wide = Math.min(p.right, q.right) - Math.max(p.left, q.left);
  const high = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
  if (wide > 2 && high > 2) found.push(name(a) + ' covers ' + name(b));
}
return found """
PICTURE_ON_TOP = """const box = document.querySelector('#picture').getBoundingClientRect(), found = [];
for (const x of [.1, .5, .9]) for (const y of [.1, .5, .8])
  found.push(box.top >= 0 && box.top < 2 && !!document.elementFromPoint(box.left + x * box.width,
    box.top + y * box.height).closest('#picture'));
return found """


@pytest.fixture(scope="module")
def server(small: SmallDomain, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppServer]:
    server = AppServer(small.config, tmp_path_factory.mktemp("server") / "log")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    window = Browser(tmp_path_factory.mktemp("window"))
    yield window
    window.close()


@pytest.fixture
def browser(server: AppServer, window: Browser) -> Browser:
    window.open(server.url)
    return window


def shown(browser: Browser) -> list[np.ndarray]:
    """The pixels of the images that are compared, before and after."""

    def fetched() -> list[bytes]:
        answers = [requests.get(url, timeout=60) for url in browser.pictures()]
        return [answer.content for answer in answers if answer.ok]  # an edit that came meanwhile has replaced others

    images = browser.wait(lambda: len(got := fetched()) == 2 and got, "two images")
    return [np.asarray(Image.open(io.BytesIO(image)), dtype=int) for image in images]


def edited(browser: Browser, words: str) -> np.ndarray:
    """The image, once the status tells that it has these edits."""
    browser.wait(lambda: browser.status().startswith(f"{words} ·"), words)
    return shown(browser)[1]


def open_photo(browser: Browser, photo: Path) -> None:
    browser.choose("align", "Cut out the face")  # not
    browser.wait(lambda: not browser.visible("#photograph"), "the crop alone")
    browser.upload(photo)
    browser.wait(lambda: "astronaut" in browser.find("#upload").text, "the upload")
    edited(browser, "age +5")


def test_it_opens_with_an_edited_sample(browser: Browser, small: SmallDomain, photo_path: Path) -> None:
    after = edited(browser, "age +5")
    wanted = SimpleRunner(simple_config_pth=small.config, device="cpu").edit(photo_path, "age", 5, align=True)
    assert np.abs(np.asarray(wanted, dtype=int) - after).max() <= 1
    assert browser.find("#compare input").get_property("value") == "50"
    browser.wait(lambda: browser.visible("#photograph img"), "the whole photograph")
    assert re.search(r"· \d+\.\d\d s · \d+ MB$", browser.status())


def test_sliders_sum_reset_undo_and_link(browser: Browser, server: AppServer) -> None:
    edited(browser, "age +5")
    browser.click("reset")
    inversion = edited(browser, "the inversion")
    browser.slide(0.25, "edit_age")
    age = edited(browser, "age -5")
    browser.slide(0.8, "edit_glasses")
    both = edited(browser, "age -5, glasses +6")
    browser.press(browser.find("#edit_age .reset-button"))
    glasses = edited(browser, "glasses +6")
    images = [inversion, age, both, glasses]
    assert all((a != b).any() for a, b in itertools.combinations(images, 2))

    browser.click("undo")
    assert (edited(browser, "age -5, glasses +6") == both).all()
    assert browser.find("#edit_age input[type=range]").get_property("value") == "-5"
    browser.click("undo")
    assert (edited(browser, "age -5") == age).all()
    browser.click("redo")
    edited(browser, "age -5, glasses +6")
    browser.wait(lambda: "glasses:6" in browser.driver.current_url, "the link")
    link = browser.driver.current_url
    assert link == f"{server.url}/?edit=age:-5&edit=glasses:6"
    browser.open(link)
    assert (edited(browser, "age -5, glasses +6") == both).all()
    assert browser.find("#edit_glasses input[type=range]").get_property("value") == "6"


def test_upload_compare_and_downloads(browser: Browser, photo_path: Path) -> None:
    """What is set applies to the new picture."""
    open_photo(browser, photo_path)
    before, after = shown(browser)
    assert (before == np.asarray(resize(Image.open(photo_path).convert("RGB"), 64))).all()
    line = browser.find("#compare .line")
    middle = line.location["x"]
    browser.drag(browser.find("#compare input"), [0.5, 0.6, 0.7])
    browser.wait(lambda: line.location["x"] > middle + 30, "the line between before and after to move")

    picture = browser.downloaded("download_picture", ".png")
    assert picture.name == "astronaut_edited.png" and (np.asarray(Image.open(picture), dtype=int) == after).all()
    settings = json.loads(browser.downloaded("download_settings", ".json").read_text())
    assert settings["edits"] == {"age": 5} and settings["picture"] == "astronaut.png"
    assert Image.open(browser.downloaded("download_strip", ".jpg")).width == 5 * 256
    assert Image.open(browser.downloaded("download_gif", ".gif")).n_frames > 2
    inversion = browser.downloaded("download_inversion", ".safetensors")
    browser.upload(inversion)
    browser.wait(lambda: ".safetensors" in browser.find("#upload").text, "the upload")
    assert np.abs(edited(browser, "age +5") - after).max() <= 1


def test_a_face_is_chosen_by_a_click(browser: Browser, pair_path: Path) -> None:
    edited(browser, "age +5")
    browser.upload(pair_path)
    browser.wait(lambda: len(browser.all("#face input")) == 2, "a choice of two faces")
    first = shown(browser)[0]
    assert browser.find("#face input:checked").get_attribute("value") == "1"
    browser.press_at(browser.find("#photograph img"), 0.75, 0.5)
    browser.wait(lambda: browser.find("#face input:checked").get_attribute("value") == "2", "the second face")
    assert (shown(browser)[0] != first).any()
    whole = browser.downloaded("download_photograph", ".jpg")
    assert Image.open(whole).size == (1200, 600)


def test_a_mask_is_painted(browser: Browser, photo_path: Path) -> None:
    open_photo(browser, photo_path)
    unmasked = shown(browser)[1]
    browser.click("mask_section")
    browser.wait(lambda: browser.visible("#mask"), "the kinds of masks")
    browser.choose("mask", "what I paint")
    canvas = browser.wait(lambda: browser.find("#canvas canvas"), "the canvas")
    browser.wait(lambda: canvas.is_displayed() and canvas.size["width"] > 200, "the canvas to be drawn")

    def painted() -> bool:
        """Whether a stroke has reached the server; the canvas does not tell when it is ready for one."""
        browser.scroll_to(canvas)
        browser.drag(canvas, [0.2, 0.4, 0.6, 0.8])
        old = browser.pictures()
        browser.click("paint")
        answer = browser.wait(lambda: browser.pictures() != old or browser.message(), "the mask or a message")
        assert not isinstance(answer, str) or "nothing is painted yet" in answer
        return not isinstance(answer, str)

    browser.wait(painted, "a stroke")
    assert (shown(browser)[1] != unmasked).any()
    mask = np.asarray(Image.open(browser.downloaded("download_mask", ".png")))
    assert mask.shape == (64, 64) and (mask[32, 20:44] > 200).all() and mask[:10].max() == 0


def test_two_pictures_are_mixed(browser: Browser, photo_path: Path) -> None:
    open_photo(browser, photo_path)
    age = shown(browser)[1]
    browser.press(next(tab for tab in browser.all("[role=tab]") if tab.text == "Mix two pictures"))
    browser.upload(photo_path, "second")
    browser.wait(lambda: browser.status().startswith("50% of astronaut.png"), "the mixture")
    browser.slide(0.25, "share")
    browser.wait(lambda: re.match("2[456]% of astronaut", browser.status()), "less of the second")
    assert (shown(browser)[1] != age).any()
    browser.press(next(tab for tab in browser.all("[role=tab]") if tab.text == "Edit"))
    assert (edited(browser, "age +5") == age).all()


def test_every_control_works_from_the_keyboard_and_has_a_name(browser: Browser) -> None:
    from selenium.webdriver import ActionChains, Keys

    edited(browser, "age +5")

    def focused() -> str:
        return browser.driver.execute_script(NAME_OF_FOCUS)

    names = []
    while not names or "Copy link" not in names[-1]:
        ActionChains(browser.driver).send_keys(Keys.TAB).perform()
        names.append(focused())
        assert len(names) < 20, names
    assert names[0].startswith("Line between before and after")
    seen: list[str] = []
    while "range slider for Age" not in seen:
        ActionChains(browser.driver).send_keys(Keys.TAB).perform()
        seen.append(focused())
        assert len(seen) < 40, seen
    assert all(names + seen), (names, seen)  # none is without a name
    assert seen.index("Picture") < seen.index("Sample 1 of 1") < seen.index("Face") < seen.index("Reset Age")
    ActionChains(browser.driver).send_keys(Keys.ARROW_RIGHT).perform()
    edited(browser, "age +6")
    sections = browser.all(".section > .label-wrap")
    assert {section.get_attribute("aria-expanded") for section in sections} == {"true", "false"}
    compare = browser.find("#compare input")
    compare.send_keys(Keys.ARROW_LEFT)
    assert compare.get_property("value") == "49"


@pytest.mark.parametrize(("theme", "widths"), [("light", (360, 768, 1400, 1920)), ("dark", (360, 1400))])
def test_nothing_is_cut_or_overlaps(window: Browser, server: AppServer, theme: str, widths: tuple[int, ...]) -> None:
    window.open(f"{server.url}/?__theme={theme}")
    edited(window, "age +5")
    window.wait(lambda: window.visible("#photograph img"), "the photograph")
    for width in widths:
        window.resize(width)
        window.driver.execute_script("window.scrollTo(0, 0)")
        assert window.driver.execute_script(OUTSIDE_OR_OVERLAPPING) == [], width
        if width == 360:  # the picture stays in sight, and nothing shows through it
            window.driver.execute_script("window.scrollTo(0, 700)")
            assert window.driver.execute_script(PICTURE_ON_TOP) == [True] * 9
    window.resize(1400)


def test_what_is_refused(browser: Browser, server: AppServer, photo_path: Path, tmp_path: Path) -> None:
    """A text file, 300 megapixels, 21 MB, and a second image while one is opened; the page stays usable."""
    (tmp_path / "text.txt").write_text("no image")
    browser.upload(tmp_path / "text.txt")
    assert "text.txt: is not an image" in browser.wait(browser.message, "a message")
    Image.new("1", (20_000, 15_000)).save(tmp_path / "huge.png")
    browser.upload(tmp_path / "huge.png")
    assert "limit of 100 megapixels" in browser.wait(browser.message, "a message")
    (tmp_path / "heavy.png").write_bytes(bytes(21 * 2**20))
    browser.upload(tmp_path / "heavy.png")
    assert "maximum" in browser.wait(browser.message, "a message").lower()

    sample = browser.pictures()
    resize(Image.open(photo_path), 9000).save(tmp_path / "large.jpg")  # takes a while to read and to find the face in
    browser.upload(tmp_path / "large.jpg")
    browser.wait(lambda: "large" in browser.find("#upload").text, "the upload")
    browser.upload(photo_path)
    assert "another image is being opened" in browser.wait(browser.message, "a message")
    browser.wait(lambda: browser.pictures() != sample, "the large image to be open")


def test_leaving_removes_everything_and_nothing_came_from_elsewhere(
    server: AppServer, browser: Browser, photo_path: Path
) -> None:
    open_photo(browser, photo_path)
    browser.wait(lambda: any(name.startswith("original") for name in server.files()), "the upload's file")
    assert all(url.startswith((server.url, "data:", "blob:")) for url in browser.requested())
    browser.driver.get("about:blank")
    browser.wait(lambda: not any(name.startswith("original") for name in server.files()), "the files to go")
