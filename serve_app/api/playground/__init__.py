"""The files of the playground, the page at `/`. A browser loads them as they are: there is no build step."""

from __future__ import annotations

from importlib.resources import files

PAGE = "/"
BELOW = "/playground/"  # of the files that the page loads
KINDS = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}


def _read() -> dict[str, tuple[bytes, str]]:
    found = {}
    for file in files(__name__).iterdir():
        kind = KINDS.get(file.name[file.name.rfind(".") :])
        if kind is not None:
            found[PAGE if file.name == "index.html" else BELOW + file.name] = (file.read_bytes(), kind)
    return found


# Path -> bytes and media type. Nothing else below these paths exists.
CONTENTS = _read()
