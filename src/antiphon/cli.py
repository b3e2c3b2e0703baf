"""The command line: ``antiphon serve``, ``antiphon keys``, ``antiphon models``, ``antiphon check-stream``."""

from __future__ import annotations

import argparse
import logging
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from antiphon import __version__, cli_keys
from antiphon.config import Config, ConfigError, load

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
    serve.add_argument("--strict", action="store_true", default=None, help="refuse undocumented parameters")
    serve.add_argument("--model", metavar="NAME|PATH.gguf", help="the embedded model; with --upstream the one to offer")
    serve.add_argument("--threads", type=int, help="threads the embedded model computes with (all cores but one)")
    serve.add_argument("--upstream", metavar="URL", help="base URL of a chat-completions server, ending in /v1")
    serve.add_argument("--upstream-key", metavar="KEY", help="its bearer token (better: ANTIPHON_UPSTREAM_KEY)")
    serve.add_argument("--upstream-sees", action="store_true", default=None, help="its models accept images")

    cli_keys.add_parser(commands)

    models = commands.add_parser("models", help="list the embedded models, or fetch one")
    models.add_argument("fetch", nargs="?", choices=("fetch",), help="fetch a model now")
    models.add_argument("name", nargs="?", help="the model to fetch")

    check = commands.add_parser("check-stream", help="check a recorded event stream against the grammar")
    check.add_argument("file", help="file of a text/event-stream body, or - for standard input")
    return parser


def _serve(options: Mapping[str, Any]) -> int:
    flags = dict(options)
    config = load(flags, os.environ, flags.pop("config"))
    logging.basicConfig(level=os.environ.get("ANTIPHON_LOG", "WARNING"), format="%(levelname)s %(name)s: %(message)s")
    from antiphon.serve import ServeFailed, serve  # brings the whole server in

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
    from antiphon.models import catalogue, fetch

    entries = catalogue.load()
    if options["fetch"] is None:
        for entry in entries:
            state = "fetched" if fetch.cached(entry) else "not fetched"
            line = f"{entry.name:32} {catalogue.size(entry.bytes):>8}  {entry.context_tokens:>6} tokens"
            print(f"{line}  {entry.licence:12} {state}")
        return 0
    entry = catalogue.find(entries, options["name"] or "")
    if entry is None:
        raise ConfigError(f"no model {options['name']!r}; there are {', '.join(e.name for e in entries)}")
    try:
        print(fetch.fetch(entry))
    except fetch.FetchFailed as error:
        print(f"antiphon: {error}", file=sys.stderr)
        return EXIT_FAILED
    return 0


def _check_stream(options: Mapping[str, Any]) -> int:
    from antiphon.testing.check_stream import check_stream

    try:
        body = sys.stdin.buffer.read() if options["file"] == "-" else Path(options["file"]).read_bytes()
    except OSError as error:
        raise ConfigError(f"{options['file']}: {error.strerror}") from error
    report = check_stream(body)
    for finding in report.findings:
        print(finding)
    print(f"{report.events} events, {len(report.findings)} findings")
    return EXIT_FAILED if report.findings else 0


COMMANDS = {"serve": _serve, "keys": cli_keys.run, "models": _models, "check-stream": _check_stream}
