"""`birefnet-serve keys`: create, list and revoke API keys, and rotate the webhook signing key."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from serve_app.cli.common import LOCAL_PROFILE, Config, DataDir, errors, examples, load, setup_errors

if TYPE_CHECKING:
    from serve_app.accounts.keys import KeyTable

keys_app = typer.Typer(no_args_is_help=True, help="Manage API keys and the webhook signing key.")
Result = TypeVar("Result")


@keys_app.command(epilog=examples("keys create --name laptop", "keys create --name admin --admin"))
def create(
    name: Annotated[str, typer.Option(help="What the key is for.")],
    account: Annotated[str | None, typer.Option(help="An existing account (default: a new one).")] = None,
    admin: Annotated[
        bool, typer.Option("--admin", help="Allow administrative requests, such as deleting payloads.")
    ] = False,
    config: Config = LOCAL_PROFILE,
    data_dir: DataDir = None,
) -> None:
    """Create a key and print it. It is shown only once: the service stores a hash."""
    made = _with_table(config, data_dir, lambda table: table.create(name, account, admin))
    errors.print(
        f"created a key of account {made.key.account}; clients read it from FAL_KEY:", soft_wrap=True
    )
    print(made.text)


@keys_app.command("list", epilog=examples("keys list"))
def list_keys(config: Config = LOCAL_PROFILE, data_dir: DataDir = None) -> None:
    """List all keys, without their secrets."""
    table = Table("id", "account", "name", "created", "revoked", "admin", box=None, pad_edge=False)
    for key in _with_table(config, data_dir, lambda keys: keys.all()):
        revoked = _day(key.revoked_at) if key.revoked_at is not None else ""
        table.add_row(
            key.id, key.account, key.name, _day(key.created_at), revoked, "yes" if key.admin else ""
        )
    # Ids are copied from this table, so a narrow terminal must not truncate them.
    Console(width=200, markup=False, highlight=False).print(table)


@keys_app.command(epilog=examples("keys revoke 00000000-0000-4000-8000-000000000000"))
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The part of the key before the colon.")],
    config: Config = LOCAL_PROFILE,
    data_dir: DataDir = None,
) -> None:
    """Revoke a key permanently. Services notice within `auth.cache_s` seconds."""
    if not _with_table(config, data_dir, lambda table: table.revoke(key_id)):
        errors.print(f"no valid key {key_id}: see `birefnet-serve keys list`", soft_wrap=True)
        raise typer.Exit(1)
    errors.print(f"revoked {key_id}", soft_wrap=True)


@keys_app.command("rotate-webhook", epilog=examples("keys rotate-webhook", "keys rotate-webhook --now"))
def rotate_webhook(
    at_once: Annotated[
        bool,
        typer.Option(
            "--now",
            help="Sign with the new key now. Receivers that cache the published keys reject it for up to a day.",
        ),
    ] = False,
    config: Config = LOCAL_PROFILE,
    data_dir: DataDir = None,
) -> None:
    """Publish a new webhook signing key. It signs after a day, once receivers have it; old keys stay published."""
    from serve_app.webhooks.signing_keys import CACHED_S, KeyFile

    with setup_errors():
        settings = load(config, data_dir).settings
        key = KeyFile(settings.webhook_key_file).rotate(0.0 if at_once else CACHED_S)
    errors.print(f"{key.public['kid']} signs from {_timestamp(key.signs_from)} on", soft_wrap=True)


def _with_table(config: Path, data_dir: Path | None, work: Callable[[KeyTable], Awaitable[Result]]) -> Result:
    from serve_app.accounts.keys import KeyTable

    async def run(url: str) -> Result:
        table = KeyTable(url)
        try:
            await table.open()
            return await work(table)
        finally:
            await table.close()

    with setup_errors():
        return asyncio.run(run(load(config, data_dir).settings.database_url))


def _day(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d}"


def _timestamp(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"
