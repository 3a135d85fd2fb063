"""What a media process answers is believed only in its form: a hostile one may answer anything."""

from __future__ import annotations

import json
import pickle
import socket
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest

from serve_app.errors import UnsupportedVideo
from serve_app.protocols import Index, MediaFile
from serve_app.sandbox.messages import MAX_BYTES, Failure, Malformed, decoded, encoded, receive, send
from serve_app.sandbox.values import Decoded
from serve_app.video.probe import probe
from tests.video.clips import X264, Clip
from tests.video.conftest import Clips


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.mark.parametrize("name", ["film.mp4", "hdr.mp4", "x264.avi", "palette.gif"])
def test_an_index_comes_back_whole(clip: Clips, name: str) -> None:
    index = probe(clip(name))
    back = decoded(Index, encoded(index))
    for field in Index.__dataclass_fields__:
        before, after = getattr(index, field), getattr(back, field)
        assert np.array_equal(before, after) and type(before) is type(after), field


def test_an_error_comes_back_with_its_context() -> None:
    error = UnsupportedVideo("no", context={"supported_formats": ["mp4"]})
    back = decoded(Failure, encoded(Failure.of(error))).error()
    assert isinstance(back, UnsupportedVideo)
    assert (back.message, back.field, back.context) == ("no", "video_url", {"supported_formats": ["mp4"]})
    assert Failure("SystemExit", "", None, {}).error() is None
    assert Failure("Any", "", None, {}).error() is None  # a name of the module that is no error


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"null",
        pickle.dumps(MediaFile),
        b'{"pts": "AAAA", "damage": []}',
        b'{"pts": [1], "damage": []}',
        b'{"pts": "", "damage": [1.5]}',
        b'{"pts": "", "damage": [true]}',
        b'{"pts": "", "damage": [], "more": 1}',
        b'{"pts": ""}',
        b"[" * 100_000,
    ],
    ids=lambda answer: answer[:24],
)
def test_other_answers_are_refused(answer: bytes) -> None:
    with pytest.raises(Malformed):
        decoded(Decoded, answer)


def test_a_fraction_has_a_denominator() -> None:
    assert decoded(Fraction, encoded(Fraction(1, 3))) == Fraction(1, 3)
    with pytest.raises(Malformed):
        decoded(Fraction, json.dumps([1, 0]).encode())


def test_messages_have_a_limit(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    send(theirs, b"short")
    assert receive(ours) == b"short"
    theirs.sendall((MAX_BYTES + 1).to_bytes(8, "big"))
    with pytest.raises(Malformed, match="bytes"):
        receive(ours)


def test_the_end_of_a_connection(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    theirs.sendall((10).to_bytes(8, "big") + b"half")
    theirs.close()
    with pytest.raises(EOFError):
        receive(ours)


def test_an_index_with_sound(clip: Clips) -> None:
    index = probe(clip(Clip("six-sound.mp4", frames=6, options=X264, audio="aac", audio_seconds=0.24)))
    assert index.audio is not None
    assert decoded(Index, encoded(index)).audio == index.audio
