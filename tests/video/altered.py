"""Files made from others: cut off, with packets overwritten or lost, with other times, tags or tracks.

Each change takes the path of a file and the path to write to, which it returns.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import av
from av.stream import Disposition

Change = Callable[[Path, Path], Path]

TS_PACKET = 188  # bytes


def packets_in(path: Path, kind: str = "video") -> list[tuple[int, int]]:
    """Where the data of each packet of a track lies in the file, in decoding order."""
    data, at, places = path.read_bytes(), 0, []
    with av.open(str(path)) as container:
        for packet in container.demux(**{kind: 0}):
            if packet.size:
                part = bytes(packet)
                at = data.index(part, at) if data.find(part, at) >= 0 else data.index(part)
                places.append((at, len(part)))
    return places


def without_ts_packets(first: float, last: float) -> Change:
    """A transport stream that lost everything between two parts of it."""

    def change(source: Path, target: Path) -> Path:
        data = source.read_bytes()
        start, stop = (int(len(data) * part) // TS_PACKET * TS_PACKET for part in (first, last))
        target.write_bytes(data[:start] + data[stop:])
        return target

    return change


def remuxed(
    source: Path,
    target: Path,
    change: Callable[[Any], bool] = lambda packet: True,
    options: dict[str, str] | None = None,
) -> Path:
    """The packets for which `change`, which may alter them, says so, in another container or with other times."""
    with av.open(str(source)) as inside, av.open(str(target), "w", options=options or {}) as out:
        streams = [out.add_stream_from_template(stream) for stream in inside.streams]
        for packet in inside.demux():
            if packet.size and change(packet):
                packet.stream = streams[packet.stream_index]
                out.mux(packet)
    return target


def in_latin1(source: Path, target: Path) -> Path:
    """An AVI whose title is not UTF-8, of the same length."""
    data = source.read_bytes()
    assert data.count(b"Kaese") == 1
    target.write_bytes(data.replace(b"Kaese", b"K\xe4se "))
    return target


def twice(source: Path, target: Path) -> Path:
    target.write_bytes(source.read_bytes() * 2)
    return target


def later(seconds: float, only: int | None = None) -> Change:
    """Moves all packets, or those of one track, to later times."""

    def change(packet: Any) -> bool:
        if only is None or packet.stream_index == only:
            shift = round(seconds / packet.time_base)
            packet.pts += shift
            packet.dts = None if packet.dts is None else packet.dts + shift
        return True

    return lambda source, target: remuxed(source, target, change)


def without_sound(first: float, last: float) -> Change:
    """Takes the sound between two seconds away."""

    def change(packet: Any) -> bool:
        return packet.stream_index == 0 or not first <= packet.pts * packet.time_base < last

    return lambda source, target: remuxed(source, target, change)


def with_junk(source: Path, target: Path) -> Path:
    target.write_bytes(source.read_bytes() + b"\r\n-- trailing junk --" * 50)
    return target


def with_preview(source: Path, target: Path) -> Path:
    """A small first track that is not the default, before the real one."""
    with av.open(str(source)) as inside, av.open(str(target), "w") as out:
        small = out.add_stream("mjpeg", rate=25, options={"threads": "1"})
        small.width, small.height, small.pix_fmt = 32, 32, "yuvj420p"
        small.disposition = Disposition.dependent
        main = out.add_stream_from_template(inside.streams.video[0])
        main.disposition = Disposition.default
        out.mux(small.encode(av.VideoFrame(32, 32, "yuvj420p")))
        out.mux(small.encode(None))
        for packet in inside.demux(video=0):
            if packet.size:
                packet.stream = main
                out.mux(packet)
    return target


def with_hidden_frames(source: Path, target: Path) -> Path:
    """VP8 frames that are only there for others to build on (RFC 6386, 9.1: `show_frame`), as encoders with
    alternate references write them: packets without a frame.
    """
    data = bytearray(source.read_bytes())
    for number in (10, 30):
        data[packets_in(source)[number][0]] &= ~0x10
    target.write_bytes(data)
    return target


def cut(part: float) -> Change:
    """The first `part` of a file."""

    def change(source: Path, target: Path) -> Path:
        data = source.read_bytes()
        target.write_bytes(data[: int(len(data) * part)])
        return target

    return change


def rubbish(*numbers: int) -> Change:
    """The packets of these numbers full of rubbish, the container untouched."""
    return lambda source, target: overwritten(source, target, numbers)


def overwritten(source: Path, target: Path, numbers: Collection[int], kind: str = "video") -> Path:
    data = bytearray(source.read_bytes())
    places = packets_in(source, kind)
    for number in numbers:
        at, size = places[number]
        data[at : at + size] = b"\xff" * size
    target.write_bytes(data)
    return target
