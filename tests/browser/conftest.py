"""A running service and a Chromium that a test drives, and what the page said and asked for meanwhile."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, ViewportSize, sync_playwright

from tests.cluster.service import Service, running_service
from tests.video.clips import X264, Clip, make

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--force-color-profile=srgb"]
WIDE = ViewportSize(width=1280, height=900)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running_service(tmp_path_factory.mktemp("playground") / "data") as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("not installed: chromium")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield started
        started.close()


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two thirds of a second, 320 pixels wide."""
    directory = tmp_path_factory.mktemp("clip")
    return make(directory / "short.mp4", Clip("short.mp4", frames=16, width=320, height=192, options=X264))


@dataclass
class Seen:
    """What a page did: lines of its console above info, uncaught errors, and the origins that it asked."""

    complaints: list[str] = field(default_factory=list)
    origins: set[str] = field(default_factory=set)

    def line(self, line: ConsoleMessage) -> None:
        if line.type in ("warning", "error"):
            self.complaints.append(line.text)


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def page(service: Service, browser: Browser, seen: Seen) -> Iterator[Page]:
    """The playground, loaded, in a profile of its own."""
    context = browser.new_context(
        viewport=WIDE, color_scheme="light", permissions=["clipboard-read", "clipboard-write"]
    )
    page = context.new_page()
    page.on("console", seen.line)
    page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    page.on("request", lambda request: seen.origins.add(origin(request.url)))
    page.goto(service.url + "/")
    page.locator("#video_output_type").wait_for()
    yield page
    context.close()


def origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else f"{parts.scheme}:"
