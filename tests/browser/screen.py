"""Real browsers on a screen in memory (Xvfb): what they show is read from its frame buffer, pixel by pixel.

No driver stands between: the page itself says when it is ready, by a request to the server it came from.
"""

from __future__ import annotations

import os
import shutil
import signal
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np

SIZE = 800, 600
MARK = (255, 0, 255)  # of a square at the page's corner, by which it is found on the screen
READY = "/ready"
PREFERENCES = """
user_pref("browser.shell.checkDefaultBrowser", false);
user_pref("browser.aboutwelcome.enabled", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("app.update.enabled", false);
user_pref("network.captive-portal-service.enabled", false);
user_pref("network.connectivity-service.enabled", false);
user_pref("services.settings.server", "");
user_pref("media.autoplay.default", 0);
"""


def chromium(profile: Path, url: str) -> list[str]:
    return [
        "chromium", "--no-sandbox", "--no-first-run", "--disable-gpu", "--disable-background-networking",
        "--test-type",  # no bar that warns of the flags
        "--force-color-profile=srgb", "--force-device-scale-factor=1", "--autoplay-policy=no-user-gesture-required",
        f"--user-data-dir={profile}", "--window-position=0,0", f"--window-size={SIZE[0]},{SIZE[1]}", f"--app={url}",
    ]  # fmt: skip


def firefox(profile: Path, url: str) -> list[str]:
    profile.mkdir()
    (profile / "user.js").write_text(PREFERENCES)
    return ["firefox-esr", "--no-remote", "--profile", str(profile), "--kiosk", url]


BROWSERS: dict[str, Callable[[Path, str], list[str]]] = {"chromium": chromium, "firefox-esr": firefox}


def missing(browser: str) -> list[str]:
    """Programs that are not installed."""
    return [name for name in (browser, "Xvfb") if shutil.which(name) is None]


class Screen:
    """A running screen. `display` is its name for programs."""

    def __init__(self, folder: Path, display: str) -> None:
        self.display = display
        self._buffer = folder / "Xvfb_screen0"

    def pixels(self) -> np.ndarray:
        """RGB uint8 [H, W, 3], from the X window dump that Xvfb keeps."""
        data = self._buffer.read_bytes()
        size, _, _, _, width, height, _, order, *_ = header = struct.unpack(">25I", data[:100])
        line, colours = header[12], header[19]
        start = size + 12 * colours
        rows = np.frombuffer(data, np.uint8, line * height, start).reshape(height, line)
        quads = rows[:, : 4 * width].reshape(height, width, 4)
        return quads[..., 2::-1] if order == 0 else quads[..., 1:]

    def page(self) -> np.ndarray | None:
        """The screen from the page's mark on, without it; None before the mark is there."""
        pixels = self.pixels()
        found = np.argwhere((pixels == MARK).all(-1))
        return pixels[found[0][0] :, found[0][1] :] if len(found) else None


@contextmanager
def screen(folder: Path) -> Iterator[Screen]:
    """Starts Xvfb on a display that is free."""
    read, write = os.pipe()
    arguments = [
        "Xvfb",
        "-displayfd",
        str(write),
        "-screen",
        "0",
        f"{SIZE[0]}x{SIZE[1]}x24",
        "-fbdir",
        str(folder),
    ]
    with running([*arguments, "-nolisten", "tcp"], pass_fds=(write,)):
        os.close(write)
        with os.fdopen(read) as pipe:
            number = pipe.readline().strip()
        yield Screen(folder, f":{number}")


@contextmanager
def running(arguments: list[str], **options: object) -> Iterator[None]:
    """A program and its children, ended at the end."""
    process = subprocess.Popen(
        arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, **options
    )  # type: ignore[call-overload]
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, threading.Event]]:
    """The files of `folder` over HTTP; the event is set when a page asks for `READY`."""
    ready = threading.Event()

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.startswith(READY):
                ready.set()
                self.send_response(204)
                self.end_headers()
            else:
                super().do_GET()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", ready
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
