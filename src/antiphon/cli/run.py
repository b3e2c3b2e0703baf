"""``antiphon run codex``: the user's own Codex CLI on a server of this machine, which is started where none runs."""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from antiphon.config import Config, ConfigError, load

KEY: Final = "ANTIPHON_API_KEY"
"""The variable with the caller's key, which Codex is told to send."""
_START_S: Final = 3600.0  # a model may have to be fetched
_ANSWER_S: Final = 30.0
_POLL_S: Final = 0.2
_STOP_S: Final = 15.0
_ANSWER_BYTES_MAX: Final = 16 * 1024 * 1024


class ServerUnusable(ConfigError):
    """The server does not start, or does not say what models it has; the text says why."""


def add_parser(commands: Any) -> None:
    """Add ``run`` to the commands of an ``argparse`` parser."""
    run: argparse.ArgumentParser = commands.add_parser(
        "run", help="run an agent of yours, codex, on a server that is found or started"
    )
    run.add_argument("--config", type=Path, help="TOML file of the server's settings")
    run.add_argument("--data", type=Path, metavar="DIR", help="folder of the database: whose server it is")
    run.add_argument("--url", help="a server to use, ending in /v1")
    run.add_argument("--upstream", metavar="URL", help="to start: base URL of a chat-completions server")
    run.add_argument("--model", metavar="NAME", help="the model to ask; the server's first")
    run.add_argument("program", choices=("codex",), help="what to run")
    run.add_argument("arguments", nargs=argparse.REMAINDER, metavar="ARGS", help="arguments of its own")


def run(options: Mapping[str, Any]) -> int:
    """Runs it to its end; returns its exit status.

    Raises:
        ConfigError: Codex is not installed, or there is no server and none can be started.
    """
    codex = shutil.which("codex")
    if codex is None:
        raise ConfigError("codex is not installed: npm install -g @openai/codex")
    with _stop_on_signal(), _server(options) as (url, wanted):
        model = wanted or _first_model(url)
        environ = {KEY: "none", **os.environ}
        return _wait_for([codex, *codex_settings(url, model), *options["arguments"]], environ)


def codex_settings(url: str, model: str) -> Sequence[str]:
    """The flags that have Codex use the server at ``url``, and nothing of the user's own settings for another."""
    provider = {
        "name": "Antiphon",
        "base_url": url,
        "wire_api": "responses",
        "env_key": KEY,
        "model_catalog_url": f"{url}/models",
    }
    # A JSON string is a TOML string too.
    table = ", ".join(f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in provider.items())
    settings = {
        "model": json.dumps(model, ensure_ascii=False),
        "model_provider": '"antiphon"',
        "model_providers.antiphon": f"{{{table}}}",
    }
    return [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]


def _wait_for(command: Sequence[str], environ: Mapping[str, str]) -> int:
    """Waits for a program that owns the terminal: Ctrl-C goes to it, not to us."""
    process = subprocess.Popen(command, env=environ)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return process.wait()
    finally:
        signal.signal(signal.SIGINT, before)
        if process.poll() is None:
            process.terminate()
            process.wait()


@contextlib.contextmanager
def _stop_on_signal() -> Generator[None]:
    """SIGTERM also stops what was started here."""

    def stop(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _server(options: Mapping[str, Any]) -> Generator[tuple[str, str]]:
    """A server, named, or found by its folder, or started for this alone: its URL, and the model to ask it for."""
    if options["url"]:
        yield options["url"].rstrip("/"), options["model"] or ""
        return
    flags = {name: options[name] for name in ("data", "upstream") if options[name]}
    config = load(flags, os.environ, options["config"])
    if (found := _owner_url(config)) is not None:
        yield found, options["model"] or ""
        return
    # The embedded model is the one that was wanted, under its real name.
    embedded = not config.upstream
    with _start_server(config, options, "model" if embedded else "upstream") as url:
        yield url, "" if embedded else options["model"] or ""


def _owner_url(config: Config) -> str | None:
    from antiphon.store.sqlite import owner_of

    owner = owner_of(config.data) if config.store == "sqlite" else None
    if owner is None:
        return None
    if owner.socket or not owner.url:
        raise ServerUnusable(f"run: {config.data} is in use by {owner}, not by a server; --data names another")
    return owner.url


@contextlib.contextmanager
def _start_server(config: Config, options: Mapping[str, Any], *passed: str) -> Generator[str]:
    """A server of its own, until this ends; it is given the flags ``passed``, besides those of every server."""
    port = _free_port()
    given = [(name, str(options[name])) for name in ("config", "data", *passed) if options[name]]
    flags = [f"--{name}={value}" for name, value in given]
    command = (sys.executable, "-m", "antiphon", "serve", *flags, "--host", "127.0.0.1", "--port", str(port))
    config.data.mkdir(parents=True, exist_ok=True)
    log = config.data / "run.log"
    url = f"http://127.0.0.1:{port}/v1"
    print(f"antiphon: starting a server; its log is {log}", file=sys.stderr)
    with log.open("wb") as out:
        # A session of its own: Ctrl-C is for the program in the terminal.
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
    try:
        _await_start(server, port, log)
        yield url
    finally:
        server.terminate()
        try:
            server.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _await_start(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Returns once it listens; until then the user reads its log, for a model may be on its way.

    Raises:
        ServerUnusable: it ended, or takes too long.
    """
    ends_at = time.monotonic() + _START_S
    with log.open("rb") as output:
        while time.monotonic() < ends_at:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), _ANSWER_S):
                return
            sys.stderr.write(output.read().decode(errors="replace"))
            sys.stderr.flush()
            if server.poll() is not None:
                raise ServerUnusable(f"run: the server did not start; {log} says why")
            time.sleep(_POLL_S)
    raise ServerUnusable(f"run: the server did not start in {_START_S:.0f} s; {log} may say why")


def _first_model(url: str) -> str:
    """The name of the server's first model.

    Raises:
        ServerUnusable: it does not say.
    """
    place = urlsplit(url)
    kind = http.client.HTTPSConnection if place.scheme == "https" else http.client.HTTPConnection
    connection = kind(place.hostname or "", place.port, timeout=_ANSWER_S)
    headers = {"Authorization": f"Bearer {os.environ.get(KEY, 'none')}"}
    try:
        connection.request("GET", f"{place.path}/models", headers=headers)
        answer = connection.getresponse()
        body = json.loads(answer.read(_ANSWER_BYTES_MAX))
        if answer.status == http.client.UNAUTHORIZED:
            raise ServerUnusable(f"run: the server at {url} asks for a key: set {KEY}")
        if answer.status != http.client.OK:
            raise ServerUnusable(f"run: the server at {url} answers {answer.status}: {body['error']['message']}")
        return body["data"][0]["id"]
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError) as error:
        raise ServerUnusable(f"run: the server at {url} does not say what models it has ({error!r})") from error
    finally:
        connection.close()
