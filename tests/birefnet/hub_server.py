"""A hub on loopback: repositories in the hub's HTTP layout, as far as its client asks for it."""

from __future__ import annotations

import hashlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit


class HubServer:
    """`repositories`: name to a directory with the files. The commit follows from the files' bytes."""

    def __init__(self, repositories: dict[str, Path]) -> None:
        self.repositories = repositories
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                hub.answer(self, body=True)

            def do_HEAD(self) -> None:
                hub.answer(self, body=False)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def commit(self, repository: str) -> str:
        digest = hashlib.sha1()
        for path in sorted(self.repositories[repository].iterdir()):
            digest.update(path.name.encode() + path.read_bytes())
        return digest.hexdigest()

    def answer(self, request: BaseHTTPRequestHandler, body: bool) -> None:
        path = unquote(urlsplit(request.path).path)
        for name, directory in self.repositories.items():
            commit = self.commit(name)
            if path in (
                f"/api/models/{name}",
                f"/api/models/{name}/revision/main",
                f"/api/models/{name}/revision/{commit}",
            ):
                files = [{"rfilename": p.name} for p in sorted(directory.iterdir())]
                info = {
                    "id": name,
                    "sha": commit,
                    "siblings": files,
                    "private": False,
                    "downloads": 0,
                    "tags": [],
                }
                return self._send(
                    request, json.dumps(info).encode(), {"Content-Type": "application/json"}, body
                )
            if path == f"/api/models/{name}/tree/{commit}":
                tree = [
                    {
                        "type": "file",
                        "path": p.name,
                        "size": p.stat().st_size,
                        "oid": hashlib.sha1(p.read_bytes()).hexdigest(),
                    }
                    for p in sorted(directory.iterdir())
                ]
                return self._send(
                    request, json.dumps(tree).encode(), {"Content-Type": "application/json"}, body
                )
            for revision in ("main", commit):
                prefix = f"/{name}/resolve/{revision}/"
                if path.startswith(prefix) and (directory / path.removeprefix(prefix)).is_file():
                    data = (directory / path.removeprefix(prefix)).read_bytes()
                    headers = {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha256(data).hexdigest()}"'}
                    return self._send(request, data, headers, body)
        request.send_response(404)
        request.send_header("X-Error-Code", "RepoNotFound")
        request.send_header("Content-Length", "0")
        request.end_headers()
        return None

    @staticmethod
    def _send(request: BaseHTTPRequestHandler, data: bytes, headers: dict[str, str], body: bool) -> None:
        request.send_response(200)
        for key, value in {"Content-Length": str(len(data)), **headers}.items():
            request.send_header(key, value)
        request.end_headers()
        if body:
            request.wfile.write(data)
