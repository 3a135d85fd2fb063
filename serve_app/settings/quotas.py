"""Settings of quotas: what one account may use, and all together."""

from __future__ import annotations

from pydantic import Field

from serve_app.settings.part import Part


class Quota(Part):
    """Limits of one account, or of all together; None: no limit. Beyond them the reply is 429.

    requests_per_s, burst: a token bucket in each replica of the ingress; `burst` requests may come at once.
    queued, unfinished: jobs that wait, and jobs that wait or run; counted in the job table, over all replicas.
    frames_per_day: frames computed for the jobs of the last 24 hours; jobs that were accepted still finish.
    streams: status streams that are open in one replica of the ingress.
    body_bytes: request bodies that one replica of the ingress holds at a time.
    """

    requests_per_s: float | None = Field(None, gt=0)
    burst: int = Field(100, ge=1)
    queued: int | None = Field(None, ge=1)
    unfinished: int | None = Field(None, ge=1)
    frames_per_day: int | None = Field(None, ge=1)
    streams: int | None = Field(None, ge=1)
    body_bytes: int | None = Field(None, ge=1)

    @property
    def limits_jobs(self) -> bool:
        return any(limit is not None for limit in (self.queued, self.unfinished, self.frames_per_day))


class QuotaSettings(Part):
    """Quotas of each account (the keys of one account share them) and of all; without keys all are one account."""

    account: Quota = Quota()
    overall: Quota = Quota(body_bytes=1 << 30)
