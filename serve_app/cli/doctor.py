"""`birefnet-serve doctor`: whether this machine can run a profile, and what to do where it cannot.

Every check stands alone and changes nothing that lasts. Nothing is downloaded.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import requires, version
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from serve_app.errors import ServiceError, SetupError
from serve_app.fal import OutputType, Variant
from serve_app.local.profile import Profile, is_free
from serve_app.local.service import object_store_bytes, tls_options

if TYPE_CHECKING:
    from sqlalchemy import URL

MIN_FREE = 2 << 30  # bytes of a source, its pieces and the output, for a short video
MAX_CLOCK_DIFFERENCE_S = 2.0  # leases last 15 s


class Problem(Exception):
    """A check failed; the message says what was found and what to do."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    check: str
    ok: bool
    text: str


def examine(profile: Profile) -> list[Finding]:
    """Runs all checks of `profile`."""
    findings = []
    for name, check in CHECKS.items():
        try:
            findings.append(Finding(name, True, check(profile)))
        except (Problem, ServiceError, SetupError, ImportError, OSError) as error:
            findings.append(Finding(name, False, str(error) or type(error).__name__))
    return findings


def _packages(profile: Profile) -> str:
    """Ray, torch and transformers are pinned: the network and the handle calls were checked with these."""
    found = {name: version(name) for name in ("ray", "torch", "transformers", "av")}
    pins = [line.partition(";")[0].replace(" ", "") for line in requires("birefnet-serve") or ()]
    for pin in pins:
        name, _, wanted = pin.partition("==")
        name = name.partition("[")[0]
        if wanted and name in found and found[name].partition("+")[0] != wanted:
            raise Problem(
                f"{name} {found[name]} is installed, but {wanted} is needed: install the package again"
            )
    python = ".".join(map(str, sys.version_info[:3]))
    return ", ".join([f"Python {python}", *(f"{name} {number}" for name, number in found.items())])


def _device(profile: Profile) -> str:
    import torch

    wanted = {profile.settings.segmenter_for(variant).device for variant in Variant}
    if "cuda" not in wanted:
        return f"CPU, {os.cpu_count()} cores"
    if not torch.cuda.is_available():
        raise Problem(
            "the profile asks for the device cuda, but torch sees none: install the driver and a CUDA build of torch, "
            "or set `device: cpu`"
        )
    return torch.cuda.get_device_name()


def _encoders(profile: Profile) -> str:
    from av.codec.codec import Codec, UnknownCodecError

    from serve_app.video.formats import output_format

    names = sorted({output_format(kind).codec for kind in OutputType} | {"gif"})
    for name in names:
        try:
            Codec(name, "w")
        except UnknownCodecError as error:
            raise Problem(f"PyAV has no encoder {name}: install PyAV's own wheel (pip install av)") from error
    return ", ".join(names)


def _checkpoints(profile: Profile) -> str:
    from serve_app.birefnet.checkpoints import find
    from serve_app.birefnet.variants import VARIANTS

    found = set()
    for variant, facts in VARIANTS.items():
        settings = profile.settings.segmenter_for(variant).model_copy(update={"offline": True})
        found.add(find(facts.source(settings.checkpoint), settings).name)
    return ", ".join(sorted(found))


def _database(profile: Profile) -> str:
    from serve_app.database.engine import is_sqlite, parse

    url = parse(profile.settings.database_url)
    path = Path(url.database or "")
    if is_sqlite(url) and not path.exists():
        return f"{path} will be created by the first start"
    difference = asyncio.run(_clock_difference(url))
    if abs(difference) > MAX_CLOCK_DIFFERENCE_S:
        raise Problem(
            f"the clocks of the database and of this machine differ by {difference:.1f} s: set both by NTP, since "
            "leases depend on them"
        )
    return f"{url.render_as_string()} has the version of this program"


async def _clock_difference(url: URL) -> float:
    """Seconds by which the database's clock is ahead. Raises `SetupError` if it, or its job table, cannot be used."""
    from sqlalchemy import func, select

    from serve_app.database.engine import Database, is_sqlite, translated_errors
    from serve_app.database.migrate import check

    database = Database(url.render_as_string(hide_password=False))
    try:
        await check(database.writer)
        if is_sqlite(url):
            return 0.0
        with translated_errors(url):
            ((now,),) = await database.scan(select(func.extract("epoch", func.clock_timestamp())))
        return float(now) - time.time()
    finally:
        await database.close()


def _artifacts(profile: Profile) -> str:
    from serve_app.artifacts.store import Artifacts

    name = f"work/doctor-{uuid.uuid4().hex}/file"
    try:
        store = Artifacts.of(profile.settings)
        store.check()
        store.put_bytes(name, b"doctor")
        store.delete_prefix(name.rpartition("/")[0])
    except OSError as error:
        raise Problem(
            f"{profile.settings.data_dir} cannot be written ({error}): correct its owner, or set "
            "`data_dir` to another one"
        ) from error
    free = store.free_bytes()
    if free < MIN_FREE:
        raise Problem(
            f"{store.root} has {free >> 20} MiB free: free some space, or set `data_dir` to a larger disk"
        )
    return f"written and deleted; {free >> 30} GiB free in {store.root}"


def _ports(profile: Profile) -> str:
    for port, key in ((profile.port, "--port"), (profile.settings.files.port, "--files-port")):
        if not is_free(port):
            if _answers(profile):
                return f"{profile.url} answers: a service is running"
            raise Problem(f"port {port} is taken by another program: choose another ({key})")
    return f"{profile.port} and {profile.settings.files.port} are free"


def _answers(profile: Profile) -> bool:
    try:
        with httpx.Client(verify=profile.verify, trust_env=False, timeout=5) as client:
            return client.get(f"{profile.url}/health").status_code == 200
    except httpx.TransportError:
        return False


def _shared_memory(profile: Profile) -> str:
    size = object_store_bytes()
    return f"{size >> 20} MiB for frames in flight, of {shutil.disk_usage('/dev/shm').free >> 20} free in /dev/shm"


def _certificates(profile: Profile) -> str:
    tls_options(profile.settings)
    return "valid" if profile.settings.tls else "none: http"


CHECKS: Mapping[str, Callable[[Profile], str]] = {
    "packages": _packages,
    "device": _device,
    "encoders": _encoders,
    "checkpoints": _checkpoints,
    "database": _database,
    "artifacts": _artifacts,
    "ports": _ports,
    "shared memory": _shared_memory,
    "certificates": _certificates,
}
