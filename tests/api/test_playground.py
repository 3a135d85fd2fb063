"""The playground's routes: what they answer, what their policy allows, and what stays closed."""

from __future__ import annotations

import re
from urllib.parse import urljoin

import httpx
import pytest

from serve_app.accounts.keys import KeyTable
from serve_app.accounts.verifier import Verifier
from serve_app.api.playground import CONTENTS, KINDS, PAGE
from serve_app.api.urls import FileUrls
from serve_app.artifacts.store import Artifacts
from serve_app.files.links import FileLinks
from serve_app.jobs.sql.store import SqlJobStore
from tests.api.harness import SIGNER, SUBMIT, ApiHarness

LINK = re.compile(r"""(?:href|src)="([^"#]+)"|from "([^"]+)";""")


def policy(reply: httpx.Response) -> dict[str, set[str]]:
    directives = reply.headers["content-security-policy"].split(";")
    return {name: set(values) for name, *values in (directive.split() for directive in directives)}


async def test_the_page_and_what_it_loads(harness: ApiHarness) -> None:
    """Every address in the page and its modules leads to a file of its own or a page of the API."""
    asked, wanted = set(), {PAGE}
    async with harness.client() as client:
        while wanted:
            path = wanted.pop()
            asked.add(path)
            reply = await client.get(path)
            assert reply.status_code == 200, path
            assert reply.headers["x-content-type-options"] == "nosniff"
            if path == PAGE or path.startswith("/playground/"):
                body, kind = CONTENTS[path]
                assert (reply.content, reply.headers["content-type"].split(";")[0]) == (body, kind)
                assert (await client.head(path)).status_code == 200
                found = {urljoin(path, a or b) for a, b in LINK.findall(reply.text) if "@" not in b}
                wanted |= {name for name in found if name not in ("/docs", "/openapi.json")} - asked
    assert asked == set(CONTENTS) and len(asked) > 8


async def test_the_policy_allows_this_service_alone(harness: ApiHarness) -> None:
    async with harness.client() as client:
        allowed = policy(await client.get(PAGE))
    files = "http://service.example:8001"
    assert allowed == {
        "default-src": {"'none'"},
        "script-src": {"'self'"},
        "style-src": {"'self'"},
        "connect-src": {"'self'", "data:", files},
        "img-src": {"'self'", "blob:", "data:", files},
        "media-src": {"'self'", "blob:", "data:", files},
        "base-uri": {"'none'"},
        "form-action": {"'none'"},
        "frame-ancestors": {"'none'"},
    }


@pytest.mark.parametrize("host", ["a.example; script-src *", "a.example 'unsafe-inline'", "*"])
async def test_a_host_header_cannot_widen_the_policy(harness: ApiHarness, host: str) -> None:
    async with harness.client() as client:
        allowed = policy(await client.get(PAGE, headers={"Host": host}))
    assert allowed["script-src"] == {"'self'"} and len(allowed) == 9
    assert allowed["media-src"] == {"'self'", "blob:", "data:", "http://service.example:8001"}


async def test_the_policy_names_the_public_file_server(store: SqlJobStore, artifacts: Artifacts) -> None:
    urls = FileUrls(8001, FileLinks(SIGNER), "https://files.example/below/")
    async with ApiHarness(store, artifacts, urls=urls).client() as client:
        assert "https://files.example" in policy(await client.get(PAGE))["media-src"]


def test_the_page_needs_nothing_that_the_policy_refuses() -> None:
    """No script, style or handler in the markup, no address of another host, no font or frame."""
    text = CONTENTS[PAGE][0].decode()
    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon\w+=|<iframe", text) == []
    for body, kind in CONTENTS.values():
        if kind != KINDS[".svg"]:
            outside = re.findall(
                r"(?:src|href|url\(|from|import)[=(\s]*[\"']?(?:https?:)?//[^\"']+", body.decode()
            )
            assert outside == []


async def test_no_key_is_needed_for_the_page_and_for_nothing_else(
    store: SqlJobStore, artifacts: Artifacts
) -> None:
    keys = KeyTable(str(store._database.writer.url.set(drivername="sqlite")))
    harness = ApiHarness(store, artifacts, verifier=Verifier(keys, 5.0))
    async with harness.client() as client:
        for path in CONTENTS:
            assert (await client.get(path)).status_code == 200
        for path in ("/playground", "/playground/", "/playground/__init__.py", "/playground/../health/"):
            assert (await client.get(path)).status_code == 401
        assert (await client.post(SUBMIT, json={})).status_code == 401
        assert (await client.post(PAGE)).status_code == 405
    await keys.close()


async def test_only_the_files_of_the_page_are_served(harness: ApiHarness) -> None:
    async with harness.client() as client:
        for path in (
            "/playground",
            "/playground/",
            "/playground/__init__.py",
            "/playground/index.html",
            "/index.html",
        ):
            assert (await client.get(path)).status_code == 404
        assert not any("playground" in path or path == PAGE for path in harness.app.openapi()["paths"])
