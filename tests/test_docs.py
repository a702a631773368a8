"""The documentation agrees with the code, and its links lead somewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_reference_of_options_is_that_of_the_code(tmp_path: Path) -> None:
    """Otherwise run: python docs/make_reference.py"""
    maker = tmp_path / "make_reference.py"
    maker.write_bytes((ROOT / "docs" / "make_reference.py").read_bytes())
    subprocess.run([sys.executable, maker], check=True, cwd=ROOT)
    assert (tmp_path / "configuration.md").read_text() == (ROOT / "docs" / "configuration.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    links = re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", text)
    targets = [target for pair in links for target in pair if target and "://" not in target]
    missing = [target for target in targets if not (page.parent / target.split("#")[0]).exists()]
    assert not missing


def test_every_page_is_listed() -> None:
    listed = (ROOT / "docs" / "README.md").read_text()
    assert [page.name for page in PAGES[1:] if page.name != "README.md" and f"({page.name})" not in listed] == []
