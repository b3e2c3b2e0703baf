"""``antiphon webhooks``: who is told, what became of the latest deliveries, new secrets. No other secret is shown."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from antiphon.config import load
from antiphon.store.deliveries import Attempt, Delivery
from antiphon.store.sqlite import database_of, inspect
from antiphon.webhooks import outbox as webhooks
from antiphon.webhooks.outbox import EVENTS, Endpoint

SHOWN = 20
"""How many deliveries are listed."""


def add_parser(commands: Any) -> None:
    """Add ``webhooks`` to the commands of an ``argparse`` parser."""
    parser = commands.add_parser("webhooks", help="list the endpoints and the latest deliveries, or make a secret")
    parser.add_argument("secret", nargs="?", choices=("secret",), help="make a new secret and show it")
    parser.add_argument("--config", type=Path, help="TOML file of settings")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of the database")


def run(options: Mapping[str, Any]) -> int:
    """Do what the command line says; returns the exit status.

    Raises:
        StoreUnavailable: the database cannot be read.
    """
    if options["secret"]:
        print(webhooks.fresh_secret())
        return 0
    config = load({"data": options["data"]}, os.environ, options["config"])
    for endpoint in config.webhooks:
        print(_endpoint(endpoint))
    if not config.webhooks:
        print("No endpoint is configured.")
    for delivery, attempts in inspect.read_recent_deliveries(database_of(config.data), SHOWN):
        print(f"\n{_delivery(delivery)}")
        for attempt in attempts:
            print(_attempt(attempt))
    return 0


def _endpoint(endpoint: Endpoint) -> str:
    events = "all events" if set(endpoint.events) == set(EVENTS) else " ".join(endpoint.events)
    project = "all projects" if endpoint.project is None else f"project {endpoint.project or 'default'}"
    secrets = f"{len(endpoint.keys)} secrets" if len(endpoint.keys) > 1 else "1 secret"
    private = "  private" if endpoint.private else ""
    return f"{webhooks.shown(endpoint.url)}  {events}  {project}  {secrets}{private}"


def _delivery(delivery: Delivery) -> str:
    status = delivery.status.replace("_", " ")
    due = f", next attempt {_time(delivery.due_at)}" if delivery.due_at is not None and delivery.attempts else ""
    why = f" ({delivery.outcome})" if delivery.status == "given_up" else ""
    told = f"{delivery.id}  {delivery.type}  {delivery.response_id}  {_time(delivery.created_at)}"
    return f"{told}\n  to {webhooks.shown(delivery.endpoint)}: {status}{why}{due}"


def _attempt(attempt: Attempt) -> str:
    return f"  {attempt.number:>2}. {_time(attempt.at)}  {attempt.outcome}"


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
