"""``antiphon keys``: make, list and revoke keys, and see what they used. A running server notices within seconds."""

from __future__ import annotations

import argparse
import sqlite3
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from antiphon.cli.command import Options, add_settings, fail, load_config
from antiphon.store.keys import Allowance, Key, mint_key
from antiphon.store.sqlite import database_of
from antiphon.store.sqlite import keys as statements

DEFAULT_PROJECT = "default"
"""What people call the project whose stored name is empty: that of requests without a key."""


def add_parser(commands: Any) -> None:
    """Add ``keys`` and what it can do to the commands of an ``argparse`` parser."""
    keys = commands.add_parser("keys", help="make, list and revoke keys")
    actions = keys.add_subparsers(dest="action", required=True, metavar="ACTION")
    create = actions.add_parser("create", help="make a key and show it, once")
    create.add_argument("--name", default="", help="a name to recognize it by")
    create.add_argument("--project", default=DEFAULT_PROJECT, help="the project that owns what it stores (default)")
    create.add_argument("--rpm", type=_parse_count, metavar="N", help="responses per minute (no limit)")
    create.add_argument("--tpm", type=_parse_count, metavar="N", help="tokens per minute, input and output (no limit)")
    create.add_argument("--budget-tokens-per-day", type=_parse_count, metavar="N", help="tokens per UTC day (no limit)")
    shown = actions.add_parser("list", help="list keys")
    revoke = actions.add_parser("revoke", help="revoke a key permanently")
    revoke.add_argument("id", metavar="ID", help="the key's id, key_…")
    usage = actions.add_parser("usage", help="what the keys used, per UTC day")
    usage.add_argument("--days", type=_parse_count, default=30, help="how many days, today included (30)")
    for action in (create, shown, revoke, usage):
        add_settings(action)


def _parse_count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def run(options: Options) -> int:
    """Do what the command line says; returns the exit status.

    Raises:
        antiphon.store.StoreUnavailable: the database cannot be read or written.
    """
    with statements.open_beside(database_of(load_config(options).data)) as db:
        return _ACTIONS[options["action"]](db, options)


def _create(db: sqlite3.Connection, options: Options) -> int:
    project = "" if options["project"] == DEFAULT_PROJECT else options["project"]
    allowance = Allowance(**{name: options[name] for name in Allowance.__struct_fields__})
    key, secret = mint_key(options["name"], project, allowance, int(time.time()))
    statements.insert(db, key)
    print(f"{key.id} in project {_project(key)}. This is the only time that it is shown:", file=sys.stderr)
    print(secret)
    return 0


def _list(db: sqlite3.Connection, options: Options) -> int:
    for key in statements.read_keys(db):
        state = f"revoked {_day(key.revoked_at)}" if key.revoked_at is not None else "open"
        limits = [f"{name}={value}" for name in Allowance.__struct_fields__ if (value := getattr(key.allowance, name))]
        made = f"made {_day(key.created_at)}"
        print(f"{key.id}  …{key.hint}  {_project(key):16} {key.name:16} {made}  {state:19} {' '.join(limits)}".rstrip())
    return 0


def _revoke(db: sqlite3.Connection, options: Options) -> int:
    if not statements.revoke(db, options["id"], int(time.time())):
        return fail(f"no active key {options['id']}")
    print(f"{options['id']} has been revoked")
    if all(key.revoked_at is not None for key in statements.read_keys(db)):
        print("No active key is left: the server refuses all requests until you create one.", file=sys.stderr)
    return 0


def _usage(db: sqlite3.Connection, options: Options) -> int:
    now = datetime.now(UTC)
    first = now - timedelta(days=options["days"] - 1)
    names = {key.id: key.name for key in statements.read_keys(db)}
    print(f"{'day':10}  {'key':36}  {'requests':>9}  {'input':>12}  {'output':>12}  name")
    for spent in statements.read_usage(db, first.strftime("%Y-%m-%d"), now.strftime("%Y-%m-%d")):
        line = f"{spent.day}  {spent.key_id or '(no key)':36}  {spent.requests:>9}"
        tokens = f"{spent.input_tokens:>12}  {spent.output_tokens:>12}"
        print(f"{line}  {tokens}  {names.get(spent.key_id, '')}".rstrip())
    return 0


def _project(key: Key) -> str:
    return key.project or DEFAULT_PROJECT


def _day(seconds: int | None) -> str:
    return datetime.fromtimestamp(seconds or 0, UTC).strftime("%Y-%m-%d")


_ACTIONS = {"create": _create, "list": _list, "revoke": _revoke, "usage": _usage}
