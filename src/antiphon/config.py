"""What can be set, and where it comes from: flags over environment (``ANTIPHON_*``) over the TOML file."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from antiphon.webhooks.outbox import Endpoint

LOOPBACK = {"127.0.0.1", "::1", "localhost"}
SECRET = {"upstream_key", "webhooks"}
"""Settings whose values no message repeats."""


class ConfigError(Exception):
    """A setting that cannot be used; the text names it and says what would do."""


def default_data() -> Path:
    """Where responses are kept when nothing else is said."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "antiphon"


@dataclass(frozen=True, slots=True)
class Config:
    """A server's settings.

    Attributes:
        host: address to listen on; other than loopback only once there are keys.
        port: TCP port; 0 takes a free one.
        data: folder of the database and the logs.
        store: ``sqlite`` keeps responses in ``data``; ``memory`` forgets them at the end.
        strict: whether an undocumented parameter is an error instead of being ignored and named in a header.
        model: an embedded model's catalogue name or the path of a ``.gguf`` file; empty chooses one that fits here.
            With ``upstream``: the one model of it to offer.
        threads: threads the embedded model computes with; 0 leaves one core to everything else, for a model whose
            threads wait for a core is many times slower than one with fewer threads.
        upstream: base URL of a chat-completions server, such as ``http://127.0.0.1:8000/v1``; empty for the embedded
            model.
        upstream_key: bearer token for ``upstream``. Never logged.
        upstream_sees: whether the upstream's models accept images.
        upstream_options: what is known about its models, as fields of ``antiphon.models.chat.config.ChatConfig``, such
            as ``thinks``, ``forced_calls`` or ``extra``.
        aliases: model names of ours for names of the upstream's.
        profile: ``openresponses`` answers every request in the form of Open Responses; ``openai`` only those that
            carry the header ``OpenResponses-Version``.
        unsupported_images: what becomes of an image for a model that cannot see: ``refuse`` the request, or put a
            ``note`` in its place that says so.
        retention_days: how long a stored response is kept; 0 for ever.
        store_bytes_max: bytes that responses and conversations may take before the oldest go; 0 without end, but for
            the bound that a store in memory has.
        log_format: the server's log as ``text`` for people or ``json``, a line each.
        body_bytes_max: largest request body, and largest frame on a WebSocket.
        socket_life_s: how long a WebSocket connection may last.
        sockets_max: how many WebSocket connections may be open; one more is refused with 429.
        upstream_connections_max: connections to the upstream at once.
        background_running_max: how many background responses are worked on at the same time.
        background_attempts_max: how often one is taken up that did not come to its end, because the server died.
        background_queued_max: how many may wait; one more is refused with 429.
        background_owner_max: how many of one project may wait.
        webhooks: who is told of background responses that ended. Their secrets are never logged.
        drain_s: how long open requests, and tools at work, may go on after a signal to stop.
    """

    host: str = "127.0.0.1"
    port: int = 8484
    data: Path = field(default_factory=default_data)
    store: Literal["sqlite", "memory"] = "sqlite"
    strict: bool = False
    model: str = ""
    threads: int = 0
    upstream: str = ""
    upstream_key: str = field(default="", repr=False)
    upstream_sees: bool = False
    upstream_options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    aliases: Mapping[str, str] = field(default_factory=dict[str, str])
    profile: Literal["openai", "openresponses"] = "openai"
    unsupported_images: Literal["refuse", "note"] = "refuse"
    retention_days: float = 30.0
    store_bytes_max: int = 0
    log_format: Literal["text", "json"] = "text"
    body_bytes_max: int = 64 * 1024 * 1024
    socket_life_s: float = 3600.0
    sockets_max: int = 256
    upstream_connections_max: int = 1000
    background_running_max: int = 8
    background_attempts_max: int = 3
    background_queued_max: int = 1000
    background_owner_max: int = 250
    webhooks: Sequence[Endpoint] = ()
    drain_s: float = 10.0

    def __post_init__(self) -> None:
        if self.retention_days < 0 or self.store_bytes_max < 0:
            raise ConfigError("retention_days and store_bytes_max cannot be negative; 0 is without end")
        if self.upstream and not self.upstream.startswith(("http://", "https://")):
            raise ConfigError(f"upstream {self.upstream!r} is not an http(s) URL")

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return self.host in LOOPBACK


def load(flags: Mapping[str, Any], environ: Mapping[str, str], file: Path | None = None) -> Config:
    """Put a Config together; a flag that is None was not given.

    Raises:
        ConfigError: an unknown or unusable setting; the text names it and where it came from.
    """
    settings: dict[str, Any] = {}
    if file is not None:
        settings |= {name: _parsed(name, value, str(file)) for name, value in _read(file).items()}
    for entry in fields(Config):
        variable = f"ANTIPHON_{entry.name.upper()}"
        if environ.get(variable):
            settings[entry.name] = _parsed(entry.name, environ[variable], variable)
    settings |= {name: _parsed(name, value, f"--{name}") for name, value in flags.items() if value is not None}
    return Config(**settings)


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{file}: {error}") from error


def _parsed(name: str, value: Any, source: str) -> Any:
    known = {entry.name: str(entry.type) for entry in fields(Config)}
    if name not in known:
        raise ConfigError(f"{source}: there is no setting {name!r}; there are {', '.join(sorted(known))}")
    try:
        return _convert(known[name], value)
    except (ValueError, TypeError) as error:
        wrong = f"{name} cannot be used" if name in SECRET else f"{name} cannot be {value!r}"
        raise ConfigError(f"{source}: {wrong} ({error})") from error


def _convert(kind: str, value: Any) -> Any:
    match kind:
        case "int":
            return int(value)
        case "float":
            return float(value)
        case "bool":
            return _bool(value)
        case "Path":
            return Path(value).expanduser()
        case "str":
            return str(value)
        case "Mapping[str, str]":
            return _mapping(value)
        case "Mapping[str, Any]":
            return dict(json.loads(value) if isinstance(value, str) else value)
        case "Sequence[Endpoint]":
            from antiphon.webhooks.outbox import endpoints  # a client without an engine does without

            return endpoints(value)
        case _:
            return _one_of(re.findall(r"['\"](\w+)['\"]", kind), value)


def _one_of(words: Sequence[str], value: Any) -> Any:
    """One of a Literal's words."""
    if value not in words:
        raise ValueError(f"one of {', '.join(words)}")
    return value


def _bool(value: Any) -> bool:
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if str(value).lower() not in words:
        raise ValueError("true or false")
    return words[str(value).lower()]


def _mapping(value: Any) -> dict[str, str]:
    """A TOML table, or ``name=real,name=real`` from the environment."""
    if not isinstance(value, str):
        return {str(name): str(real) for name, real in dict(value).items()}
    return {name: real for name, _, real in (pair.partition("=") for pair in value.split(",") if pair)}
