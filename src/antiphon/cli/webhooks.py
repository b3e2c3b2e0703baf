"""``antiphon webhooks``: the endpoints, the latest deliveries, new secrets. No other secret is shown."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from antiphon.cli.command import Options, add_settings, load_config
from antiphon.store.deliveries import Attempt, Delivery
from antiphon.store.sqlite import database_of, inspect
from antiphon.webhooks import outbox as webhooks
from antiphon.webhooks.outbox import EVENTS, Endpoint

DELIVERIES_MAX = 20
"""How many deliveries are listed."""


def add_parser(commands: Any) -> None:
    """Add ``webhooks`` to the commands of an ``argparse`` parser."""
    parser = commands.add_parser("webhooks", help="list the endpoints and the latest deliveries, or make a secret")
    parser.add_argument("secret", nargs="?", choices=("secret",), help="make a new secret and show it")
    add_settings(parser)


def run(options: Options) -> int:
    """Do what the command line says; returns the exit status.

    Raises:
        StoreUnavailable: the database cannot be read.
    """
    if options["secret"]:
        print(webhooks.new_secret())
        return 0
    config = load_config(options)
    for endpoint in config.webhooks:
        print(_endpoint(endpoint))
    if not config.webhooks:
        print("No endpoint is configured.")
    for delivery, attempts in inspect.read_recent_deliveries(database_of(config.data), DELIVERIES_MAX):
        print(f"\n{_delivery(delivery)}")
        for attempt in attempts:
            print(_attempt(attempt))
    return 0


def _endpoint(endpoint: Endpoint) -> str:
    events = "all events" if set(endpoint.events) == set(EVENTS) else " ".join(endpoint.events)
    project = "all projects" if endpoint.project is None else f"project {endpoint.project or 'default'}"
    secrets = f"{len(endpoint.keys)} secrets" if len(endpoint.keys) > 1 else "1 secret"
    private = "  private" if endpoint.private else ""
    return f"{webhooks.hide_query(endpoint.url)}  {events}  {project}  {secrets}{private}"


def _delivery(delivery: Delivery) -> str:
    status = delivery.status.replace("_", " ")
    due = f", next attempt {_time(delivery.due_at)}" if delivery.due_at is not None and delivery.attempts else ""
    why = f" ({delivery.outcome})" if delivery.status == "given_up" else ""
    line = f"{delivery.id}  {delivery.type}  {delivery.response_id}  {_time(delivery.created_at)}"
    return f"{line}\n  to {webhooks.hide_query(delivery.endpoint)}: {status}{why}{due}"


def _attempt(attempt: Attempt) -> str:
    return f"  {attempt.number:>2}. {_time(attempt.at)}  {attempt.outcome}"


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
