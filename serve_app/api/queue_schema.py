"""The queue's replies, for OpenAPI. Handlers build them as plain dictionaries, to keep status calls cheap."""

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
    """Progress of a running job: an extension of this service, which the vendor's clients ignore."""

    stage: str = Field(description="fetching, indexing, segmenting, joining or finishing.")
    frames_done: int = Field(ge=0)
    frames_total: int = Field(ge=0, description="0 until the video is indexed.")
    frames_per_second: float | None = Field(description="Measured rate; null until a chunk is finished.")
    seconds_left: float | None = Field(
        description="Estimated time until the last frame is finished; null if unknown."
    )


class JobReply(BaseModel):
    """Fields common to all replies about a job."""

    request_id: str
    response_url: str
    status_url: str
    cancel_url: str
    logs: list[LogLine] | None = Field(description="Null unless requested.")
    metrics: Metrics


class QueueReceipt(JobReply):
    """The job was accepted."""

    status: Literal["IN_QUEUE"]
    queue_position: int = Field(ge=0, description="Number of jobs ahead.")
    gateway_request_id: str


class QueueStatus(JobReply):
    """The status of a job. A failed or cancelled one is COMPLETED with an error."""

    model_config = ConfigDict(title="QueueStatus")

    status: Literal["IN_QUEUE", "IN_PROGRESS", "COMPLETED"]
    queue_position: int | None = Field(None, ge=0, description="Number of jobs ahead; only while IN_QUEUE.")
    progress: JobProgress | None = Field(None, description="Only while IN_PROGRESS; an extension.")
    error: str | None = Field(None, description="The error message.")
    error_type: str | None = None


class CancelAccepted(BaseModel):
    """The job is cancelled."""

    status: Literal["CANCELLATION_REQUESTED"]


class CancelTooLate(BaseModel):
    """The job had already ended."""

    status: Literal["ALREADY_COMPLETED"]


class NotFound(BaseModel):
    """The request does not exist, or its result has expired."""

    status: Literal["NOT_FOUND"]
