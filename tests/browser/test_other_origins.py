"""A page of another origin, in Chromium, beside a local service that asks for no key."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest
from playwright.sync_api import Browser, Page

from serve_app.fal import ENDPOINT, ENDPOINT_ID
from tests.cluster.service import Service

pytestmark = pytest.mark.cluster

REQUESTS = "/v1/models/requests/by-endpoint"

# What a page can try: fetch with and without CORS, a form, an image, a script, a frame. Each says what it got.
ATTEMPTS = """async ([api, files, path]) => {
  const body = JSON.stringify({video_url: "http://127.0.0.1:1/video.mp4"});
  const read = async (url, options) => {
    try { return {status: (await fetch(url, options)).status}; } catch (error) { return {error: error.name}; }
  };
  const loads = (tag, url) => new Promise(done => {
    const element = document.createElement(tag);
    element.onload = () => done("loaded"); element.onerror = () => done("error");
    element.src = url; document.body.append(element);
  });
  return {
    list: await read(`${api}/v1/models/requests/by-endpoint?endpoint_id=fal-ai/birefnet/v2/video`),
    health: await read(`${api}/health`),
    openapi: await read(`${api}/openapi.json`),
    submit: await read(`${api}/queue${path}`, {method: "POST", body, headers: {"content-type": "application/json"}}),
    simple: await read(`${api}/queue${path}`, {method: "POST", body, headers: {"content-type": "text/plain"}}),
    blind: await read(`${api}/queue${path}`, {method: "POST", body, mode: "no-cors"}),
    token: await read(`${api}/rest/storage/auth/token`, {method: "POST"}),
    upload: await read(`${files}/files/upload`, {method: "POST", body}),
    image: await loads("img", `${api}/playground/icon.svg`),
    script: await loads("script", `${api}/playground/app.js`),
  };
}"""


@pytest.fixture
def foreign(browser: Browser, tmp_path: Path) -> Iterator[Page]:
    """A page at another port of this machine."""
    (tmp_path / "index.html").write_text("<!doctype html><title>another origin</title><body></body>")
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"http://localhost:{server.server_port}/index.html")
        yield page
        context.close()
        server.shutdown()


def requests_of(service: Service) -> list[object]:
    reply = service.client.get(REQUESTS, params={"endpoint_id": ENDPOINT_ID}).raise_for_status()
    found: list[object] = reply.json()["items"]
    return found


def file_server(service: Service) -> str:
    return str(service.client.post("/rest/storage/auth/token").raise_for_status().json()["base_url"])


def test_it_can_neither_read_nor_submit(foreign: Page, service: Service) -> None:
    before = requests_of(service)
    found = foreign.evaluate(ATTEMPTS, [service.url, file_server(service), ENDPOINT])
    unreadable = {"error": "TypeError"}
    # A request without CORS ends with an opaque reply, of which the page sees nothing; it must not have worked either.
    assert found.pop("blind") == {"status": 0}
    assert found.pop("image") == found.pop("script") == "error"
    assert found == dict.fromkeys(found, unreadable)
    assert requests_of(service) == before


def test_a_form_submits_nothing(foreign: Page, service: Service) -> None:
    before = requests_of(service)
    foreign.evaluate(
        """url => {
          const form = document.createElement("form");
          form.method = "post"; form.enctype = "text/plain"; form.action = url;
          const field = document.createElement("input");
          field.name = '{"video_url": "http://127.0.0.1:1/v.mp4", "x": "'; field.value = '"}';
          form.append(field); document.body.append(form); form.submit();
        }""",
        f"{service.url}/queue{ENDPOINT}",
    )
    foreign.wait_for_url(f"{service.url}/**")
    assert "auth.origins" in foreign.content()
    assert requests_of(service) == before


def test_a_name_that_was_pointed_here_is_not_answered(service: Service) -> None:
    """As after DNS rebinding: the page's own name, this machine's address."""
    port = service.url.rpartition(":")[2]
    for path in (REQUESTS, "/health", "/"):
        reply = httpx.get(service.url + path, headers={"host": f"rebound.example:{port}"})
        assert reply.status_code == 403
