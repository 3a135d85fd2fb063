"""The playground in Chromium against a running service, as a person uses it."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Locator, Page, Route, ViewportSize, expect

from serve_app.api.schema import VideoInput
from tests.browser.conftest import Seen, origin
from tests.cluster.media import read
from tests.cluster.service import JOB_S, Service
from tests.video.clips import X264, Clip, make

pytestmark = pytest.mark.cluster

JOB_MS = JOB_S * 1000
CHECKS = {(207, 212, 220), (255, 255, 255)}  # of the light checkerboard
PHONE = ViewportSize(width=360, height=740)


def start(page: Page, clip: Path) -> None:
    page.set_input_files("#file", clip)
    page.get_by_role("button", name="Remove the background").click()


def finish(page: Page) -> None:
    expect(page.locator("#done")).to_be_visible(timeout=JOB_MS)


def pixels(box: Locator) -> np.ndarray:
    """What the browser shows there: RGB uint8 [H, W, 3]."""
    return np.asarray(Image.open(io.BytesIO(box.screenshot())).convert("RGB"))


def result_of(page: Page, service: Service) -> dict[str, Any]:
    request_id = page.evaluate("JSON.parse(localStorage['birefnet.requests'])[0].id")
    reply = service.client.get(f"/queue/fal-ai/birefnet/requests/{request_id}").raise_for_status()
    output: dict[str, Any] = reply.json()
    return output


def code(page: Page, language: str) -> str:
    page.get_by_label("Language").select_option(language)
    return page.locator("#code").inner_text()


def test_a_clip_becomes_a_cutout_over_a_checkerboard(
    page: Page, seen: Seen, service: Service, clip: Path, tmp_path: Path
) -> None:
    """Upload, progress, end. Where the file is transparent, the page shows the checkerboard; nothing else was asked."""
    start(page, clip)
    expect(page.locator("#progress")).to_be_visible()
    finish(page)
    assert "segmented 16 frames" in page.locator("#log").text_content()  # type: ignore[operator]
    output = result_of(page, service)
    path = tmp_path / "output.webm"
    path.write_bytes(service.client.get(output["video"]["url"]).raise_for_status().content)
    alpha = read(path).alpha
    assert alpha is not None
    page.evaluate("document.querySelector('#stage-box video').pause()")
    seen_there = pixels(page.locator("#stage-box"))
    height, width = seen_there.shape[:2]
    y, x = np.arange(height) * alpha.shape[1] // height, np.arange(width) * alpha.shape[2] // width
    clear = eroded((alpha == 0).all(0))[np.ix_(y, x)]
    clear[:12], clear[-12:], clear[:, :12], clear[:, -12:] = False, False, False, False  # rounded corners
    assert clear.mean() > 0.05
    shown, counts = np.unique(seen_there[clear], axis=0, return_counts=True)
    share = {tuple(int(v) for v in colour): n / counts.sum() for colour, n in zip(shown, counts, strict=True)}
    assert all(share.get(colour, 0) > 0.2 for colour in CHECKS), share
    assert sum(share.get(colour, 0) for colour in CHECKS) > 0.98, share  # the rest: edges of the squares
    assert seen.complaints == []
    assert seen.origins - {"blob:"} == {service.url, origin(output["video"]["url"])}


def eroded(mask: np.ndarray) -> np.ndarray:
    """Without the pixels within 3 of one that is not in it."""
    for axis in (0, 1):
        for shift in range(-3, 4):
            mask = mask & np.roll(mask, shift, axis)
    return mask


@pytest.mark.long
def test_the_controls_are_the_contract(page: Page) -> None:
    """Every input has a labelled control with the contract's text and values, described to screen readers."""
    fields = VideoInput.model_json_schema()
    for name, schema in fields["properties"].items():
        control = page.locator("#url" if name == "video_url" else f"#{name}")
        described = control.get_attribute("aria-describedby")
        assert schema["description"] in page.locator(f"#{described}").inner_text()
        assert name in control.evaluate("control => control.labels[0].innerText")
        if "$ref" in schema:
            values = fields["$defs"][schema["$ref"].split("/")[-1]]["enum"]
            assert control.locator("option").all_inner_texts() == values


