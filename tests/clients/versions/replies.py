"""What the clients said, kept in a file, and the tables made from it."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.clients.versions.clients import CLIENTS, FUNCTIONS, PROXIES, Client

FILE = Path(__file__).parent / "replies.json"
PAGE = Path(__file__).parents[3] / "docs" / "2-clients.md"

_CHANGING = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|eyJ[\w.-]+|logs=[01]")  # in messages: ids, tokens, options


@dataclass(frozen=True)
class Reply:
    """`outcome`: works, not offered or fails."""

    outcome: str
    remark: str | None = None


@dataclass(frozen=True)
class Row:
    """What a client said of each function, and on which day."""

    date: str
    replies: dict[str, Reply]


def load() -> dict[str, Row]:
    """By the clients' labels."""
    rows = json.loads(FILE.read_text()) if FILE.exists() else {}
    return {
        label: Row(row["date"], {name: Reply(**reply) for name, reply in row["replies"].items()})
        for label, row in rows.items()
    }


def save(rows: dict[str, Row]) -> None:
    """Clients that are tried no more are left out."""
    kept = {client.label: asdict(rows[client.label]) for client in CLIENTS + PROXIES if client.label in rows}
    FILE.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")


def _cell(reply: Reply | None, reasons: list[str]) -> str:
    """Reasons are numbered below the table."""
    if reply is None or reply.outcome == "not offered":
        return "–"
    if reply.outcome == "works":
        return f"works, {reply.remark}" if reply.remark else "works"
    reason = _CHANGING.sub("…", (reply.remark or "no reason given").strip().splitlines()[0])
    reason = reason.replace("`", "'")[:300]
    if reason not in reasons:
        reasons.append(reason)
    return f"fails ({reasons.index(reason) + 1})"


def table(clients: list[Client], rows: dict[str, Row], first: str) -> str:
    reasons: list[str] = []
    lines = [f"| {first} | {' | '.join(FUNCTIONS.values())} |", f"| --- |{' --- |' * len(FUNCTIONS)}"]
    tried = [client for client in clients if client.label in rows]
    if not tried:
        return "Not tried yet."
    for client in tried:
        replies = rows[client.label].replies
        cells = [_cell(replies.get(function), reasons) for function in FUNCTIONS]
        lines.append(f"| {client.label} | {' | '.join(cells)} |")
    if reasons:
        lines += ["", *(f"{number}. `{reason}`" for number, reason in enumerate(reasons, 1))]
    dates = sorted({rows[client.label].date for client in tried})
    return "\n".join([*lines, "", f"Tried on {' and '.join(dates)}."])


def written(page: str, rows: dict[str, Row]) -> str:
    """The page with both tables made anew."""
    tables = {
        "versions": table(CLIENTS, rows, "client"),
        "proxies": table(PROXIES, rows, "`@fal-ai/server-proxy` 1.2.1 in"),
    }
    marked = re.compile(r"(<!-- clients: (\w+) -->\n).*?(<!-- end of clients -->)", re.S)
    return marked.sub(lambda found: f"{found[1]}{tables[found[2]]}\n{found[3]}", page)
