"""``antiphon doctor``, ``migrate``, ``export`` and ``purge``: what operators do with a data folder."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from antiphon.cli.command import EXIT_FAILED, Options, add_settings, load_config
from antiphon.config import ConfigError


def add_parsers(commands: Any) -> None:
    """Add the four commands to those of an ``argparse`` parser."""
    doctor = _add(commands, "doctor", "check everything that a server depends on; exit status 1 when something fails")
    doctor.add_argument(
        "--model", metavar="NAME|PATH.gguf", help="the embedded model; with --upstream the one to offer"
    )
    doctor.add_argument("--upstream", metavar="URL", help="base URL of a chat-completions server, ending in /v1")
    migrate = _add(commands, "migrate", "upgrade the database, after a backup")
    migrate.add_argument("--check", action="store_true", help="only say whether an upgrade is needed (status 1)")
    export = _add(commands, "export", "write all stored responses to a file, one JSON object per line")
    export.add_argument("file", type=Path, metavar="FILE.jsonl")
    purge = _add(commands, "purge", "delete stored responses; those that continue them keep working")
    purge.add_argument("--user", help="of requests that named this user or safety_identifier")
    purge.add_argument("--key", metavar="ID", help="made with this key, key_…")
    purge.add_argument("--before", metavar="DATE", help="created before this day or time, such as 2026-01-31")
    purge.add_argument("--all", action="store_true", help="all responses")
    purge.add_argument(
        "--conversations", action="store_true", help="with --before or --all: also conversations not used since"
    )


def _add(commands: Any, name: str, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text)
    add_settings(parser)
    return parser


def run_doctor(options: Options) -> int:
    """Check what a server depends on; returns the exit status."""
    from antiphon.cli.doctor import run_checks

    failed = False
    for finding in run_checks(load_config(options)):
        print(finding, flush=True)
        failed |= finding.level == "FAIL"
    return EXIT_FAILED if failed else 0


def run_migrate(options: Options) -> int:
    """Upgrade the database, or say whether it needs that; returns the exit status."""
    from antiphon.cli import maintenance

    data = load_config(options).data
    if options["check"]:
        current = maintenance.is_current(data)
        print("The database is up to date." if current else "The database can be upgraded: antiphon migrate")
        return 0 if current else EXIT_FAILED
    done = maintenance.migrate(data)
    if done.backup:
        print(f"The database was upgraded from schema {done.found}; a copy of it is {done.backup}")
    if done.rebuilt:
        print("The database was rebuilt, so that it can give free space back.")
    if not (done.backup or done.rebuilt):
        print("The database is up to date.")
    return 0


def run_export(options: Options) -> int:
    """Write all stored responses to a file; returns the exit status."""
    from antiphon.cli import maintenance

    count = maintenance.export(load_config(options).data, options["file"])
    print(f"{count} responses written to {options['file']}")
    return 0


def run_purge(options: Options) -> int:
    """Delete the selected responses; returns the exit status.

    Raises:
        ConfigError: nothing is selected, or a selection that conversations cannot be asked for.
    """
    from antiphon.cli import maintenance
    from antiphon.store import Purge, Selection

    before = _read_purge_options(options, maintenance.parse_time)
    data = load_config(options).data
    selection = Selection(before=before, user=options["user"], key_id=options["key"])
    purged = maintenance.purge(data, Purge(selection, options["conversations"]))
    print(f"{purged.responses} responses deleted")
    if options["conversations"]:
        print(f"{purged.conversations} conversations deleted")
    if not purged.scrubbed:
        print(
            "Deleted data can still be read in the database's files, because another program reads it now."
            " Run the command again once that is over.",
            file=sys.stderr,
        )
    for copy in maintenance.backups(data):
        print(f"{copy} was made by an upgrade, and still holds the data of that time.", file=sys.stderr)
    return 0


def _read_purge_options(options: Options, parse_time: Callable[[str], int]) -> int | None:
    """The time of ``--before``, once the options are known to make sense together."""
    if not (options["user"] or options["key"] or options["before"] or options["all"]):
        raise ConfigError("purge: specify at least one of --user, --key, --before, --all")
    if options["conversations"] and (options["user"] or options["key"]):
        raise ConfigError("--conversations cannot be used with --user or --key: conversations do not record them")
    try:
        return parse_time(options["before"]) if options["before"] else None
    except ValueError as error:
        raise ConfigError(f"--before: {error}") from error