@pytest.mark.long
def test_a_request_is_cancelled(page: Page, service: Service, tmp_path: Path) -> None:
    clip = make(tmp_path / "long.mp4", Clip("long.mp4", frames=400, width=320, height=192, options=X264))
    start(page, clip)
    expect(page.locator("#figures")).to_contain_text("frames", timeout=JOB_MS)
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#progress")).to_be_hidden(timeout=JOB_MS)
    expect(page.locator("#recent-list li")).to_contain_text("cancelled")
    request_id = page.evaluate("JSON.parse(localStorage['birefnet.requests'])[0].id")
    status = service.client.get(f"/queue/fal-ai/birefnet/requests/{request_id}/status").json()
    assert status["error_type"] == "client_cancelled"
    expect(page.get_by_role("button", name="Remove the background")).to_be_focused()


@pytest.mark.long
def test_the_code_runs_and_has_the_values_of_the_request(page: Page, service: Service, clip: Path) -> None:
    page.get_by_label("Output mask").check()
    page.get_by_label("Video write mode").select_option("fast")
    page.get_by_label("Refine foreground").uncheck()
    start(page, clip)
    finish(page)
    expect(page.locator("#mask-figure video")).to_be_visible()
    wanted = result_of(page, service)
    size = wanted["video"]["file_size"]
    python = subprocess.run(
        [sys.executable, "-c", code(page, "python")],
        capture_output=True,
        text=True,
        timeout=JOB_S,
        check=True,
    )
    assert int(service.client.head(python.stdout.strip()).headers["content-length"]) == size
    curl = subprocess.run(
        ["bash", "-c", code(page, "curl")], capture_output=True, text=True, timeout=JOB_S, check=True
    )
    output = json.loads(curl.stdout)
    assert (output["video"]["file_size"], set(output)) == (size, {"video", "mask_video"})
    shell, javascript = code(page, "shell"), code(page, "javascript")
    assert "--mask --no-refine --write-mode fast" in shell.replace("\\\n  ", "")
    assert f"--server '{service.url}'" in shell and "--type webm" in shell
    sent = json.loads(re.search(r"input: (\{.*?\n  \})", javascript, re.S)[1])  # type: ignore[index]
    assert sent.pop("video_url").startswith("http")
    assert sent == {
        "output_mask": True,
        "refine_foreground": False,
        "video_output_type": "VP9 (.webm)",
        "video_write_mode": "fast",
    }
    page.get_by_role("button", name="Copy").click()
    assert page.evaluate("navigator.clipboard.readText()") == page.locator("#code").text_content()


@pytest.mark.long
def test_a_key_stays_in_memory_and_out_of_the_code(page: Page) -> None:
    page.get_by_text("API key", exact=True).click()
    page.get_by_label("Key, if this service asks for one").fill("id:very-secret")
    for language in ("curl", "python", "javascript", "shell"):
        text = code(page, language)
        assert "very-secret" not in text and ("FAL_KEY" in text or language == "shell")
    assert "very-secret" not in page.evaluate("JSON.stringify({...localStorage, ...sessionStorage})")
    assert page.context.cookies() == []


@pytest.mark.long
def test_an_error_says_what_happened_and_what_to_do(page: Page, seen: Seen) -> None:
    page.get_by_label("or its address").fill("http://127.0.0.1:9/none.mp4")
    page.get_by_role("button", name="Remove the background").click()
    error = page.get_by_role("alert")
    expect(error).to_contain_text("video_url", timeout=JOB_MS)
    expect(error).to_contain_text("drop the file here instead")
    expect(page.locator("#recent-list li")).to_contain_text("failed")
    assert all("422" in line for line in seen.complaints), seen.complaints  # the browser's own line


