"""The exception tree, and the one table that maps it to wire type and HTTP status.

    ServiceError
    ├── SourceError                 the source video cannot be used      422, loc body.video_url
    │   ├── DownloadFailed          not fetchable, blocked address, bad data URI
    │   ├── UnsupportedVideo        not decodable, empty, truncated, audio only
    │   │   └── DecoderCrashed      ended the process that read it, at each try
    │   ├── FileTooLarge            over the size limit
    │   ├── VideoTooLong            over the limit of time or frames
    │   └── FrameTooLarge           over the frame size limit
    ├── FeatureNotSupported         unsupported combination of inputs    422, loc body.<field>
    ├── NothingProduced             the output has no frames             422
    ├── BadRequest                  invalid header or query              400
    ├── KeyReused                   idempotency key with another input   422
    ├── TooManyWaiting              too many waiting requests            429
    │   └── QuotaExceeded           a quota of the account or of all
    ├── BodyTooSlow                 the body did not arrive in time      408
    ├── JobCancelled                cancelled by the client              499
    ├── StageError                  a stage failed                       500
    │   ├── InferenceFailed
    │   ├── EncodingFailed
    │   │   └── EncoderCrashed      ended the process that wrote it, at each try
    │   ├── StorageFull
    │   └── StorageUnavailable      the artifact store is unreachable or refuses
    ├── CheckpointError             the weights cannot be used           500
    │   ├── CheckpointMissing       hub or directory unavailable
    │   └── CheckpointMismatch      keys or shapes do not match the network
    ├── ReplicasLost                a chunk failed three times           503
    ├── CapacityTimeout             no replica within capacity_wait      503
    ├── RunnerLost                  the job's runners died               503
    ├── StartTimeout                not started before the deadline      504
    └── WorkTimeout                 a stage call took too long           504

    SetupError                      never on the wire: the service cannot start
    └── SchemaOutdated              the job table has another schema version

Messages say what to do. Errors cross process boundaries, so each one pickles with its context.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

DOCS = "https://docs.fal.ai/errors/#"


class ServiceError(Exception):
    """Base of all errors that reach a client.

    field: the input field at fault; `loc` of a model error.
    context: `ctx` of a model error.
    """

    def __init__(self, message: str, field: str | None = None, context: dict[str, Any] | None = None) -> None:
        super().__init__(message, field, context)
        self.message = message
        self.field = field
        self.context = context or {}

    def __str__(self) -> str:
        return self.message


class SourceError(ServiceError):
    """The source video cannot be used."""

    def __init__(
        self, message: str, field: str | None = "video_url", context: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message, field, context)


class DownloadFailed(SourceError): ...


class UnsupportedVideo(SourceError): ...


class DecoderCrashed(UnsupportedVideo): ...


class FileTooLarge(SourceError): ...


class VideoTooLong(SourceError): ...


class FrameTooLarge(SourceError): ...


class FeatureNotSupported(ServiceError): ...


class NothingProduced(ServiceError): ...


class BadRequest(ServiceError): ...


class KeyReused(ServiceError): ...


class TooManyWaiting(ServiceError): ...


class QuotaExceeded(TooManyWaiting): ...


class BodyTooSlow(ServiceError): ...


class JobCancelled(ServiceError): ...


class StageError(ServiceError):
    """A stage failed, and a retry would not help."""


class InferenceFailed(StageError): ...


class EncodingFailed(StageError): ...


class EncoderCrashed(EncodingFailed): ...


class StorageFull(StageError): ...


class StorageUnavailable(StageError): ...


class CheckpointError(ServiceError):
    """The weights of a variant cannot be used."""


class CheckpointMissing(CheckpointError): ...


class CheckpointMismatch(CheckpointError): ...


class ReplicasLost(ServiceError): ...


class CapacityTimeout(ServiceError): ...


class RunnerLost(ServiceError): ...


class StartTimeout(ServiceError): ...


class WorkTimeout(ServiceError): ...


class SetupError(Exception):
    """The configuration or the environment keeps the service from starting; the message says what to do."""


class SchemaOutdated(SetupError): ...


@dataclass(frozen=True, slots=True)
class Wire:
    """The wire form of an error class: `detail` is a list for `model` errors and a text for `request` errors."""

    status: int
    type: str
    shape: Literal["model", "request"]


WIRE: dict[type[ServiceError], Wire] = {
    DownloadFailed: Wire(422, "file_download_error", "model"),
    UnsupportedVideo: Wire(422, "unsupported_video_format", "model"),
    FileTooLarge: Wire(422, "file_too_large", "model"),
    VideoTooLong: Wire(422, "video_duration_too_long", "model"),
    FrameTooLarge: Wire(422, "image_too_large", "model"),
    FeatureNotSupported: Wire(422, "feature_not_supported", "model"),
    NothingProduced: Wire(422, "no_media_generated", "model"),
    BadRequest: Wire(400, "bad_request", "request"),
    KeyReused: Wire(422, "idempotency_key_reused", "request"),
    TooManyWaiting: Wire(429, "concurrent_requests_limit", "request"),
    BodyTooSlow: Wire(408, "body_too_slow", "request"),
    JobCancelled: Wire(499, "client_cancelled", "request"),
    StageError: Wire(500, "internal_server_error", "model"),
    CheckpointError: Wire(500, "internal_server_error", "model"),
    ReplicasLost: Wire(503, "runner_connection_error", "request"),
    CapacityTimeout: Wire(503, "runner_scheduling_failure", "request"),
    RunnerLost: Wire(503, "runner_disconnected", "request"),
    StartTimeout: Wire(504, "request_timeout", "request"),
    WorkTimeout: Wire(504, "generation_timeout", "model"),
    ServiceError: Wire(500, "internal_error", "request"),
}


@dataclass(frozen=True, slots=True)
class WireError:
    """The HTTP reply for an error, as the ingress sends it and the job table stores it."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str]


def to_wire(error: ServiceError) -> WireError:
    """Returns the reply for `error`, by its nearest class in `WIRE` (fal protocol, section 8)."""
    wire = next(WIRE[cls] for cls in type(error).__mro__ if cls in WIRE)
    retryable = "true" if wire.status >= 500 and wire.shape == "request" else "false"
    headers = {"X-Fal-Retryable": retryable, "X-Fal-Needs-Retry": "1" if retryable == "true" else "false"}
    if isinstance(error, StartTimeout):  # the client's own deadline: clients must not retry
        headers = {
            "X-Fal-Retryable": "false",
            "X-Fal-Needs-Retry": "false",
            "X-Fal-Request-Timeout-Type": "user",
        }
    if wire.shape == "request":
        body: dict[str, Any] = {"detail": error.message, "error_type": wire.type}
        if wire.status == 429:
            body = {"detail": error.message, "type": wire.type}
            headers["X-Fal-Needs-Retry"] = "1"
        return WireError(wire.status, body, headers | {"X-Fal-Error-Type": wire.type})
    item: dict[str, Any] = {
        "loc": ["body", error.field] if error.field else ["body"],
        "msg": error.message,
        "type": wire.type,
        "url": DOCS + wire.type,
    }
    if error.context:
        item["ctx"] = error.context
    return WireError(wire.status, {"detail": [item]}, headers)
