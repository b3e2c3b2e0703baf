"""``antiphon serve``: the server's settings, and the socket it listens on."""

from __future__ import annotations

import argparse
import os
import socket
from pathlib import Path
from typing import Any

from antiphon.cli.command import Options, fail
from antiphon.config import Config, load
from antiphon.telemetry import logs


def add_parser(commands: Any) -> None:
    """Add ``serve`` to the commands of an ``argparse`` parser."""
    serve: argparse.ArgumentParser = commands.add_parser("serve", help="start the server")
    serve.add_argument("--config", type=Path, help="TOML file of settings")
    serve.add_argument("--host", help="address to listen on (127.0.0.1)")
    serve.add_argument("--port", type=int, help="port to listen on (8484; 0 takes a free one)")
    serve.add_argument("--data", type=Path, metavar="DIR", help="folder of the database and the logs")
    serve.add_argument("--store", choices=("sqlite", "memory"), help="where responses are kept (sqlite)")
    serve.add_argument("--retention-days", type=float, help="days that responses are kept (30; 0 means forever)")
    serve.add_argument("--store-bytes-max", type=int, help="size limit; the oldest responses go first (unlimited)")
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


def run(options: Options) -> int:
    """Serve until a signal stops the server; returns the exit status."""
    flags = dict(options)
    config = load(flags, os.environ, flags.pop("config"))
    logs.set_up(config.log_format, os.environ.get("ANTIPHON_LOG", "WARNING"))
    from antiphon.cli.server import ServeFailed, serve  # imports the whole server

    try:
        with _listen(config) as listener:
            serve(config, listener)
    except (ServeFailed, OSError) as error:
        return fail(error)
    return 0


def _listen(config: Config) -> socket.socket:
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((config.host, config.port))
    except OSError as error:
        listener.close()
        raise OSError(f"cannot listen on {config.host}:{config.port}: {error.strerror}") from error
    return listener
