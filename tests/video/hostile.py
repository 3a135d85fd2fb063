"""Hostile media, made of good clips: files that refer to others, that are small and claim to be huge, that are broken.

`make_all(folder, good, canary, port)` writes them. `canary` is a file, `port` one that listens: none may be touched.
"""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

HUGE = 0xFFFFFFF0


def make_all(folder: Path, good: dict[str, Path], canary: Path, port: int) -> dict[str, Path]:
    """good: clips by extension, mp4, mkv, webm, avi, ts, flv, gif, mov, h264, ivf, obu."""
    made: dict[str, Path] = {}
    for group in (_references(canary, port), _bombs(good), _damaged(good), _noise(good)):
        for name, data in group:
            assert name not in made
            made[name] = folder / name
            made[name].write_bytes(data)
    return made


def box(name: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I", 8 + len(body)) + name + body


def full(name: bytes, *content: bytes, flags: int = 0) -> bytes:
    return box(name, struct.pack(">I", flags), *content)


def _references(canary: Path, port: int) -> Iterator[tuple[str, bytes]]:
    """Files that name another file, or an address."""
    url = f"http://127.0.0.1:{port}/canary"
    for what, target in (("file", str(canary)), ("url", url), ("file-url", canary.as_uri())):
        yield (
            f"{what}.m3u8",
            (
                f'#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXT-X-KEY:METHOD=AES-128,URI="{target}"\n#EXTINF:9,\n{target}\n'
                "#EXT-X-ENDLIST\n"
            ).encode(),
        )
        yield f"{what}.concat", f"ffconcat version 1.0\nfile '{target}'\n".encode()
        yield (
            f"{what}.mpd",
            (
                '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
                f'mediaPresentationDuration="PT9S"><Period><AdaptationSet mimeType="video/mp4"><Representation id="1" '
                f'bandwidth="1"><BaseURL>{target}</BaseURL></Representation></AdaptationSet></Period></MPD>'
            ).encode(),
        )
        yield f"{what}.asx", f'<asx version="3.0"><entry><ref href="{target}"/></entry></asx>'.encode()
        yield f"{what}.rtx", f"RTSPtext\n{target}\n".encode()
        alias = full(b"url ", target.encode() + b"\0")
        yield (
            f"{what}-rmra.mov",
            box(b"ftyp", b"qt  \0\0\0\0")
            + box(
                b"moov",
                box(
                    b"rmra",
                    box(b"rmda", full(b"rdrf", b"url ", struct.pack(">I", len(target)), target.encode())),
                ),
            ),
        )
        yield f"{what}-dref.mov", _mov_elsewhere(full(b"dref", struct.pack(">I", 1), alias))
    yield (
        "session.sdp",
        (
            f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\n"
            "a=rtpmap:96 H264/90000\n"
        ).encode(),
    )
    yield "subtitle.srt", b"1\n00:00:00,000 --> 00:00:09,000\ntext\n"
    yield "subtitle.ass", f"[Script Info]\n[Fonts]\nfontname: {canary}\n".encode()
    yield "image-%03d.png", b"\x89PNG\r\n\x1a\n" + bytes(64)
    yield "vapoursynth.vpy", f"open({str(canary)!r}).read()\n".encode()
    yield "avisynth.avs", f'AVISource("{canary}")\n'.encode()
    yield "imf.xml", b'<AssetMap xmlns="http://www.smpte-ra.org/schemas/429-9/2007/AM"></AssetMap>'


def _mov_elsewhere(dref: bytes) -> bytes:
    """A track of ten uncompressed pictures whose bytes are in another file."""
    entry = struct.pack(">6xH16xHHII4xH32xHh", 1, 16, 16, 0x480000, 0x480000, 1, 24, -1)
    tables = (
        full(b"stsd", struct.pack(">I", 1), box(b"raw ", entry)),
        full(b"stts", struct.pack(">III", 1, 10, 40)),
        full(b"stsc", struct.pack(">IIII", 1, 1, 10, 1)),
        full(b"stsz", struct.pack(">II", 768, 10)),
        full(b"stco", struct.pack(">II", 1, 0)),
    )
    media = box(
        b"mdia",
        full(b"mdhd", struct.pack(">IIIII", 0, 0, 1000, 400, 0)),
        full(b"hdlr", b"mhlrvide" + bytes(13)),
        box(b"minf", full(b"vmhd", bytes(8), flags=1), box(b"dinf", dref), box(b"stbl", *tables)),
    )
    track = full(b"tkhd", struct.pack(">IIIII", 0, 0, 1, 0, 400), bytes(60), flags=3)
    header = full(b"mvhd", struct.pack(">IIII", 0, 0, 1000, 400), bytes(80))
    return (
        box(b"ftyp", b"qt  \0\0\0\0")
        + box(b"moov", header, box(b"trak", track, media))
        + box(b"mdat", bytes(7680))
    )


def altered(data: bytes, name: bytes, change: Callable[[bytearray, int], None]) -> bytes:
    """A copy in which `change` was made to the body of each box `name`, found by its name."""
    copy, at = bytearray(data), data.find(name)
    assert at > 0, name
    while at > 0:
        change(copy, at + 4)
        at = data.find(name, at + 4)
    return bytes(copy)


def _put(*numbers: int, at: int = 4) -> Callable[[bytearray, int], None]:
    def change(data: bytearray, body: int) -> None:
        struct.pack_into(f">{len(numbers)}I", data, body + at, *numbers)

    return change


def gif(width: int, height: int, images: int = 1, delay: int = 10) -> bytes:
    """Images of one pixel on a canvas of any size; `delay` in hundredths of a second."""
    size = struct.pack("<HH", width, height)
    image = (
        b"\x21\xf9\x04\x05"
        + struct.pack("<H", delay)
        + b"\0\0\x2c"
        + bytes(4)
        + b"\1\0\1\0\0\x02\x02\x44\x01\x00"
    )
    return b"GIF89a" + size + b"\x80\0\0\0\0\0\xff\xff\xff" + images * image + b";"


def png(width: int, height: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    animation = chunk(b"acTL", struct.pack(">II", 2, 0)) + chunk(
        b"fcTL", struct.pack(">IIIIIHHBB", 0, width, height, 0, 0, 1, 10, 0, 0)
    )
    bomb = zlib.compress(bytes(1 << 24), 9)
    profile = chunk(b"iCCP", b"x\0\0" + bomb)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + profile
        + animation
        + chunk(b"IDAT", bomb)
        + chunk(b"IEND", b"")
    )


def _bombs(good: dict[str, Path]) -> Iterator[tuple[str, bytes]]:
    """Files that are small and claim to be huge."""
    mp4, fragmented = good["mp4"].read_bytes(), good["fragmented.mp4"].read_bytes()
    yield "stsz-constant.mp4", altered(mp4, b"stsz", _put(1, HUGE))
    yield "stts-runs.mp4", altered(mp4, b"stts", _put(1, HUGE))
    yield "stts-middle.mp4", altered(altered(mp4, b"stsz", _put(1, 60_000_000)), b"stts", _put(1, 60_000_000))
    yield "stsc-chunks.mp4", altered(mp4, b"stsc", _put(1, 1, HUGE))
    yield "stco-count.mp4", altered(mp4, b"stco", _put(HUGE))
    yield (
        "trun-defaults.mp4",
        altered(fragmented, b"trun", lambda d, at: struct.pack_into(">II", d, at, 0, HUGE)),
    )
    yield "long-frame.mp4", altered(mp4, b"stts", _put(1, 6, 0x7FFFFFFF))
    yield "deep-boxes.mp4", box(b"ftyp", b"isom\0\0\0\0") + _nested(b"moov", 4000)
    yield "deep-unknown.mp4", box(b"ftyp", b"isom\0\0\0\0") + _nested(b"udta", 4000)
    yield "largest-box.mp4", mp4 + struct.pack(">I4sQ", 1, b"free", (1 << 64) - 1)
    for side in (8192, 16000, 65535):
        yield f"canvas-{side}.gif", gif(side, side)
    yield "images.gif", gif(1024, 1024, images=30)
    yield "years.gif", gif(16, 16, images=3000, delay=0xFFFF)
    yield "large.apng", png(30000, 30000)
    yield "largest.apng", png(0x7FFFFFFF, 0x7FFFFFFF)
    yield "head.ivf", b"DKIF\0\0\x20\0VP90\xff\xff\xff\xff" + struct.pack("<IIII", 30, 1, HUGE, 0) + bytes(64)
    yield "head.y4m", b"YUV4MPEG2 W65536 H65536 F25:1 Ip A1:1 C420\nFRAME\n"
    yield "tracks.mp4", _many_tracks(mp4, 300)
    yield "programs.ts", _many_programs(300)


def _nested(name: bytes, depth: int) -> bytes:
    data = b""
    for _ in range(depth):
        data = box(name, data)
    return data


def _many_tracks(mp4: bytes, count: int) -> bytes:
    at = mp4.find(b"trak") - 4
    track = mp4[at : at + struct.unpack_from(">I", mp4, at)[0]]
    moov = mp4.find(b"moov") - 4
    size = struct.unpack_from(">I", mp4, moov)[0]
    more = count * track
    return (
        mp4[:moov]
        + struct.pack(">I", size + len(more))
        + mp4[moov + 4 : moov + size]
        + more
        + mp4[moov + size :]
    )


def _many_programs(count: int) -> bytes:
    """A transport stream whose one table lists `count` streams, and packets of each."""

    def section(pid: int, table: bytes) -> bytes:
        table += struct.pack(">I", _crc(table))
        return struct.pack(">BHB", 0x47, 0x4000 | pid, 0x10) + b"\0" + table.ljust(183, b"\xff")

    pat = b"\0\xb0\x0d\0\1\xc1\0\0\0\1\xe0\x42"
    packets = section(0, pat)
    for start in range(0, count, 30):
        entries = b"".join(
            struct.pack(">BHH", 0x1B, 0xE100 | 0 + (0x100 + start + n), 0xF000) for n in range(30)
        )
        body = struct.pack(">HBBBHH", 1, 0xC1 | (start // 30 % 16) << 1, 0, 0, 0xE100, 0xF000) + entries
        packets += section(0x42, struct.pack(">BH", 2, 0xB000 | len(body) + 4) + body)
    for n in range(count):
        packets += struct.pack(">BHB", 0x47, 0x4100 + n, 0x10) + b"\0\0\1\xe0\0\0\x80\0\0".ljust(184, b"\xaa")
    return packets


def _crc(data: bytes) -> int:
    """CRC-32/MPEG-2 (ISO/IEC 13818-1, annex A)."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ 0x04C11DB7 if value & 0x80000000 else value << 1) & 0xFFFFFFFF
    return value


def _damaged(good: dict[str, Path]) -> Iterator[tuple[str, bytes]]:
    """Headers that end early, and containers with rubbish behind a good header."""
    noise = random.Random(1)
    for extension, path in good.items():
        data = path.read_bytes()
        yield f"head.{extension}", data[: min(len(data) // 10, 300)]
        rubbish = bytearray(data)
        for at in range(len(data) // 3, len(data), 7):
            rubbish[at] = noise.randrange(256)
        yield f"rubbish.{extension}", bytes(rubbish)


def _noise(good: dict[str, Path]) -> Iterator[tuple[str, bytes]]:
    yield "zip.mp4", b"PK\3\4" + bytes(2000)
    yield "empty.mp4", b""
    yield "text.mp4", b"just text\n" * 99
    yield "noise.mp4", random.Random(2).randbytes(20000)
    yield "ftyp-noise.mp4", box(b"ftyp", b"isom\0\0\0\0") + random.Random(3).randbytes(20000)
    yield "attachment.mkv", good["mkv"].read_bytes().replace(b"\x15\x49\xa9\x66", b"\x19\x41\xa4\x69", 1)
    yield "two-files.mp4", good["mp4"].read_bytes() + good["mkv"].read_bytes()


def mutated(data: bytes, seed: int) -> bytes:
    """`data` with a few changes: bytes, numbers, and parts that are cut out, doubled or filled."""
    dice, copy = random.Random(seed), bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 4, 16, 64))):
        at, kind = dice.randrange(len(copy)), dice.randrange(6)
        length = min(len(copy) - at, dice.choice((1, 2, 4, 8, 64, 512)))
        if kind == 0:
            copy[at] ^= 1 << dice.randrange(8)
        elif kind == 1:
            copy[at : at + length] = dice.randbytes(length)
        elif kind == 2:
            copy[at : at + length] = dice.choice((b"\0", b"\xff", b"\x7f")) * length
        elif kind == 3:
            copy[at : at + length] = b""
        elif kind == 4:
            copy[at:at] = copy[at : at + length]
        else:
            copy[at : at + 4] = struct.pack(
                ">I", dice.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF, len(copy), HUGE))
            )
        if len(copy) < 2:
            break
    return bytes(copy)
