"""The command line: serving, keys, models, recorded streams, and looking after a data folder."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from antiphon import __version__
from antiphon.cli import agent
from antiphon.cli import files as cli_files
from antiphon.cli import keys as cli_keys
from antiphon.cli import run as cli_run
from antiphon.cli import webhooks as cli_webhooks
from antiphon.config import Config, ConfigError, load
from antiphon.telemetry import logs

EXIT_FAILED = 1
EXIT_MISUSED = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    options = vars(_parser().parse_args(argv))
    command = options.pop("command")
    try:
        return COMMANDS[command](options)
    except ConfigError as error:
        print(f"antiphon: {error}", file=sys.stderr)
        return EXIT_MISUSED
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="antiphon", description="A self-hosted Responses API.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="start the server")
    serve.add_argument("--config", type=Path, help="TOML file of settings")
    serve.add_argument("--host", help="address to listen on (127.0.0.1)")
    serve.add_argument("--port", type=int, help="port to listen on (8484; 0 takes a free one)")
    serve.add_argument("--data", type=Path, metavar="DIR", help="folder of the database and the logs")
    serve.add_argument("--store", choices=("sqlite", "memory"), help="where responses are kept (sqlite)")
    serve.add_argument("--retention-days", type=float, help="how long responses are kept (30; 0 for ever)")
    serve.add_argument("--store-bytes-max", type=int, help="bytes the store may take before the oldest goes (no end)")
    serve.add_argument("--log-format", choices=("text", "json"), help="how the log is written (text)")
    serve.add_argument("--strict", action="store_true", default=None, help="refuse undocumented parameters")
    serve.add_argument("--model", metavar="NAME|PATH.gguf", help="the embedded model; with --upstream the one to offer")
    serve.add_argument("--threads", type=int, help="threads the embedded model computes with (all cores but one)")
    serve.add_argument("--upstream", metavar="URL", help="base URL of a chat-completions server, ending in /v1")
    serve.add_argument("--upstream-key", metavar="KEY", help="its bearer token (better: ANTIPHON_UPSTREAM_KEY)")
    serve.add_argument(
        "--upstream-vision", choices=("auto", "true", "false"), help="whether its models are shown images (auto)"
    )
    serve.add_argument("--upstream-sees", action="store_true", default=None, help=argparse.SUPPRESS)

    agent.add_parser(commands)
    cli_files.add_parser(commands)
    cli_run.add_parser(commands)
    cli_keys.add_parser(commands)
    cli_webhooks.add_parser(commands)

    models = commands.add_parser("models", help="list the embedded models, or fetch one")
    models.add_argument("fetch", nargs="?", choices=("fetch",), help="fetch a model now")
    models.add_argument("name", nargs="?", help="the model to fetch")

    check = commands.add_parser("check-stream", help="check a recorded event stream against the grammar")
    check.add_argument("file", help="file of a text/event-stream body, or - for standard input")
    _add_upkeep(commands)
    return parser


def _add_upkeep(commands: Any) -> None:
    def command(name: str, text: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = commands.add_parser(name, help=text)
        parser.add_argument("--config", type=Path, help="TOML file of settings")
        parser.add_argument("--data", type=Path, metavar="DIR", help="folder of the database")
        return parser

    doctor = command("doctor", "look at everything that a server stands on; exit status 1 when something fails")
    doctor.add_argument(
        "--model", metavar="NAME|PATH.gguf", help="the embedded model; with --upstream the one to offer"
    )
    doctor.add_argument("--upstream", metavar="URL", help="base URL of a chat-completions server, ending in /v1")
    migrate = command("migrate", "upgrade the database, after a backup")
    migrate.add_argument("--check", action="store_true", help="only say whether there is something to do (status 1)")
    export = command("export", "write all stored responses to a file, one JSON object per line")
    export.add_argument("file", type=Path, metavar="FILE.jsonl")
    purge = command("purge", "delete stored responses; those that continue them keep working")
    purge.add_argument("--user", help="of requests that named this user or safety_identifier")
    purge.add_argument("--key", metavar="ID", help="made with this key, key_…")
    purge.add_argument("--before", metavar="DATE", help="created before this day or time, such as 2026-01-31")
    purge.add_argument("--all", action="store_true", help="all there are")
    purge.add_argument(
        "--conversations", action="store_true", help="with --before or --all: conversations not used since, too"
    )


def _serve(options: Mapping[str, Any]) -> int:
    flags = dict(options)
    config = load(flags, os.environ, flags.pop("config"))
    logs.set_up(config.log_format, os.environ.get("ANTIPHON_LOG", "WARNING"))
    from antiphon.cli.serve import ServeFailed, serve  # brings the whole server in

    try:
        with _listening(config) as listener:
            serve(config, listener)
    except (ServeFailed, OSError) as error:
        print(f"antiphon: {error}", file=sys.stderr)
        return EXIT_FAILED
    return 0


def _listening(config: Config) -> socket.socket:
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((config.host, config.port))
    except OSError as error:
        listener.close()
        raise OSError(f"cannot listen on {config.host}:{config.port}: {error.strerror}") from error
    return listener


def _models(options: Mapping[str, Any]) -> int:
    from antiphon.models.embedded import catalogue, download

    entries = catalogue.load()
    if options["fetch"] is None:
        for entry in entries:
            state = "fetched" if download.cached(entry) else "not fetched"
            line = f"{entry.name:32} {catalogue.size(entry.bytes):>8}  {entry.context_tokens:>6} tokens"
            print(f"{line}  {entry.licence:12} {state}")
        return 0
    name: str = options["name"] or ""
    entry = catalogue.find(entries, name)
    if entry is None:
        wrong = f"there is no model {name!r}" if name else "which model?"
        raise ConfigError(f"{wrong} (there are {', '.join(entry.name for entry in entries)})")
    try:
        print(download.fetch(entry))
    except download.FetchFailed as error:
        print(f"antiphon: {error}", file=sys.stderr)
        return EXIT_FAILED
    return 0


def _check_stream(options: Mapping[str, Any]) -> int:
    from antiphon.cli.check_stream import check_stream

    try:
        body = sys.stdin.buffer.read() if options["file"] == "-" else Path(options["file"]).read_bytes()
    except OSError as error:
        raise ConfigError(f"{options['file']}: {error.strerror}") from error
    report = check_stream(body)
    for finding in report.findings:
        print(finding)
    print(f"{report.events} events, {len(report.findings)} findings")
    return EXIT_FAILED if report.findings else 0


def _config(options: Mapping[str, Any]) -> Config:
    flags = {name: value for name, value in options.items() if name in Config.__dataclass_fields__}
    return load(flags, os.environ, options["config"])


def _doctor(options: Mapping[str, Any]) -> int:
    from antiphon.cli.doctor import examine

    failed = False
    for finding in examine(_config(options)):
        print(finding, flush=True)
        failed |= finding.level == "FAIL"
    return EXIT_FAILED if failed else 0


def _migrate(options: Mapping[str, Any]) -> int:
    from antiphon.cli import maintenance as upkeep

    data = _config(options).data
    if options["check"]:
        current = upkeep.is_current(data)
        print("The database is up to date." if current else "The database can be upgraded: antiphon migrate")
        return 0 if current else EXIT_FAILED
    done = upkeep.migrate(data)
    if done.backup:
        print(f"The database was upgraded from schema {done.found}; a copy of it is {done.backup}")
    if done.rebuilt:
        print("The database was rebuilt, so that it gives free space back.")
    if not (done.backup or done.rebuilt):
        print("The database is up to date.")
    return 0


def _export(options: Mapping[str, Any]) -> int:
    from antiphon.cli import maintenance as upkeep

    count = upkeep.export(_config(options).data, options["file"])
    print(f"{count} responses written to {options['file']}")
    return 0


def _purge(options: Mapping[str, Any]) -> int:
    from antiphon.cli import maintenance as upkeep
    from antiphon.store import Purge, Selection

    if not (options["user"] or options["key"] or options["before"] or options["all"]):
        raise ConfigError("purge what? Give --user, --key, --before, or --all")
    try:
        before = upkeep.moment(options["before"]) if options["before"] else None
    except ValueError as error:
        raise ConfigError(f"--before: {error}") from error
    if options["conversations"] and (options["user"] or options["key"]):
        raise ConfigError("--conversations: of a conversation neither its users nor its keys are known")
    data = _config(options).data
    selection = Selection(before=before, user=options["user"], key_id=options["key"])
    purged = upkeep.purge(data, Purge(selection, options["conversations"]))
    print(f"{purged.responses} responses deleted")
    if options["conversations"]:
        print(f"{purged.conversations} conversations deleted")
    if not purged.scrubbed:
        print(
            "What was deleted may still be read in the database's files, since another program reads it: once that"
            " is over, run the command again.",
            file=sys.stderr,
        )
    for copy in upkeep.backups(data):
        print(f"{copy} was made by an upgrade, and holds what there was then.", file=sys.stderr)
    return 0


def _upkeep(command: Callable[[Mapping[str, Any]], int]) -> Callable[[Mapping[str, Any]], int]:
    """The command, with what a store or a disk refuses told to people."""

    def told(options: Mapping[str, Any]) -> int:
        from antiphon.store import StoreUnavailable

        try:
            return command(options)
        except (StoreUnavailable, OSError) as error:
            print(f"antiphon: {error}", file=sys.stderr)
            return EXIT_FAILED

    return told


COMMANDS: dict[str, Callable[[Mapping[str, Any]], int]] = {
    "serve": _serve,
    "agent": agent.run,
    "files": cli_files.run_files,
    "search": cli_files.run_search,
    "run": cli_run.run,
    "keys": cli_keys.run,
    "webhooks": _upkeep(cli_webhooks.run),
    "models": _models,
    "check-stream": _check_stream,
    "doctor": _doctor,
    "migrate": _upkeep(_migrate),
    "export": _upkeep(_export),
    "purge": _upkeep(_purge),
}
