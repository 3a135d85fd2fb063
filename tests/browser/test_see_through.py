"""A page shines through what the service made: Chromium and Firefox show a WebM and a GIF over a green page."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serve_app.fal import OutputType
from serve_app.segmentation.processing import CutoutEngine
from tests.browser.screen import BROWSERS, MARK, READY, missing, running, screen, served
from tests.video import colour_reference as reference
from tests.video.corpus_colour import CASES, make_case
from tests.video.test_corpus_colour import CLEAR, OPAQUE, engine, run

__all__ = ["engine"]

GREEN = (0, 200, 0)
TOP = 20  # of the picture on the page
WAIT_S = 60.0
# Steps of red, green and blue. libyuv, by which Chromium converts, holds a coefficient in a byte: 2.0 for the 2.11 by
# which blue grows with Cb in BT.709.
BOUND = (7, 7, 13)

PAGE = """<!doctype html><meta charset=utf-8>
<body style="margin:0;overflow:hidden;background:rgb{green}">
<div style="position:absolute;left:0;top:0;width:8px;height:8px;background:rgb{mark}"></div>
{element}
<script>
const told = () => requestAnimationFrame(() => requestAnimationFrame(() => fetch("{ready}")));
const shown = document.getElementById("shown");
if (shown.tagName == "IMG") shown.decode().then(told);
else {{
  shown.addEventListener("loadeddata", () => {{ shown.currentTime = 0.09; }}, {{once: true}});
  shown.addEventListener("seeked", told, {{once: true}});
}}
</script>"""
ELEMENTS = {
    OutputType.WEBM: '<video id=shown src="{file}" muted preload=auto style="{style}"></video>',
    OutputType.GIF: '<img id=shown src="{file}" style="{style}">',
}
STYLE = f"position:absolute;left:0;top:{TOP}px"


@pytest.mark.long
@pytest.mark.parametrize("kind", list(ELEMENTS), ids=lambda kind: kind.name.lower())
@pytest.mark.parametrize("browser", BROWSERS)
@pytest.mark.parametrize("name", ["sd.mkv", "wide-samples.mp4", "pq.mkv"])
def test_the_page_shines_through(
    engine: CutoutEngine, tmp_path: Path, name: str, browser: str, kind: OutputType
) -> None:
    if absent := missing(browser):
        pytest.skip(f"not installed: {', '.join(absent)}")
    case = CASES[name]
    (tmp_path / "page").mkdir()
    index, out = run(engine, make_case(tmp_path / name, case), tmp_path, kind)
    out.rename(tmp_path / "page" / out.name)
    element = ELEMENTS[kind].format(file=out.name, style=STYLE)
    page = PAGE.format(green=GREEN, mark=MARK, element=element, ready=READY)
    (tmp_path / "page" / "index.html").write_text(page)
    shape = round(index.layout.width * index.sample_aspect), index.layout.height
    seen = shown(browser, tmp_path, shape)
    where = case.seen(*shape)
    across = np.arange(shape[0]) / shape[0]
    clear, opaque = (where >= 0) & (across > CLEAR), (where >= 0) & (across < OPAQUE)
    assert clear.any() and opaque.any()
    assert (seen[clear] == GREEN).all()
    for patch in np.unique(where[opaque]):
        rgb = reference.sdr(case.source_rgb(int(patch)), *case.tags[2:], case.peak)
        if kind is OutputType.WEBM and browser == "firefox-esr":
            rgb = as_firefox_reads(rgb, case.tags[0])
        found = seen[opaque & (where == patch)].mean(0)
        error = np.abs(found - rgb * 255)
        assert (error < BOUND).all(), f"patch {patch}: {found}, not {rgb * 255}"


def as_firefox_reads(rgb: np.ndarray, matrix: int) -> Any:
    """Firefox 153 reads VP9 with alpha by the matrix of BT.601, whatever the file says."""
    codes = reference.encode(rgb, matrix if matrix in (5, 6) else 1, False, 8)
    return reference.decode(tuple(codes), 5, False, 8)


def shown(browser: str, folder: Path, shape: tuple[int, int]) -> np.ndarray:
    """The pixels [H, W, 3] at which the page has its picture, once there is more to see than the page."""
    home = folder / "home"
    home.mkdir()
    width, height = shape
    with served(folder / "page") as (url, ready), screen(folder) as display:
        environment = os.environ | {"DISPLAY": display.display, "HOME": str(home), "MOZ_ENABLE_WAYLAND": "0"}
        with running(BROWSERS[browser](home / "profile", f"{url}/index.html"), env=environment):
            assert ready.wait(WAIT_S), f"{browser} did not show the page"
            until = time.monotonic() + WAIT_S
            while time.monotonic() < until:
                page = display.page()
                if page is not None and (page[TOP : TOP + height, : width // 4] != GREEN).any(-1).all():
                    return page[TOP : TOP + height, :width]
                time.sleep(0.1)
    raise AssertionError(f"{browser} shows nothing over the page")
