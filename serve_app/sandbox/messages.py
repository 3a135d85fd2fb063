"""What passes between a replica and its media processes.

To a process: pickles, from the replica that it belongs to. From a process, which a hostile file may have taken over:
JSON, from which only the expected types are built, and of limited size.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import socket
import struct
import types
import typing
from collections.abc import Callable
from enum import Enum
from fractions import Fraction
from typing import Any, TypeVar

import numpy as np

from serve_app import errors

_LENGTH = struct.Struct(">Q")
MAX_BYTES = 256 << 20  # an index of three million frames has 64 MB

T = TypeVar("T")


class Malformed(Exception):
    """A process sent something else than what was expected."""


def send(connection: socket.socket, data: bytes) -> None:
    connection.sendall(_LENGTH.pack(len(data)))
    connection.sendall(data)


def receive(connection: socket.socket, wait: Callable[[], None] = lambda: None) -> bytes:
    """The next message. `wait`: called before each read, to return when there is something to read, or to raise.

    Raises `EOFError` at the end of the connection, or `Malformed` if the message is too long.
    """
    (length,) = _LENGTH.unpack(_exactly(connection, _LENGTH.size, wait))
    if length > MAX_BYTES:
        raise Malformed(f"a message of {length} bytes")
    return _exactly(connection, length, wait)


def _exactly(connection: socket.socket, size: int, wait: Callable[[], None]) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        wait()
        part = connection.recv(min(size - len(parts), 1 << 20))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)


def encoded(value: object) -> bytes:
    """JSON of dataclasses, fractions, int64 arrays, enums, tuples and plain values."""
    return json.dumps(_plain(value)).encode()


def decoded(kind: type[T], data: bytes) -> T:
    """The value of type `kind` whose JSON is `data`. Raises `Malformed`."""
    try:
        value: T = _built(kind, json.loads(data))
    except (ValueError, TypeError, KeyError, ZeroDivisionError, RecursionError) as error:
        raise Malformed(f"no {kind}: {error}") from error
    return value


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Fraction):
        return [value.numerator, value.denominator]
    if isinstance(value, np.ndarray):
        return base64.b64encode(value.astype("<i8").tobytes()).decode()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return value.item() if isinstance(value, np.generic) else value


def _built(kind: Any, plain: Any) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if plain is None and type(None) in arguments:
            return None
        (kind,) = (part for part in arguments if part is not type(None))
        return _built(kind, plain)
    if origin is typing.Literal:
        if plain not in arguments or type(plain) is bool:
            raise ValueError(f"{plain!r} is none of {arguments}")
        return plain
    if origin is np.ndarray:
        return np.frombuffer(base64.b64decode(_of(str, plain), validate=True), "<i8").astype(np.int64)
    if origin is tuple:
        _of(list, plain)
        kinds = [arguments[0]] * len(plain) if arguments[-1] is Ellipsis else arguments
        return tuple(_built(part, item) for part, item in zip(kinds, plain, strict=True))
    if origin is dict:
        return {
            key: item for key, item in _of(dict, plain).items() if isinstance(item, str | int | float | list)
        }
    if kind is Fraction:
        top, bottom = _of(list, plain)
        return Fraction(_of(int, top), _of(int, bottom))
    if kind is float:
        return float(_of((int, float), plain))
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return kind(**{name: _built(hints[name], item) for name, item in _of(dict, plain).items()})  # type: ignore[operator]
    return _of(kind, plain)


def _of(kind: Any, plain: Any) -> Any:
    if not isinstance(plain, kind) or (isinstance(plain, bool) and kind is not bool):
        raise TypeError(f"{type(plain).__name__} instead of {kind}")
    return plain


@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
    """An error of a process. kind: its class. message: that of a `ServiceError`, or the traceback of another error."""

    kind: str
    message: str
    field: str | None
    context: dict[str, Any]

    @classmethod
    def of(cls, error: errors.ServiceError) -> Failure:
        return cls(type(error).__name__, error.message, error.field, error.context)

    def error(self) -> errors.ServiceError | None:
        """The `ServiceError` that was raised, or None if it was another error."""
        kind = getattr(errors, self.kind, None)
        if not (isinstance(kind, type) and issubclass(kind, errors.ServiceError)):
            return None
        return kind(self.message, self.field, self.context)
