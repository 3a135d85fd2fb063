"""Names of uploads: `uploads/{expires}-{id}/{file name}`. The name holds all that is known of an upload.

`expires` is the time after which it may be deleted, in Unix seconds with ten digits, zero for never, so that the
sweeper needs no table. The extension determines the content type: if the declared type differs from that of the file
name, its extension is appended.
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
PARTS = "uploads-parts/"  # parts of unfinished multipart uploads
MAX_NAME_LENGTH = 120
DAY = 86_400
LIFECYCLE = ("x-fal-object-lifecycle", "x-fal-object-lifecycle-preference")
UNTYPED = "application/octet-stream"

_LAST_EXPIRY = 9_999_999_999
_EXTENSION = re.compile(r"\.[A-Za-z0-9]{1,10}\Z")

# An instance uses only Python's built-in table: a file's type must not depend on the machine's /etc/mime.types.
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
    """A new artifact name for an upload."""
    return f"{UPLOADS}{expires:010d}-{uuid.uuid4().hex}/{_file_name(file_name, content_type)}"


def parts_of(name: str, expires: int) -> str:
    """The prefix of the parts of the upload `name`, until it is complete or until `expires`."""
    upload_id = name.split("/")[1].partition("-")[2]
    return f"{PARTS}{expires:010d}-{upload_id}"


def staging() -> str:
    """A name next to which unfinished files are created. Those of a killed process expire.

    All uploads of a day share one directory: with one for each, removing the last would race with creating the next.
    """
    end_of_tomorrow = (int(time.time()) // DAY + 2) * DAY
    return f"{PARTS}{end_of_tomorrow:010d}-staging/file"


def expiry(lifetime_s: float | None, at_least_s: float = 0.0) -> int:
    """The `expires` value of a file to be kept for `lifetime_s` seconds from now (None: forever)."""
    if lifetime_s is None:
        return 0
    expires_at = time.time() + max(lifetime_s, at_least_s)
    return math.ceil(expires_at) if expires_at < _LAST_EXPIRY else 0


def has_expired(directory: str) -> bool:
    """Whether a directory below `uploads` or `uploads-parts` has expired."""
    expires_at = directory.partition("-")[0]
    return expires_at.isdecimal() and 0 < int(expires_at) <= time.time()


def lifetime_in(headers: Mapping[str, str], default: float | None) -> float | None:
    """The lifetime in seconds that a request's headers ask for (None: forever).

    Missing or invalid headers give the default. Null and 0 keep the file, as at the vendor.
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
        logger.warning("ignoring an invalid %s header", header)
        return default
    return lifetime or None


def content_type(name: str) -> str:
    """The content type of an artifact. Types that a browser could execute become `application/octet-stream`."""
    kind = _type_of(PurePosixPath(name).suffix.lower())
    safe = kind.startswith(("video/", "audio/", "image/")) and kind != "image/svg+xml"
    return kind if safe else UNTYPED


def _file_name(given: str | None, declared: str | None) -> str:
    """`given` in characters that every store and URL accepts, with the extension of the declared type."""
    last = re.split(r"[/\\]", given or "")[-1]
    plain = unicodedata.normalize("NFKD", last).encode("ascii", "ignore").decode()
    clean = re.sub(r"[^A-Za-z0-9._-]+", "_", plain)
    suffix = match[0] if (match := _EXTENSION.search(clean)) else ""
    stem = clean.removesuffix(suffix)[:MAX_NAME_LENGTH].strip("._-") or "upload"
    kind = (declared or "").partition(";")[0].strip().lower()
    if kind in ("", UNTYPED) or kind == _type_of(suffix.lower()):
        return stem + suffix
    return f"{stem}{suffix}{_KNOWN.guess_extension(kind) or ''}"


def _type_of(suffix: str) -> str:
    return _KNOWN.types_map[True].get(suffix, UNTYPED)
