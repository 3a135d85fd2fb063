"""Sound: there, whole, on the right speakers, and in step with the picture."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from serve_app.errors import UnsupportedVideo
from serve_app.fal import OutputType
from tests.cluster.media import shown_at
from tests.video.clips import X264, Clip
from tests.video.conftest import Clips
from tests.video.pipeline import convert

BOTH = [OutputType.MP4, OutputType.WEBM]
ALL = [*BOTH, OutputType.MOV]
IN_MOV = {"aac": "aac", "libmp3lame": "mp3float", "ac3": "ac3", "alac": "alac", "pcm_s16le": "pcm_s16le"}
SAID = {"5.1(side)": "5.1"}  # of layouts that are written anew


def heard(path: Path) -> tuple[np.ndarray, int, float]:
    """Samples [channels, n], their rate, and the second at which the first sounds."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        resampler = av.AudioResampler("flt", stream.codec_context.layout, stream.codec_context.sample_rate)
        frames = [even for frame in container.decode(stream) for even in resampler.resample(frame)]
    start = float(shown_at(frames[0]))
    packed = np.concatenate([f.to_ndarray()[0] for f in frames])  # PyAV fails on eight planes
    return packed.reshape(-1, frames[0].layout.nb_channels).T, frames[0].sample_rate, start


def beep(samples: np.ndarray, rate: int, start: float) -> float:
    """When the beep of the loudest channel begins."""
    loud = np.abs(samples).max(0) > 0.15
    return int(np.argmax(loud)) / rate + start


def pitch(channel: np.ndarray, rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(channel * np.hanning(len(channel))))
    return float(np.argmax(spectrum) * rate / len(channel))


CODECS: list[tuple[str, str, int, str, dict[str, str], tuple[str, str], tuple[str, str]]] = [
    # container, codec, rate, layout, options; what becomes of it in MP4 and in WebM
    ("a.mp4", "aac", 48000, "stereo", {}, ("aac", "stereo"), ("opus", "stereo")),
    ("b.mp4", "aac", 44100, "mono", {}, ("aac", "mono"), ("opus", "mono")),
    ("c.ts", "aac", 48000, "stereo", {}, ("aac", "stereo"), ("opus", "stereo")),
    ("d.mp4", "aac", 22050, "stereo", {}, ("aac", "stereo"), ("opus", "stereo")),
    ("e.mkv", "libmp3lame", 44100, "stereo", {}, ("mp3float", "stereo"), ("opus", "stereo")),
    ("f.mkv", "ac3", 48000, "5.1(side)", {}, ("ac3", "5.1(side)"), ("opus", "5.1")),
    ("g.mkv", "flac", 48000, "5.1(side)", {}, ("aac", "5.1"), ("opus", "5.1")),
    ("h.mkv", "pcm_s16le", 96000, "stereo", {}, ("aac", "stereo"), ("opus", "stereo")),
    ("i.avi", "pcm_s16le", 11025, "mono", {}, ("aac", "mono"), ("opus", "mono")),
    ("j.mkv", "libopus", 48000, "stereo", {}, ("opus", "stereo"), ("opus", "stereo")),
    ("k.mp4", "alac", 44100, "stereo", {}, ("alac", "stereo"), ("opus", "stereo")),
    ("l.mkv", "flac", 48000, "quad", {}, ("aac", "5.0"), ("opus", "quad")),
    ("m.mkv", "eac3", 48000, "stereo", {}, ("eac3", "stereo"), ("opus", "stereo")),
    ("n.mkv", "libvorbis", 48000, "stereo", {}, ("aac", "stereo"), ("vorbis", "stereo")),
    ("o.mkv", "pcm_s16le", 37800, "stereo", {}, ("aac", "stereo"), ("opus", "stereo")),
]


@pytest.mark.parametrize(("name", "codec", "rate", "layout", "options", "in_mp4", "in_webm"), CODECS)
def test_codecs(
    clip: Clips,
    tmp_path: Path,
    name: str,
    codec: str,
    rate: int,
    layout: str,
    options: dict[str, str],
    in_mp4: tuple[str, str],
    in_webm: tuple[str, str],
) -> None:
    if codec not in av.codecs_available:
        codec = "vorbis"
        options = {"strict": "experimental"}
    source = clip(
        Clip(
            f"audio-{name}",
            options=X264 | {"bf": "0"},
            audio=codec,
            audio_rate=rate,
            audio_layout=layout,
            audio_options=options,
        )
    )
    original = heard(source)
    in_mov = (IN_MOV[codec], layout) if codec in IN_MOV else ("pcm_s24le", SAID.get(layout, layout))
    if codec == "pcm_s16le":
        in_mov = (codec, layout)  # AVI and Matroska name no speakers beside PCM, MOV does
    for output_type, wanted in zip(ALL, (in_mp4, in_webm, in_mov), strict=True):
        index, out, media = convert(source, tmp_path, output_type, frames=30)
        assert index.audio is not None
        with av.open(str(out)) as container:
            context = container.streams.audio[0].codec_context
            assert (context.name, context.layout.name) == wanted
        samples, heard_rate, start = heard(out)
        assert len(samples) == len(original[0]) + (wanted[1] == "5.0")
        origin = float(index.origin * index.time_base)
        assert beep(samples, heard_rate, start) == pytest.approx(beep(*original) - origin, abs=0.012)
        assert samples.shape[1] / heard_rate == pytest.approx(media.duration, abs=0.08)
        order = [0, 1, 3, 4] if wanted[1] == "5.0" else list(range(len(samples)))
        for channel, before in zip(order, original[0], strict=True):
            after = samples[channel]
            if np.abs(before).max() > 0.2 and (channel != 3 or len(samples) < 6):  # a bass speaker hums
                assert pitch(after, heard_rate) == pytest.approx(pitch(before, original[1]), abs=4)


