"""The tables of the benchmarks as Markdown: the same for the terminal and for the documentation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from benchmarks.figures import Figures, Row

NONE = "–"


@dataclass(frozen=True, slots=True)
class Table:
    """Titles, and the text below each title for a row."""

    columns: dict[str, Callable[[Row], str]]

    @property
    def head(self) -> str:
        return f"| {' | '.join(title.rstrip() for title in self.columns)} |\n|{' --- |' * len(self.columns)}"

    def line(self, row: Row) -> str:
        return f"| {' | '.join(cell(row) for cell in self.columns.values())} |"

    def markdown(self, rows: Iterable[Row]) -> str:
        return "\n".join([self.head, *map(self.line, rows)])


def text(name: str) -> Callable[[Row], str]:
    return lambda row: str(row[name])


def number(name: str, form: str, none: str = NONE) -> Callable[[Row], str]:
    """A figure in the format `form`; `none` where it was not measured."""
    return lambda row: none if row[name] is None else format(row[name], form)


def decibels(name: str) -> Callable[[Row], str]:
    """A PSNR; infinite ("exact") is a word in JSON too, and null is that there is nothing to compare."""
    return lambda row: (
        NONE if row[name] is None else row[name] if row[name] == "exact" else f"{row[name]:.1f}"
    )


NETWORK = Table(
    {
        "network": text("network"),
        "side": text("size"),
        "engine": text("engine"),
        "CPU-s a frame": number("cpu_s", ".3f"),
        "base / engine": number("ratio", ".2f"),
    }
)

FRAME_PATH = Table(
    {
        "size": text("size"),
        "part": text("part"),
        "CPU-ms a frame": number("cpu_ms", ".1f"),
        "of the network's": number("share", ".2f"),
    }
)

PIPELINE = Table(
    {
        "part": text("part"),
        "frames/s": number("fps", ".1f"),
        "CPU-s": number("cpu_s", ".2f"),
        "CPU-ms a frame": number("cpu_ms_a_frame", ".1f"),
    }
)

QUALITY = Table(
    {
        "checkpoint": text("checkpoint"),
        "clip": text("clip"),
        "MAD": number("mad", ".1f"),
        "MSE": number("mse", ".1f"),
        "Grad": number("grad", ".2f"),
        "Conn": number("conn", ".2f"),
        "dtSSD": number("dtssd", ".2f"),
        "S-measure": number("s_measure", ".3f"),
        "E-measure": number("e_measure", ".3f"),
    }
)

# Two columns have the same title; the blanks at the end tell them apart and are not written.
API = Table(
    {
        "database": text("database"),
        "call": text("call"),
        "replies/s": number("rate", ".0f"),
        "of the empty handler's": number("share", ".2f"),
        "p50 ms": number("p50_ms", ".2f"),
        "p99 ms": number("p99_ms", ".2f"),
        "at": number("paced_share", ".2f"),
        "p50 ms ": number("paced_p50_ms", ".2f"),
        "p99 ms ": number("paced_p99_ms", ".2f"),
    }
)

DIALS = Table(
    {
        "type": text("type"),
        "quality": text("quality"),
        "write mode": text("write_mode"),
        "KB": number("kilobytes", ".0f"),
        "CPU-s": number("cpu_s", ".2f"),
        "colour dB": decibels("colour_db"),
        "alpha dB": decibels("alpha_db"),
    }
)

SCALE = Table(
    {
        "job": text("what"),
        "segmenters": text("replicas"),
        "frames": text("frames"),
        "s": number("seconds", ".2f"),
        "frames/s": number("fps", ".1f"),
        "of the slowest stage": number("of_stage", ".2f"),
        "CPU of the service": number("own_cpu", ".0%"),
        "CPU of the machine": number("machine_cpu", ".0%"),
    }
)

BULK = Table(
    {
        "transfer": text("transfer"),
        "GB": number("gigabytes", "g"),
        "s": number("wall_s", ".0f"),
        "MB of it at 1 MB/s": number("slow_mb", ".0f"),
        "growth of any process, MB": number("growth_mb", ".1f"),
    }
)

TABLES = {
    "network": NETWORK,
    "frame_path": FRAME_PATH,
    "pipeline": PIPELINE,
    "api": API,
    "dials": DIALS,
    "bulk": BULK,
    "scale": SCALE,
    "quality": QUALITY,
}


def headline(figures: dict[str, Figures]) -> str:
    """The one table of the README, from the figures of all benchmarks."""
    job = figures["pipeline"].row(part="whole job")
    stages = figures["pipeline"].row(part="sum of the stages")
    sizes = figures["pipeline"].options
    networks = [
        [row for row in figures["network"].rows if row["network"] == name] for name in ("large", "tiny")
    ]
    fastest = [(found[0], min(found, key=lambda row: row["cpu_s"])) for found in networks]
    status = figures["api"].row(database="SQLite", call="status")
    transfers = figures["bulk"].rows
    mode = "with refinement" if sizes["refine"] else "without refinement"
    rows = [
        (
            f"whole job, {sizes['width']}x{sizes['height']} to {sizes['type']} {mode}, embedded checkpoint",
            f"{job['fps']:.1f} frames/s",
        ),
        (
            "CPU time of the whole job over that of its stages run alone",
            f"{job['cpu_s'] / stages['cpu_s']:.2f}",
        ),
        *(
            (
                f"{row['network']} network of BiRefNet, one frame at {row['size']}², engine {row['engine']}",
                f"{row['cpu_s']:.2f} CPU-s ({row['ratio']:.1f} times as fast as {base['engine']})",
            )
            for base, row in fastest
        ),
        (
            f"status call in its handler at {status['paced_share']:.2f} of the highest rate of an empty one, SQLite",
            f"p50 {status['paced_p50_ms']:.1f} ms, p99 {status['paced_p99_ms']:.1f} ms",
        ),
        *(
            (
                f"memory growth of any process, {row['transfer']} of {row['gigabytes']:g} GB",
                f"{row['growth_mb']:.1f} MB",
            )
            for row in transfers
        ),
    ]
    lines = [f"| {what} | {figure} |" for what, figure in rows]
    machines = [figures[name].machine for name in ("pipeline", "network", "api", "bulk")]
    where = "; ".join(sorted({f"{machine.name}, {machine.date}" for machine in machines}))
    loads = [machine.load for machine in machines]
    where = f"Measured without a GPU: {where}. Load before: {min(loads):g} to {max(loads):g}."
    return "\n".join(["| what | figure |", "| --- | --- |", *lines, "", where])


def section(figures: Figures) -> str:
    """A benchmark's part of the documentation: its machine, its command, its table."""
    options = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in figures.options.items())
    where = f"`python -m benchmarks.{figures.benchmark}` ({options}) on {figures.machine}."
    return f"{where}\n\n{TABLES[figures.benchmark].markdown(figures.rows)}"
