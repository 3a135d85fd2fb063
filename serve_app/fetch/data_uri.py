"""`data:` URIs (RFC 2397): base64 or percent-encoded bytes inside the URL."""

from __future__ import annotations

import base64
import binascii
import re
from urllib.parse import unquote_to_bytes

from serve_app.errors import DownloadFailed

_SPACE = re.compile(rb"[ \t\r\n\f]+")


def decode(uri: str) -> bytes:
    """The bytes of a data URI. Raises `DownloadFailed` if it is malformed."""
    header, comma, payload = uri.partition(",")
    if not comma:
        raise DownloadFailed(
            "The data URI in video_url has no comma. It must look like data:video/mp4;base64,AAAA."
        )
    try:
        data = unquote_to_bytes(payload)
    except UnicodeEncodeError as error:
        raise DownloadFailed(
            "The data URI in video_url contains characters that cannot be encoded."
        ) from error
    if not header.lower().rstrip().endswith(";base64"):
        return data
    data = _SPACE.sub(b"", data).rstrip(b"=")
    try:
        return base64.b64decode(data + b"=" * (-len(data) % 4), validate=True)
    except binascii.Error as error:
        raise DownloadFailed(
            "The data URI in video_url is not valid base64 (alphabet with + and /). Encode the file again."
        ) from error