@pytest.mark.parametrize("output_type", ALL)
@pytest.mark.parametrize(
    ("codec", "start"), [("ac3", 0.4), ("flac", 0.4), ("ac3", 0.0), ("aac", 0.0), ("flac", 0.0)]
)
def test_other_beginnings(
    clip: Clips, tmp_path: Path, output_type: OutputType, codec: str, start: float
) -> None:
    """Audio that begins late, and video that begins late: both stay where they were."""
    late_video = range(10, 60) if start == 0 else range(50)
    source = clip(
        Clip(f"begin-{codec}-{start}.mkv", options=X264, audio=codec, audio_start=start, pts=late_video)
    )
    index, out, media = convert(source, tmp_path, output_type)
    origin = float(index.origin * index.time_base)
    assert beep(*heard(out)) == pytest.approx(beep(*heard(source)) - origin, abs=0.012)
    with av.open(str(out)) as container:
        first = next(container.decode(video=0))
        assert first.time == pytest.approx(float(index.pts[0] * index.time_base) - origin, abs=0.001)
    assert media.num_frames == 50


def test_bunny_on_six_speakers(bunny: Path, clip: Clips, tmp_path: Path) -> None:
    """A film's AAC 5.1, beside another picture, becomes Opus 5.1 with each channel in its place."""
    source = tmp_path / "bunny.mkv"
    with (
        av.open(str(clip("closed.mp4"))) as small,
        av.open(str(bunny)) as film,
        av.open(str(source), "w") as out,
    ):
        inputs = [(small, small.streams.video[0]), (film, film.streams.audio[0])]
        outputs = [out.add_stream_from_template(stream) for _, stream in inputs]
        for (container, stream), target in zip(inputs, outputs, strict=True):
            for packet in container.demux(stream):
                if packet.size:
                    packet.stream = target
                    out.mux(packet)
    _, out_path, _ = convert(source, tmp_path, OutputType.WEBM)
    ours, rate, start = heard(out_path)
    theirs, _, begin = heard(source)
    assert ours.shape[0] == theirs.shape[0] == 6 and rate == 48000
    shift = round((start - begin) * rate)
    first, last = rate // 2, rate * 3 // 2
    compared = 0
    for channel in (0, 1, 2, 4, 5):  # all but the bass, which keeps its lowest octaves only
        before, after = theirs[channel, first:last], ours[channel, first - shift : last - shift]
        if before.std() > 1e-3:
            compared += 1
            assert np.corrcoef(before, after)[0, 1] > 0.9
    assert compared >= 2


def test_speakers_may_change(clip: Clips, tmp_path: Path) -> None:
    """A broadcast that goes from stereo to 5.1 and back."""
    pieces = [
        clip(Clip(f"cast{number}.ts", options=X264, frames=40, audio="ac3", audio_layout=layout))
        for number, layout in enumerate(("stereo", "5.1(side)", "stereo"))
    ]
    source = tmp_path / "cast.ts"
    with av.open(str(source), "w") as out:
        streams = None
        for number, piece in enumerate(pieces):
            with av.open(str(piece)) as part:
                streams = streams or [out.add_stream_from_template(stream) for stream in part.streams]
                for packet in part.demux():
                    if packet.size:
                        shift = round(number * 1.6 / packet.time_base)
                        assert packet.pts is not None and packet.dts is not None
                        packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                        packet.stream = streams[packet.stream_index]
                        out.mux(packet)
    _, out_path, media = convert(source, tmp_path, OutputType.WEBM)
    samples, rate, _ = heard(out_path)
    assert len(samples) == 2 and samples.shape[1] / rate == pytest.approx(media.duration, abs=0.1)
    assert media.num_frames == 120


@pytest.mark.parametrize("output_type", ALL)
def test_audio_ends_with_the_video(clip: Clips, tmp_path: Path, output_type: OutputType) -> None:
    source = clip(Clip("long.mkv", options=X264, audio="flac", audio_seconds=6.0))
    _, out, media = convert(source, tmp_path, output_type)
    samples, rate, _ = heard(out)
    assert media.duration == pytest.approx(2.0, abs=0.01)
    assert samples.shape[1] / rate == pytest.approx(2.0, abs=0.08)


def test_audio_that_cannot_be_decoded(clip: Clips, tmp_path: Path) -> None:
    source = clip(Clip("flac.mkv", options=X264, audio="flac"))
    data = bytearray(source.read_bytes())
    with av.open(str(source)) as container:
        for packet in container.demux(audio=0):
            part = bytes(packet)
            if part:
                at = data.index(part)
                data[at : at + len(part)] = b"\x00" * len(part)
    broken = tmp_path / "broken.mkv"
    broken.write_bytes(data)
    with pytest.raises(UnsupportedVideo, match=r"audio track \(flac\)"):
        convert(broken, tmp_path, OutputType.WEBM)
