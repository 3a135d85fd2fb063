"""A track's tags, speakers, gaps and damage, and what the joined file needs of memory for it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from serve_app.errors import UnsupportedVideo
from serve_app.fal import OutputType
from serve_app.runner.completeness import audio_lines
from serve_app.video.probe import probe
from tests.video.altered import overwritten, packets_in, without_sound
from tests.video.clips import X264, Clip
from tests.video.conftest import Clips
from tests.video.pipeline import convert
from tests.video.test_audio import ALL, beep, heard


@pytest.mark.parametrize("output_type", ALL)
def test_language_and_title_stay(clip: Clips, tmp_path: Path, output_type: OutputType) -> None:
    """Also where the sound is copied: it was "und" before."""
    for codec in ("flac", "aac"):
        tags = {"language": "ger", "title": "Kommentar"}
        source = clip(Clip(f"german-{codec}.mkv", options=X264, audio=codec, audio_metadata=tags))
        _, out, _ = convert(source, tmp_path, output_type)
        with av.open(str(out)) as container:
            stream = container.streams.audio[0]
            found = {key.lower(): value for key, value in stream.metadata.items()}
        assert found["language"] == "ger"
        assert "Kommentar" in (found.get("title"), found.get("name"), found.get("handler_name"))


@pytest.mark.parametrize(("layout", "channels"), [("6.1", 7), ("7.1", 8)])
def test_many_speakers(clip: Clips, tmp_path: Path, layout: str, channels: int) -> None:
    """Opus and PCM keep them; AAC has no such layout that players know, and gets 5.1 with the sides in the back."""
    source = clip(Clip(f"speakers-{layout}.mkv", options=X264, audio="flac", audio_layout=layout))
    for output_type, wanted in ((OutputType.WEBM, layout), (OutputType.MOV, layout), (OutputType.MP4, "5.1")):
        _, out, _ = convert(source, tmp_path, output_type)
        with av.open(str(out)) as container:
            assert container.streams.audio[0].codec_context.layout.name == wanted
        samples, rate, start = heard(out)
        assert len(samples) == (6 if wanted == "5.1" else channels)
        assert beep(samples, rate, start) == pytest.approx(0.5, abs=0.012)
    mixed, rate, start = heard(out)
    window = slice(int((0.55 - start) * rate), int((0.65 - start) * rate))
    names = ["FL", "FR", "FC", "LFE", *(["BC", "SL", "SR"] if channels == 7 else ["BL", "BR", "SL", "SR"])]
    tones = {name: 110 * (number + 2) for number, name in enumerate(names)}
    back = spectrum_of(mixed[4, window], rate)
    for name in ("SL", "BC" if channels == 7 else "BL"):
        assert back(tones[name]) > 10 * back(tones["FL"])
    assert spectrum_of(mixed[0, window], rate)(tones["FL"]) > 0.05


def spectrum_of(samples: np.ndarray, rate: int) -> Callable[[float], float]:
    """How loud a tone is in `samples`."""
    at = np.arange(len(samples)) / rate
    return lambda tone: float(2 * abs(np.mean(samples * np.exp(-2j * np.pi * tone * at))))


def test_a_gap_is_silence_in_pcm(clip: Clips, tmp_path: Path) -> None:
    """MOV gives PCM no times: what was cut out of the middle has to be there as silence."""
    whole = clip(Clip("whole-pcm.mkv", options=X264, audio="pcm_s16le"))
    source = without_sound(0.1, 0.3)(whole, tmp_path / "gap.mkv")
    _, out, media = convert(source, tmp_path, OutputType.MOV)
    samples, rate, _ = heard(out)
    before, _, _ = heard(whole)
    assert samples.shape[1] / rate == pytest.approx(media.duration, abs=0.001)
    assert not samples[:, rate // 8 : rate // 4].any()
    tail = rate * 8 // 5  # the beep among it, bit by bit
    assert np.array_equal(samples[:, -tail:], before[:, -tail:]) and before[:, -tail:].any()


def test_a_damaged_track_is_seen_by_the_probe(clip: Clips, tmp_path: Path) -> None:
    whole = clip(Clip("flac-probe.mkv", options=X264, audio="flac"))
    count = len(packets_in(whole, "audio"))
    for numbers in ([5, 6, 7], range(count)):
        path = overwritten(whole, tmp_path / "damaged.mkv", numbers, "audio")
        audio = probe(path).audio
        assert audio is not None
        assert (audio.damaged, audio.packets) == (len(numbers), count)
        if len(numbers) < count:
            (line,) = audio_lines(audio)
            assert line.startswith(f"3 of {count} packets of the audio track")
            convert(path, tmp_path, OutputType.MOV)
        else:
            with pytest.raises(UnsupportedVideo, match="drop_audio"):
                audio_lines(audio)


INTERLEAVED = """
import sys
from dataclasses import replace
from pathlib import Path
import numpy as np
from serve_app.fal import OutputType, Quality
from serve_app.protocols import PixelLayout
from serve_app.video.formats import cutout_layout
from serve_app.video.join import join_pieces
from serve_app.video.probe import probe
from tests.video.pipeline import join_request, never, settings_of, write_piece
from tests.video.test_encode import moving
source, folder = Path(sys.argv[1]), Path(sys.argv[2])
index = probe(source)
settings = settings_of(index, OutputType.MOV, Quality.MAXIMUM)
noisy = moving(cutout_layout(PixelLayout(640, 360), OutputType.MOV), 10)
for plane in noisy.colour.planes:
    plane[:] = np.random.default_rng(0).integers(64, 940, plane.shape)
pieces = []
for number in range(20):
    pts = index.origin + 40 * np.arange(10 * number, 10 * number + 10)
    part = replace(noisy, colour=replace(noisy.colour, pts=pts, time_base=index.time_base))
    pieces.append(write_piece(part, settings, folder / str(number)))
request = join_request(source, index, settings, pieces, folder / "out")
peak = lambda: int(next(s for s in Path("/proc/self/status").open() if s.startswith("VmHWM")).split()[1])
before = peak()
join_pieces(lambda: [folder / piece.name for piece in pieces], request, source, folder / "out", never)
print(peak() - before, (folder / "out").stat().st_size)
"""


@pytest.mark.long
def test_sound_that_ends_early_costs_no_memory(clip: Clips, tmp_path: Path) -> None:
    """The muxer used to hold ten seconds of pictures, to wait for more of it."""
    source = clip(Clip("short-sound.mkv", options=X264, audio="flac", audio_seconds=0.4))
    done = subprocess.run(
        [sys.executable, "-c", INTERLEAVED, str(source), str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    growth, size = (int(figure) for figure in done.stdout.split())
    assert size > 200e6 and growth * 1024 < 32e6
