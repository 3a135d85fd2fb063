"""Installs clients of other years and makers into throw-away environments, tries their functions against a service that
answers for the vendor's names, and writes what came of it into docs/2-clients.md.

    python -m tests.clients.versions [--only WORD] [--environments DIRECTORY] [--install]

The engine of the service is a light one: what is tried is the protocol.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

from tests.clients.conftest import LONG, SHORT
from tests.clients.versions.clients import CLIENTS, PROXIES
from tests.clients.versions.environments import Environment, Target
from tests.clients.versions.replies import PAGE, Row, load, save, written
from tests.cluster import light
from tests.cluster.service import MediaServer, running_service
from tests.video.clips import make


@contextmanager
def target(directory: Path) -> Iterator[Target]:
    sources = directory / "sources"
    sources.mkdir()
    (sources / "page.html").write_text("<!doctype html><title>Another origin</title>")
    for clip in (SHORT, LONG):
        make(sources / clip.name, clip)
    media = MediaServer(sources)
    try:
        origins = json.dumps([media.url("").rstrip("/")])  # of the page, as the service asks for no keys
        environment = light.ENVIRONMENT | {light.FRAME_S: "0.02", "BIREFNET_AUTH__ORIGINS": origins}
        with running_service(directory / "data", tls=True, names=True, environment=environment) as service:
            yield Target(service, (media.url(SHORT.name), media.url(LONG.name)))
    finally:
        media.stop()


def try_all(environments: list[Environment], directory: Path) -> None:
    """Each row is saved when it is complete."""
    rows = load()
    with target(directory) as here:
        for environment in environments:
            replies = environment.try_all(here)
            rows[environment.client.label] = Row(date.today().isoformat(), replies)
            save(rows)
            shown = [f"{name}: {reply.outcome} {reply.remark or ''}" for name, reply in replies.items()]
            print(environment.client.label, *shown, sep="\n    ", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="clients whose name matches this regular expression")
    parser.add_argument("--environments", type=Path, help="keep the environments here, and use them again")
    parser.add_argument("--install", action="store_true", help="install only")
    options = parser.parse_args()
    clients = [client for client in CLIENTS + PROXIES if re.search(options.only, client.label)]
    with tempfile.TemporaryDirectory(prefix="clients-") as directory:
        base = options.environments or Path(directory) / "environments"
        environments = [Environment(client, base / client.slug) for client in clients]
        for environment in environments:
            environment.install()
        if not options.install:
            try_all(environments, Path(directory))
    PAGE.write_text(written(PAGE.read_text(), load()))


if __name__ == "__main__":
    main()
