"""The page as a visitor uses it, in headless Chromium."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import app_browser
import numpy as np
import pytest
import requests
from app_browser import Browser
from app_server import AppServer
from PIL import Image, ImageSequence
from small_domain import SmallDomain

from runners.simple_runner import SimpleRunner
from utils.images import resize

pytest.importorskip("gradio", reason="the page's packages are not installed: pip install -e '.[app]'")
if reason := app_browser.missing():
    pytest.skip(reason, allow_module_level=True)


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
    """The pixels of the images that are compared."""
    images = browser.wait(lambda: len(browser.images()) == 2 and browser.images(), "two images")
    return [np.asarray(Image.open(io.BytesIO(requests.get(url, timeout=60).content)), dtype=int) for url in images]


def edited(browser: Browser, words: str) -> np.ndarray:
    """The image, once the status tells that it has these edits."""
    browser.wait(lambda: browser.status().startswith(words), words)
    return shown(browser)[1]


def open_photo(browser: Browser, photo: Path) -> np.ndarray:
    browser.choose("align", "Align")  # not
    browser.upload(photo)
    return edited(browser, "The inversion")


def test_upload_choose_move_compare_download(browser: Browser, small: SmallDomain, photo_path: Path) -> None:
    inversion = open_photo(browser, photo_path)
    assert (shown(browser)[0] == np.asarray(resize(Image.open(photo_path).convert("RGB"), 64))).all()
    browser.choose("family", "stylespace")
    browser.wait(lambda: "glasses: useful powers -10 to 10" in browser.find("#power").text, "the slider of glasses")
    browser.slide(0.8)
    one = edited(browser, "glasses +6")
    browser.slide(0.2)
    other = edited(browser, "glasses -6")
    assert (one != inversion).any() and (other != one).any()
    wanted = SimpleRunner(simple_config_pth=small.config, device="cpu").edit(photo_path, "glasses", -6)
    assert np.abs(np.asarray(wanted, dtype=int) - other).max() <= 1

    handle = browser.find("#compare .inner, #compare .handle, #compare [role='slider']")
    before = handle.location["x"]
    browser.drag(browser.find("#compare .slider-wrap, #compare .wrap"), [0.5, 0.6, 0.7])
    browser.wait(lambda: handle.location["x"] > before + 30, "the line between before and after to move")

    image = browser.downloaded("picture", ".png")
    assert image.name == "astronaut_edited.png" and (np.asarray(Image.open(image), dtype=int) == other).all()
    settings = json.loads(browser.downloaded("settings", ".json").read_text())
    assert settings["edits"] == {"glasses": -6} and settings["picture"] == "astronaut.png"


def test_edits_are_stacked(browser: Browser, photo_path: Path) -> None:
    open_photo(browser, photo_path)
    browser.click("add")
    assert "move the slider first" in browser.wait(browser.message, "a message")
    browser.slide(0.75)
    alone = edited(browser, "age +5")
    browser.click("add")
    browser.wait(lambda: browser.all("#stack label"), "the stack")
    browser.choose("family", "stylespace")
    browser.wait(lambda: "glasses" in browser.find("#power").text, "the slider of glasses")
    browser.slide(0.8)
    both = edited(browser, "age +5, glasses +6")
    assert (both != alone).any()
    browser.choose("stack", "age +5")
    without = edited(browser, "glasses +6")
    assert (without != both).any()
    browser.choose("stack", "age +5")
    assert (edited(browser, "age +5, glasses +6") == both).all()
    browser.choose("stack", "age +5")
    edited(browser, "glasses +6")
    browser.click("remove")
    browser.wait(lambda: not browser.all("#stack label"), "an empty stack")
    assert (edited(browser, "glasses +6") == without).all()
    browser.click("clear")
    edited(browser, "The inversion")


def test_a_mask_is_painted(browser: Browser, photo_path: Path) -> None:
    open_photo(browser, photo_path)
    browser.slide(0.75)
    unmasked = edited(browser, "age +5")
    browser.click("mask_section")
    browser.wait(lambda: browser.visible("#mask"), "the kinds of masks")
    browser.choose("mask", "painted")
    canvas = browser.wait(lambda: browser.find("#canvas canvas"), "the canvas")
    browser.wait(lambda: canvas.is_displayed() and canvas.size["width"] > 200, "the canvas to be drawn")

    def painted() -> bool:
        """Whether a stroke has reached the server; the canvas does not tell when it is ready for one."""
        browser.scroll_to(canvas)
        browser.drag(canvas, [0.2, 0.4, 0.6, 0.8])
        browser.click("paint")
        answer = browser.wait(lambda: browser.find("#mask_file") or browser.message(), "the mask or a message")
        assert not isinstance(answer, str) or "nothing is painted yet" in answer
        return not isinstance(answer, str)

    browser.wait(painted, "a stroke")
    mask = np.asarray(Image.open(browser.downloaded("mask_file", ".png")))
    assert mask.shape == (64, 64) and (mask[32, 20:44] > 200).all() and mask[:10].max() == 0
    browser.wait(lambda: (shown(browser)[1] != unmasked).any(), "the masked image")


def test_an_uploaded_mask(browser: Browser, photo_path: Path, tmp_path: Path) -> None:
    open_photo(browser, photo_path)
    browser.slide(0.75)
    unmasked = edited(browser, "age +5")
    browser.click("mask_section")
    browser.wait(lambda: browser.visible("#mask"), "the kinds of masks")
    browser.choose("mask", "uploaded")
    browser.wait(lambda: browser.find("#own_mask"), "the box")
    Image.new("L", (50, 50), "white").save(tmp_path / "white.png")
    browser.upload(tmp_path / "white.png", "own_mask")
    browser.wait(lambda: (shown(browser)[1] != unmasked).any(), "the masked image")


def test_a_sweep(browser: Browser, photo_path: Path) -> None:
    open_photo(browser, photo_path)
    browser.click("sweep_section")
    browser.wait(lambda: browser.visible("#sweep"), "the section")
    browser.click("sweep")
    strip = browser.wait(lambda: browser.find("#strip img"), "the strip").get_attribute("src")
    gif = browser.wait(lambda: browser.find("#gif img"), "the GIF").get_attribute("src")
    assert Image.open(requests.get(strip, stream=True, timeout=60).raw).width == 5 * 256
    moving = Image.open(io.BytesIO(requests.get(gif, timeout=60).content))
    # Pillow joins frames that are equal in the GIF's colours, and adds up their times.
    assert sum(frame.info["duration"] for frame in ImageSequence.Iterator(moving)) == 24 * 90 and moving.n_frames > 2


def test_what_is_refused(browser: Browser, photo_path: Path, tmp_path: Path) -> None:
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

    resize(Image.open(photo_path), 9000).save(tmp_path / "large.jpg")  # takes a while to read and to find the face in
    browser.upload(tmp_path / "large.jpg")
    browser.wait(lambda: "large" in browser.find("#upload").text, "the upload")
    browser.upload(photo_path)
    assert "another image is being opened" in browser.wait(browser.message, "a message")
    edited(browser, "The inversion")


def test_leaving_removes_everything_and_nothing_came_from_elsewhere(
    server: AppServer, browser: Browser, photo_path: Path
) -> None:
    open_photo(browser, photo_path)
    assert any(name.startswith("original") for name in server.files())
    assert all(url.startswith((server.url, "data:", "blob:")) for url in browser.requested())
    browser.driver.get("about:blank")
    browser.wait(lambda: not any(name.startswith("original") for name in server.files()), "the files to go")
