"""Every command: its help has examples that parse, and completion can be had for the common shells."""

from __future__ import annotations

import os
import pty
import shlex
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

from serve_app.cli.common import PROGRAM
from serve_app.cli.main import app


def commands(group: TyperGroup, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from commands(command, (*words, name))
        else:
            yield (*words, name), command


ROOT: Any = get_command(app)
COMMANDS = dict(commands(ROOT))


def parse(words: list[str]) -> tuple[str, ...]:
    """Parses a command line without running it, and returns the names of the command. Raises `UsageError`."""
    command, path = ROOT, []
    while isinstance(command, TyperGroup):
        path.append(words[0])
        command, words = command.commands[words[0]], words[1:]
    command.make_context(path[-1], words)
    return tuple(path)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_the_help_has_examples_that_parse(words: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "200"}, terminal_width=200)
    assert shown.exit_code == 0
    lines = [line.strip() for line in shown.output.partition("Examples:")[2].splitlines() if line.strip()]
    assert lines
    for line in lines:
        program, *arguments = shlex.split(line)
        assert program == PROGRAM
        redirections = [n for n, word in enumerate(arguments) if word in ("<", ">")]
        assert parse(arguments[: redirections[0]] if redirections else arguments) == words


def test_completion() -> None:
    """The script that bash evaluates, and what its function asks the program for the beginning of a word."""
    program = [sys.executable, "-c", "from serve_app.cli.main import app; app(prog_name='birefnet-serve')"]
    script = {"_BIREFNET_SERVE_COMPLETE": "source_bash"}
    asked = {
        "_BIREFNET_SERVE_COMPLETE": "complete_bash",
        "COMP_WORDS": "birefnet-serve rem",
        "COMP_CWORD": "1",
    }
    shown, found = (
        subprocess.run(
            program, env={**os.environ, **extra}, capture_output=True, text=True, timeout=60
        ).stdout
        for extra in (script, asked)
    )
    assert "_BIREFNET_SERVE_COMPLETE=complete_bash" in shown
    assert found.split() == ["remove"]


def test_what_standard_input_and_output_cannot_take() -> None:
    """Refused before a server is started."""
    for arguments, reason in {
        ("a.mp4", "b.mp4", "-o", "-"): "these are 2",
        ("a.mp4", "-o", "-", "--mask"): "with --mask",
        ("a.mp4", "-o", "-", "--json"): "leave out --json",
    }.items():
        done = CliRunner().invoke(app, ["remove", *arguments, "--server", "http://127.0.0.1:9"])
        assert done.exit_code == 2
        assert reason in " ".join(done.output.replace("│", " ").split())


def test_terminals_are_refused() -> None:
    """A terminal shows no video, and nobody types one."""
    leader, follower = pty.openpty()
    program = [sys.executable, "-m", "serve_app.cli.main", "remove"]
    for arguments in (["clip.mp4", "-o", "-"], ["-"]):
        done = subprocess.run(
            [*program, *arguments, "--server", "http://127.0.0.1:9"],
            stdin=follower,
            stdout=follower,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
        assert done.returncode == 2
        assert "is a terminal" in " ".join(done.stderr.replace("│", " ").split())
    os.close(follower)
    os.close(leader)
