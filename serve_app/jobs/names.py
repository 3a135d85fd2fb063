"""Where the artifacts of a job lie."""

from __future__ import annotations

from dataclasses import dataclass

WORK = "work"


@dataclass(frozen=True, slots=True)
class JobNames:
    """The artifacts of one job. Outputs hold the fencing token: two holders never write the same name."""

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
        return f"{self.work}/pieces/{number:06d}"

    def mask_piece(self, number: int) -> str:
        return f"{self.piece(number)}-mask"

    def output(self, kind: str, extension: str) -> str:
        """`kind`: "output" or "mask", the name of the file as clients save it."""
        return f"{self.own_outputs}/{kind}.{extension}"


def work_of(job_id: str) -> str:
    """The prefix of the source, the pieces and all unfinished files of a job."""
    return f"{WORK}/{job_id}"


def outputs_of(job_id: str) -> str:
    """The prefix of everything that any holder of a job has put out."""
    return f"outputs/{job_id}"