@pytest.mark.long
def test_by_keyboard_alone(page: Page, service: Service, clip: Path) -> None:
    """Every step by Tab, Space, Enter and arrows; what has the focus always shows it."""
    address = service.client.post(
        "/rest/storage/upload/initiate", json={"file_name": "c.mp4", "content_type": "video/mp4"}
    ).json()
    service.client.put(
        address["upload_url"], content=clip.read_bytes(), headers={"Content-Type": "video/mp4"}
    )

    def tab_to(selector: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            focused = page.locator(":focus")
            assert focused.count() == 1
            if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                visible = "el => getComputedStyle(el.id == 'file' ? el.nextElementSibling : el).outlineStyle"
                assert focused.evaluate(visible) == "solid"
                return
        raise AssertionError(f"{selector} is not reached by Tab")

    tab_to("#url")
    page.keyboard.type(address["file_url"])
    tab_to("#video_write_mode")
    page.keyboard.type("fast")
    tab_to("#start")
    page.keyboard.press("Enter")
    expect(page.locator("#cancel")).to_be_focused()
    finish(page)
    expect(page.locator("#result")).to_be_focused()
    expect(page.get_by_role("status")).to_contain_text("Finished")
    tab_to("#play")
    label = page.locator("#play").inner_text()
    page.keyboard.press("Space")
    expect(page.locator("#play")).not_to_have_text(label)
    tab_to("#backdrop input")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#stage-box")).not_to_have_class(re.compile("checkerboard"))
    tab_to("#downloads a")
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    assert download.value.suggested_filename == "output.webm"


@pytest.mark.long
def test_before_and_after(page: Page, clip: Path) -> None:
    """The slider uncovers the source from the left."""
    start(page, clip)
    finish(page)
    page.evaluate("document.querySelector('#stage-box video').pause()")
    after = pixels(page.locator("#stage-box")).astype(int)
    page.locator("#compare").fill("50")
    half = pixels(page.locator("#stage-box")).astype(int)
    middle = after.shape[1] // 2
    assert (np.abs(half - after)[:, : middle - 8].max(-1) > 8).mean() > 0.1
    assert (np.abs(half - after)[:, middle + 8 :].max(-1) > 8).mean() < 0.02


@pytest.mark.long
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_serious_finding_of_axe(page: Page, clip: Path, scheme: Literal["light", "dark"]) -> None:
    page.emulate_media(color_scheme=scheme)
    serious: list[Any] = []

    def look() -> None:
        found = Axe().run(page).response["violations"]
        serious.extend(one for one in found if one["impact"] in ("serious", "critical"))

    look()
    start(page, clip)
    finish(page)
    page.locator("#log-box > summary").click()
    page.locator("#access > summary").click()
    look()
    page.get_by_label("or its address").fill("http://127.0.0.1:9/none.mp4")
    page.get_by_role("button", name="Remove the background").click()
    expect(page.get_by_role("alert")).to_be_visible(timeout=JOB_MS)
    look()
    assert [(one["id"], one["nodes"][0]["html"][:200]) for one in serious] == []


@pytest.mark.long
def test_a_phone_scrolls_in_one_direction(page: Page, clip: Path) -> None:
    page.set_viewport_size(PHONE)
    page.get_by_label("Output mask").check()
    width = "[document.documentElement.scrollWidth, document.body.scrollWidth]"
    assert max(page.evaluate(width)) <= PHONE["width"]
    start(page, clip)
    finish(page)
    page.locator("#log-box > summary").click()
    for language in ("curl", "python", "javascript", "shell"):
        code(page, language)
        assert max(page.evaluate(width)) <= PHONE["width"]


@pytest.mark.long
def test_a_recent_request_is_shown_again(page: Page, clip: Path) -> None:
    start(page, clip)
    finish(page)
    # Before the page has read the contract nothing can be shown, and it does not offer to.
    held: list[Route] = []
    page.route("**/openapi.json", lambda route: held.append(route))
    page.reload(wait_until="commit")
    show = page.get_by_role("button", name="Show the request for short.mp4")
    expect(show).to_be_disabled()
    held[0].continue_()
    show.click()
    finish(page)
    expect(page.locator("#stage-box video").first).to_be_visible()
    page.get_by_role("button", name="Forget them").click()
    expect(page.locator("#recent-list li")).to_have_count(0)
