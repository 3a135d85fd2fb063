"""Names of uploads: `uploads/{expires}-{id}/{file name}`. Everything that is known of an upload stands in its name.

`expires` is when it may be deleted, in epoch seconds with ten digits, zero for never: who cleans up needs no table.
The extension tells the content type: the declared type puts its own behind a name that says something else.
"""

from __future__ import annotations

import json
import logging
import math
import mimetypes
import re
import time
import unicodedata
import uuid
from collections.abc import Mapping
from pathlib import PurePosixPath

logger = logging.getLogger("ray.serve")  # the logger whose lines Serve keeps per replica

UPLOADS = "uploads/"
PARTS = "uploads-parts/"  # of uploads that are not complete
LONGEST_NAME = 120
DAY = 86_400
LIFECYCLE = ("x-fal-object-lifecycle", "x-fal-object-lifecycle-preference")
UNTYPED = "application/octet-stream"

_LAST_EXPIRY = 9_999_999_999
_EXTENSION = re.compile(r"\.[A-Za-z0-9]{1,10}\Z")

# An instance knows Python's own table alone: the type of a file must not depend on the machine's /etc/mime.types.
_KNOWN = mimetypes.MimeTypes()
for _type, _suffix in (
    ("video/x-matroska", ".mkv"),
    ("video/x-m4v", ".m4v"),
    ("video/mp2t", ".ts"),
    ("video/x-flv", ".flv"),
    ("video/ogg", ".ogv"),
    ("video/3gpp", ".3gp"),
    ("image/webp", ".webp"),
):
    _KNOWN.add_type(_type, _suffix)


def new_upload(file_name: str | None, content_type: str | None, expires: int) -> str:
    """A fresh artifact name for an upload."""
    return f"{UPLOADS}{expires:010d}-{uuid.uuid4().hex}/{_file_name(file_name, content_type)}"


def parts_of(name: str, expires: int) -> str:
    """The prefix under which the parts of the upload `name` lie until it is complete, or until `expires`."""
    upload_id = name.split("/")[1].partition("-")[2]
    return f"{PARTS}{expires:010d}-{upload_id}"


def staging() -> str:
    """A name beside which to make files that are not whole yet. What a killed process leaves there expires.

    One directory for a day's uploads: with one for each, taking the last away would race with making the next.
    """
    end_of_tomorrow = (int(time.time()) // DAY + 2) * DAY
    return f"{PARTS}{end_of_tomorrow:010d}-staging/file"


def expiry(lifetime_s: float | None, at_least_s: float = 0.0) -> int:
    """`expires` of a file that is to live `lifetime_s` seconds from now (None: for ever)."""
    if lifetime_s is None:
        return 0
    moment = time.time() + max(lifetime_s, at_least_s)
    return math.ceil(moment) if moment < _LAST_EXPIRY else 0


def has_expired(directory: str) -> bool:
    """Whether a directory below `uploads` or `uploads-parts` has served its time."""
    moment = directory.partition("-")[0]
    return moment.isdecimal() and 0 < int(moment) <= time.time()


def lifetime_in(headers: Mapping[str, str], default: float | None) -> float | None:
    """How long the request with these headers wants its file to live (None: for ever).

    What it does not say, or not as it should, is the default. Null and 0 keep the file, as at the vendor.
    """
    header = next((name for name in LIFECYCLE if name in headers), None)
    if header is None:
        return default
    try:
        asked = json.loads(headers[header])
        if isinstance(asked, dict) and "expiration_duration_seconds" not in asked:
            return default
        seconds = asked["expiration_duration_seconds"]
        lifetime = 0.0 if seconds is None else float(seconds)
        if not lifetime >= 0 or isinstance(seconds, bool | str):
            raise ValueError
    except (ValueError, TypeError, OverflowError, RecursionError):
        logger.warning("%s is not the JSON that it should be and is ignored", header)
        return default
    return lifetime or None


def content_type(name: str) -> str:
    """The type with which an artifact is served. What could run in a browser is only handed out as bytes."""
    kind = _type_of(PurePosixPath(name).suffix.lower())
    harmless = kind.startswith(("video/", "audio/", "image/")) and kind != "image/svg+xml"
    return kind if harmless else UNTYPED


def _file_name(given: str | None, declared: str | None) -> str:
    """`given` in letters that any store and URL takes, with the extension of the declared type."""
    last = re.split(r"[/\\]", given or "")[-1]
    plain = unicodedata.normalize("NFKD", last).encode("ascii", "ignore").decode()
    clean = re.sub(r"[^A-Za-z0-9._-]+", "_", plain)
    suffix = match[0] if (match := _EXTENSION.search(clean)) else ""
    stem = clean.removesuffix(suffix)[:LONGEST_NAME].strip("._-") or "upload"
    kind = (declared or "").partition(";")[0].strip().lower()
    if kind in ("", UNTYPED) or kind == _type_of(suffix.lower()):
        return stem + suffix
    return f"{stem}{suffix}{_KNOWN.guess_extension(kind) or ''}"


def _type_of(suffix: str) -> str:
    return _KNOWN.types_map[True].get(suffix, UNTYPED)
