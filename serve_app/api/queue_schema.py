"""The queue's replies as OpenAPI tells them. Handlers write them as plain dictionaries: status calls must be cheap."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class LogLine(BaseModel):
    """One line of a job's log."""

    message: str
    level: str = Field(description="STDERR, STDOUT, ERROR, INFO, WARN or DEBUG.")
    source: Literal["USER"]
    timestamp: str = Field(description="ISO 8601 with microseconds and offset.")


class Metrics(BaseModel):
    """Figures of a completed job."""

    inference_time: float | None = Field(None, description="Seconds of processing.")


class JobProgress(BaseModel):
    """How far a running job is: an extension of this service, which the vendor's clients ignore."""

    stage: str = Field(description="fetching, indexing, segmenting, joining or finishing.")
    frames_done: int = Field(ge=0)
    frames_total: int = Field(ge=0, description="0 until the video is indexed.")
    frames_per_second: float | None = Field(description="Measured; null until a chunk is finished.")
    seconds_left: float | None = Field(
        description="Until the last frame is finished; null until it is known."
    )


class Addressed(BaseModel):
    """What each reply about a job names."""

    request_id: str
    response_url: str
    status_url: str
    cancel_url: str
    logs: list[LogLine] | None = Field(description="Null unless asked for.")
    metrics: Metrics


class QueueReceipt(Addressed):
    """The job was taken."""

    status: Literal["IN_QUEUE"]
    queue_position: int = Field(ge=0, description="How many jobs go first.")
    gateway_request_id: str


class QueueStatus(Addressed):
    """Where a job stands. A failed or cancelled one is COMPLETED with an error."""

    model_config = ConfigDict(title="QueueStatus")

    status: Literal["IN_QUEUE", "IN_PROGRESS", "COMPLETED"]
    queue_position: int | None = Field(None, ge=0, description="How many jobs go first; only in the queue.")
    progress: JobProgress | None = Field(None, description="Only while the job runs; an extension.")
    error: str | None = Field(None, description="What went wrong.")
    error_type: str | None = None


class CancelAccepted(BaseModel):
    """The job is cancelled."""

    status: Literal["CANCELLATION_REQUESTED"]


class CancelTooLate(BaseModel):
    """The job was over before."""

    status: Literal["ALREADY_COMPLETED"]


class NotFound(BaseModel):
    """No such request, or its result is no longer kept."""

    status: Literal["NOT_FOUND"]
