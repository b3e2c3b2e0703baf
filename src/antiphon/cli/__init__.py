"""The command line: one module a command group. What a command needs is imported when it runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from antiphon import __version__
from antiphon.cli import agent, check_stream, data_folder, files, keys, models, run, serve, webhooks
from antiphon.cli.command import EXIT_MISUSED, Command, report_errors
from antiphon.config import ConfigError

COMMANDS: dict[str, Command] = {
    "serve": serve.run,
    "agent": agent.run,
    "files": files.run_files,
    "search": files.run_search,
    "run": run.run,
    "keys": report_errors(keys.run),
    "webhooks": report_errors(webhooks.run),
    "models": models.run,
    "check-stream": check_stream.run,
    "doctor": data_folder.run_doctor,
    "migrate": report_errors(data_folder.run_migrate),
    "export": report_errors(data_folder.run_export),
    "purge": report_errors(data_folder.run_purge),
}


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
    for group in (serve, agent, files, run, keys, webhooks, models, check_stream):
        group.add_parser(commands)
    data_folder.add_parsers(commands)
    return parser
