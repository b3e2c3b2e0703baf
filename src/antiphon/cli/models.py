"""``antiphon models``: the embedded models that can be had by name, listed or fetched."""

from __future__ import annotations

from typing import Any

from antiphon.cli.command import Options, fail
from antiphon.config import ConfigError


def add_parser(commands: Any) -> None:
    """Add ``models`` to the commands of an ``argparse`` parser."""
    models = commands.add_parser("models", help="list the embedded models, or fetch one")
    models.add_argument("fetch", nargs="?", choices=("fetch",), help="fetch a model now")
    models.add_argument("name", nargs="?", help="the model to fetch")


def run(options: Options) -> int:
    """List the models, or fetch one; returns the exit status.

    Raises:
        ConfigError: there is no model of that name.
    """
    return _list() if options["fetch"] is None else _fetch(options["name"] or "")


def _list() -> int:
    from antiphon.models.embedded import catalogue, download

    for entry in catalogue.load():
        state = "fetched" if download.find_cached(entry) else "not fetched"
        line = f"{entry.name:32} {catalogue.size(entry.bytes):>8}  {entry.context_tokens:>6} tokens"
        print(f"{line}  {entry.licence:12} {state:11}  tools: {entry.tools}")
    return 0


def _fetch(name: str) -> int:
    from antiphon.models.embedded import catalogue, download

    entries = catalogue.load()
    entry = catalogue.find(entries, name)
    if entry is None:
        wrong = f"unknown model {name!r}" if name else "specify a model to fetch"
        raise ConfigError(f"{wrong} (known models: {', '.join(entry.name for entry in entries)})")
    try:
        print(download.fetch(entry))
    except download.FetchFailed as error:
        return fail(error)
    return 0
