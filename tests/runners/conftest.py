"""Shared by tests of the page's logic."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from small_domain import SmallDomain

if TYPE_CHECKING:
    from runners.app.studio import Studio


@pytest.fixture
def studio(small: SmallDomain, tmp_path: Path) -> Studio:
    """The page's logic for the small domain, with its files in a folder of the test."""
    from runners.app.studio import Studio

    return Studio(small.config, "cpu", tmp_path / "server")


@pytest.fixture
def photo(photo_path: Path, studio: Studio) -> Path:
    """me.png, an upload of the photograph."""
    from app_studio import uploaded

    return uploaded(studio, "me.png", photo_path.read_bytes())
