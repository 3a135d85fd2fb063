"""Names of a job's artifacts."""

from __future__ import annotations

from dataclasses import dataclass

WORK = "work"


@dataclass(frozen=True, slots=True)
class JobNames:
    """Names of one job's artifacts. Those of pieces and outputs contain the fencing token: two holders never write the
    same, and an earlier holder that goes on too late does not replace what a later one has recorded.
    """

    job_id: str
    token: int

    @property
    def work(self) -> str:
        return work_of(self.job_id)

    @property
    def outputs(self) -> str:
        return outputs_of(self.job_id)

    @property
    def own_outputs(self) -> str:
        return f"{self.outputs}/{self.token}"

    @property
    def source(self) -> str:
        return f"{self.work}/source"

    def piece(self, number: int) -> str:
        return f"{self.work}/pieces/{self.token}/{number:06d}"

    def mask_piece(self, number: int) -> str:
        return f"{self.piece(number)}-mask"

    def output(self, kind: str, extension: str) -> str:
        """`kind`: "output" or "mask", the stem of the file name that clients see."""
        return f"{self.own_outputs}/{kind}.{extension}"


def work_of(job_id: str) -> str:
    """The prefix of a job's source, pieces and unfinished files."""
    return f"{WORK}/{job_id}"


def outputs_of(job_id: str) -> str:
    """The prefix of a job's outputs, of all its holders."""
    return f"outputs/{job_id}"
