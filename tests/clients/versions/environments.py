"""A client in a throw-away environment, and what it says of each function."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from serve_app.local.profile import free_port
from tests.clients.conftest import HERE
from tests.clients.versions.clients import Client
from tests.clients.versions.replies import Reply
from tests.cluster.service import Service
from tests.waiting import wait_until

DRIVERS = Path(__file__).parent / "drivers"
FUNCTION_S = 90
INSTALL_S = 500
NAMES = ("*.fal.run", "fal.run", "*.fal.ai", "*.fal.media", "fal.media", "falrun.com", "*.falrun.com")
NEXT_ROUTES = {"next, app router": "/api/fal/proxy", "next, pages router": "/api/pages/proxy"}


@dataclass(frozen=True)
class Target:
    """A service that answers for the vendor's names, and the URLs of a short and of a long clip."""

    service: Service
    clips: tuple[str, str]


@dataclass(frozen=True)
class Environment:
    """A directory with a client and the programs that try it."""

    client: Client
    directory: Path

    def _variables(self, target: Target) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory),
            "FAL_KEY": "any:key",
            "NAMES_PORT": target.service.url.rpartition(":")[2],
            "SSL_CERT_FILE": str(target.service.ca),
            "NODE_EXTRA_CA_CERTS": str(target.service.ca),
            "NEXT_TELEMETRY_DISABLED": "1",
            **self.client.environment,
        }

    def install(self) -> None:
        """Into the directory, unless the client is there already; the programs are copied each time."""
        shutil.copytree(DRIVERS, self.directory, dirs_exist_ok=True)
        shutil.copytree(DRIVERS / "proxies", self.directory, dirs_exist_ok=True)
        for name in ("names.py", "names.mjs"):
            shutil.copy(HERE / name, self.directory)
        done = self.directory / "installed"
        if not done.exists():
            self._install_packages()
            done.touch()

    def _install_packages(self) -> None:
        if self.client.runtime == "python":
            self._call([sys.executable, "-m", "venv", "venv"], dict(os.environ))
            pip = ["venv/bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            self._call([*pip, *self.client.packages], dict(os.environ))
            return
        (self.directory / "package.json").write_text('{"private": true}')
        install = ["npm", "install", "--no-audit", "--no-fund", "--silent", *self.client.npm_options]
        self._call([*install, *self.client.packages], dict(os.environ))

    def _call(self, command: list[str], environment: dict[str, str]) -> None:
        done = subprocess.run(
            command, cwd=self.directory, env=environment, capture_output=True, text=True, timeout=INSTALL_S
        )
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"

    def try_all(self, target: Target) -> dict[str, Reply]:
        if self.client.runtime == "chromium":
            return self._in_chromium(target)
        if self.client.runtime == "python":
            return self._by_program(target, ["venv/bin/python", "names.py"], {})
        node = ["node", "--import", "./names.mjs"]
        if self.client.runtime == "node":
            return self._by_program(target, node, {})
        with self._proxy(target, node) as url:
            return self._by_program(target, node, {"PROXY_URL": url})

    def _by_program(self, target: Target, interpreter: list[str], more: dict[str, str]) -> dict[str, Reply]:
        """Each function in a process of its own."""
        replies = {}
        for function in self.client.functions:
            command = [*interpreter, self.client.driver, function, *target.clips]
            try:
                done = subprocess.run(
                    command,
                    cwd=self.directory,
                    env=self._variables(target) | more,
                    capture_output=True,
                    text=True,
                    timeout=FUNCTION_S,
                )
            except subprocess.TimeoutExpired:
                replies[function] = Reply("fails", f"no end after {FUNCTION_S} s")
                continue
            lines = done.stdout.splitlines() if done.returncode == 0 else []
            replies[function] = (
                Reply(**json.loads(lines[-1])) if lines else Reply("fails", done.stderr[-300:])
            )
        return replies

    def _in_chromium(self, target: Target) -> dict[str, Reply]:
        from playwright.sync_api import sync_playwright

        bundle = [
            "npx",
            "esbuild",
            "browser.mjs",
            "--bundle",
            "--format=iife",
            "--outfile=bundle.js",
            "--log-level=error",
        ]
        self._call(bundle, dict(os.environ))
        here = f"127.0.0.1:{self._variables(target)['NAMES_PORT']}"
        rules = ", ".join(f"MAP {name} {here}" for name in NAMES)
        flags = [
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            f"--host-resolver-rules={rules}",
        ]
        page_url, short, long = target.clips[0].rpartition("/")[0] + "/page.html", *target.clips
        replies = {}
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
            # Chromium does not read the authority from the environment.
            context = browser.new_context(ignore_https_errors=True)
            page = context.new_page()
            page.goto(page_url)
            page.add_script_tag(content=(self.directory / "bundle.js").read_text())
            call = """([name, clips, limit]) => Promise.race([globalThis.attempt(name, clips),
                new Promise((end) => setTimeout(() => end({outcome: "fails", remark: "no end"}), limit))])"""
            for function in self.client.functions:
                asked: list[Any] = [function, {"short": short, "long": long}, 1000 * FUNCTION_S]
                replies[function] = Reply(**page.evaluate(call, asked))
            browser.close()
        return replies

    @contextmanager
    def _proxy(self, target: Target, node: list[str]) -> Iterator[str]:
        """A server of the kind that the runtime names, until the block ends; gives the proxy's URL."""
        port = free_port()
        environment = self._variables(target) | {"PORT": str(port)}
        route = NEXT_ROUTES.get(self.client.runtime)
        if route:
            environment["NODE_OPTIONS"] = f"--import {self.directory}/names.mjs"
            command = ["node", "../node_modules/next/dist/bin/next", "dev", "--hostname", "127.0.0.1"]
        else:
            command = [*node, f"{self.client.runtime}.mjs"]
        cwd = self.directory / "next" if route else self.directory
        url = f"http://127.0.0.1:{port}{route or '/api/fal/proxy'}"

        def is_up() -> bool:
            try:  # without a target the proxy refuses, which says that it is there
                return httpx.post(url, json={}, timeout=60, trust_env=False).status_code == 400
            except httpx.TransportError:
                return False

        with (self.directory / "proxy.log").open("w") as log:
            server = subprocess.Popen(command, cwd=cwd, env=environment, stdout=log, stderr=log)
            try:
                wait_until(is_up, 180)
                yield url
            finally:
                server.terminate()
                server.wait(timeout=30)
