"""The page in headless Chromium. As a program: start the page and write its screenshot.

python tests/app_browser.py assets/page.png [CONFIG [QUERY [WIDTH]]]    QUERY: of a link, such as edit=age:5
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from shutil import which
from typing import Any

from app_server import AppServer

BINARIES = ("/usr/bin/chromium", "/usr/bin/chromedriver")
FLAGS = """--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync --enable-unsafe-swiftshader --hide-scrollbars --window-size=1400,1020"""


def missing() -> str:
    """What there is no browser test without; "" if all is there."""
    try:
        import selenium  # noqa: F401
    except ImportError:
        return "selenium is not installed: pip install -e '.[dev]'"
    absent = [path for path in BINARIES if not which(path)]
    return f"{' and '.join(absent)} missing: apt-get install chromium chromium-driver" if absent else ""


class Browser:
    """A window; downloads go to `folder`."""

    def __init__(self, folder: Path) -> None:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        options = webdriver.ChromeOptions()
        options.binary_location = BINARIES[0]
        for flag in (*FLAGS.split(), f"--user-data-dir={tempfile.mkdtemp(dir=folder)}"):
            options.add_argument(flag)
        options.add_experimental_option("prefs", {"download.default_directory": str(folder)})
        options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
        self.folder = folder
        self.driver = webdriver.Chrome(options=options, service=Service(BINARIES[1]))  # no look-up on the internet

    def open(self, url: str) -> None:
        """The page, as for a new visitor."""
        self.driver.get(url)
        self.present("#upload input[type=file]")

    def close(self) -> None:
        self.driver.quit()

    def all(self, selector: str) -> list[Any]:
        return self.driver.find_elements("css selector", selector)

    def find(self, selector: str) -> Any:
        """The first match, or None."""
        return next(iter(self.all(selector)), None)

    def present(self, selector: str) -> Any:
        """The first match, once there is one: parts of the page come one after another."""
        return self.wait(lambda: self.find(selector), selector)

    def visible(self, selector: str) -> bool:
        """Whether the first match is there and shown."""
        script = "return !!document.querySelector(arguments[0])?.checkVisibility()"  # at once: elements come and go
        return self.driver.execute_script(script, selector)

    def wait(self, condition: Callable[[], Any], what: str, seconds: float = 120) -> Any:
        """What the condition gives once it is true."""
        end = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < end, f"{what}: waited for in vain; the page: {self.find('body').text}"
            time.sleep(0.05)
        return found

    def upload(self, path: Path, box: str = "upload") -> None:
        """Give a file box a file, in place of the one that it may have."""

        def emptied() -> Any:
            for remove in self.all(f"#{box} button[aria-label='Clear']"):
                if remove.is_displayed():  # the other one belongs to messages
                    self.press(remove)
            return self.find(f"#{box} input[type=file]")

        self.wait(emptied, "an empty file box").send_keys(str(path))

    def choose(self, group: str, text: str) -> None:
        """Click the radio button or checkbox of that label."""

        def labels() -> list[Any]:
            return [label for label in self.all(f"#{group} label") if label.text.strip() == text]

        self.press(self.wait(labels, f"{text} of {group}")[0])

    def click(self, name: str) -> None:
        self.press(self.present(f"#{name} > button, button#{name}"))

    def press(self, element: Any) -> None:
        """Scroll there and click."""
        from selenium.common.exceptions import ElementClickInterceptedException, ElementNotInteractableException

        def pressed() -> bool:
            self.scroll_to(element)
            try:
                element.click()
            except (ElementClickInterceptedException, ElementNotInteractableException):  # the page is moving
                return False
            return True

        self.wait(pressed, "a click")

    def scroll_to(self, element: Any) -> None:
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)

    def slide(self, part: float, name: str) -> None:
        """Click on a slider at a part of its length."""
        bar = self.present(f"#{name} input[type=range]")
        self.scroll_to(bar)
        self.drag(bar, [part])

    def drag(self, element: Any, parts: list[float]) -> None:
        """Press the mouse at the first part of the element's width, move along the others, let go."""
        from selenium.webdriver import ActionChains

        moves, width = ActionChains(self.driver, duration=50), element.size["width"]
        for i, part in enumerate(parts):
            moves.move_to_element_with_offset(element, round((part - 0.5) * (width - 4)), 0)
            if i == 0:
                moves.click_and_hold()
        moves.release().perform()

    def press_at(self, element: Any, x: float, y: float) -> None:
        """Click at a part of the element's width and height."""
        from selenium.webdriver import ActionChains

        self.scroll_to(element)
        width, height = element.size["width"], element.size["height"]
        move = ActionChains(self.driver).move_to_element_with_offset(
            element, round((x - 0.5) * width), round((y - 0.5) * height)
        )
        move.click().perform()

    def resize(self, width: int, height: int = 900) -> None:
        """Give the page a size that the window itself may be too large for."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def pictures(self) -> list[str]:
        """Addresses of the two images that are compared, before and after; none before there are any."""
        images = [self.find(f"#compare {kind}") for kind in ("img.before", "img:not(.before)")]
        return [src for image in images if image and "file=" in (src := image.get_attribute("src") or "")]

    def status(self) -> str:
        return self.present("#status").text

    def message(self) -> str:
        """The error that is shown; it is closed. "" if there is none."""
        text = next((text for toast in self.all("[data-testid=toast-text]") if (text := toast.text)), "")
        if text:
            self.find("[data-testid=toast-close]").click()
            self.wait(lambda: not self.all("[data-testid=toast-text]"), "the message to close")
        return text

    def downloaded(self, name: str, suffix: str) -> Path:
        """Click a download button; the file."""
        before = set(self.folder.glob(f"*{suffix}"))
        self.press(self.present(f"#{name}"))
        new = self.wait(lambda: set(self.folder.glob(f"*{suffix}")) - before, f"a download of {suffix}")
        return new.pop()

    def requested(self) -> set[str]:
        """Addresses that the page has asked for."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        return {params["request"]["url"] for params in sent if not params["documentURL"].startswith("chrome:")}


def main(target: Path, config: Path, query: str, width: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = AppServer(config, Path(folder) / "log")
        browser = Browser(Path(folder))
        try:
            browser.resize(width)
            browser.open(f"{server.url}/?{query}")
            browser.wait(lambda: len(browser.pictures()) == 2, "the sample")
            time.sleep(2)
            browser.driver.save_screenshot(str(target))
        finally:
            browser.close()
            server.stop()


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # folders of tests/ hide rooms of the same name
    from runners.app.studio import default_config

    words = sys.argv[1:] or sys.exit(__doc__)
    chosen = Path(words[1]) if len(words) > 1 else default_config()
    main(Path(words[0]), chosen, words[2] if len(words) > 2 else "", int(words[3]) if len(words) > 3 else 1400)
