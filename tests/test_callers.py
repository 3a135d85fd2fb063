"""Who is answered without a key, on both ports, and what is refused at the start."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import ValidationError
from starlette.responses import PlainTextResponse

from serve_app.callers import CallerGuard, Callers
from serve_app.fal import VENDOR_NAMES
from serve_app.local.profile import Profile, StartError
from serve_app.local.service import running
from serve_app.settings import Settings

ROOT = Path(__file__).parents[1]
PAGE = "http://127.0.0.1:8000"
OPEN: dict[str, Any] = {"required": False}


def callers(**auth: Any) -> Callers:
    found = Callers.of(Settings(auth=OPEN | auth))
    assert found is not None
    return found


async def ask(allowed: Callers, headers: Mapping[str, str], *, any_port: bool = False) -> httpx.Response:
    guarded = CallerGuard(PlainTextResponse("answered"), allowed, any_port=any_port)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(guarded), base_url=PAGE) as client:
        return await client.get("/", headers=dict(headers))


def test_keys_are_required_unless_a_profile_says_otherwise() -> None:
    settings = Settings()
    assert settings.auth.required and not settings.fetch.allow_private and not settings.webhooks.allow_private
    assert settings.relaxations == []
    assert Callers.of(settings) is None


def test_the_local_profile_names_what_it_permits() -> None:
    keys, addresses = Profile.load(ROOT / "config" / "local.yaml").settings.relaxations
    assert "no API key is asked for" in keys
    assert "may lead to this machine" in addresses


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:8000", "localhost", "LocalHost.:8000", "app.localhost:8000", "[::1]:8000", "127.8.9.1",
     socket.gethostname()],
)  # fmt: skip
async def test_this_machine_is_answered(host: str) -> None:
    assert (await ask(callers(), {"host": host})).text == "answered"


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example", "10.1.2.3:8000",
     "[2001:db8::1]", "fal.run", "0.0.0.0:8000", ""],
)  # fmt: skip
async def test_other_names_are_refused(host: str) -> None:
    reply = await ask(callers(), {"host": host})
    assert reply.status_code == 403
    assert "auth.hosts" in reply.json()["detail"]


async def test_names_of_the_profile_are_answered() -> None:
    settings = Settings(
        auth={"required": False, "hosts": ["Laptop.lan"]},
        public_url="https://api.example/base",
        files={"public_url": "https://cdn.example", "upstream": "http://127.0.0.1:9"},
    )
    allowed = Callers.of(settings)
    assert allowed is not None
    for host in ("laptop.lan:8000", "api.example", "cdn.example", "v3b.fal.media", *VENDOR_NAMES):
        assert (await ask(allowed, {"host": host})).status_code == 200


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "http://127.0.0.1:3000", "http://localhost:8000", "http://127.0.0.1", "file://"],
)  # fmt: skip
async def test_pages_of_other_origins_are_refused_and_cannot_read_it(origin: str) -> None:
    reply = await ask(callers(), {"origin": origin})
    assert reply.status_code == 403
    assert "auth.origins" in reply.json()["detail"]
    assert "access-control-allow-origin" not in reply.headers


async def test_own_pages_and_those_of_the_profile_are_answered() -> None:
    allowed = callers(origins=["http://localhost:3000/"])
    for origin in (PAGE, "http://localhost:3000"):
        assert (await ask(allowed, {"origin": origin})).status_code == 200


@pytest.mark.parametrize(
    ("site", "mode", "status"),
    [("cross-site", "no-cors", 403), ("same-site", "no-cors", 403), ("cross-site", "navigate", 200),
     ("same-origin", "no-cors", 200), ("none", "navigate", 200)],
)  # fmt: skip
async def test_images_and_scripts_of_other_pages_are_refused(site: str, mode: str, status: int) -> None:
    headers = {"sec-fetch-site": site, "sec-fetch-mode": mode}
    assert (await ask(callers(), headers)).status_code == status


async def test_the_file_port_answers_pages_of_the_api_port() -> None:
    headers = {
        "host": "127.0.0.1:8001",
        "origin": PAGE,
        "sec-fetch-site": "same-site",
        "sec-fetch-mode": "cors",
    }
    assert (await ask(callers(), headers, any_port=True)).status_code == 200
    assert (await ask(callers(), headers)).status_code == 403
    foreign = headers | {"origin": "https://evil.example"}
    assert (await ask(callers(), foreign, any_port=True)).status_code == 403


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5"])
def test_an_address_beyond_loopback_needs_keys_or_a_second_word(host: str) -> None:
    files: dict[str, Any] = {"host": host}
    with pytest.raises(ValidationError, match="OPEN_TO_NETWORK"):
        Settings(auth=OPEN, files=files)
    Settings(auth=OPEN | {"open_to_network": True}, files=files)
    Settings(files=files)


def test_a_service_beyond_loopback_does_not_start_without_keys(tmp_path: Path) -> None:
    profile = Profile("0.0.0.0", 8000, "birefnet", Settings(data_dir=tmp_path, auth=OPEN))
    with pytest.raises(StartError, match="no key is asked for"), running(profile):
        raise AssertionError("it started")
