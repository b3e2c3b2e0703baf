"""What can be set, and where it comes from: flags over environment (``ANTIPHON_*``) over the TOML file."""

from __future__ import annotations

import json
import logging
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from antiphon.access.pricing import Price
    from antiphon.webhooks.outbox import Endpoint

LOOPBACK = {"127.0.0.1", "::1", "localhost"}
SECRET = {"sealing_keys", "upstream_key", "webhooks", "embedding_key", "rerank_key", "blobs_options"}
"""Settings whose values no message repeats."""
RENAMED = {
    "background_owner_max": "background_queued_per_project_max",
    "socket_life_s": "websocket_lifetime_s",
    "sockets_max": "websockets_max",
    "upstream_sees": "upstream_vision",
}
"""Earlier names of settings, which still work, with a warning."""

_ORIGIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/\s?#]+")
log = logging.getLogger("antiphon.config")


def hide_password(url: str) -> str:
    """The URL as it may be shown: with neither the user, the password nor the query that it carries."""
    scheme, separator, rest = url.rpartition("://")
    authority, slash, path = rest.partition("/")
    host = authority.rpartition("@")[2] if "@" in authority else authority
    shown = f"{'***@' if host != authority else ''}{host}{slash}{path}"
    return f"{scheme}{separator}{shown.partition('?')[0]}{'?***' if '?' in shown else ''}"


class ConfigError(Exception):
    """A setting that cannot be used; the text names it and says what would do."""


def _refuse_url(url: str, key: str) -> None:
    """Refuse an upstream's URL that could not be asked anything."""
    shown = hide_password(url)
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"upstream {shown!r} is not an http(s) URL")
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable:
        # Without the cause, which may quote the URL.
        raise ConfigError(f"upstream {shown!r} names no host, or an invalid port") from None
    if key and "@" in url.split("/")[2]:
        raise ConfigError(f"upstream {shown!r} holds a user and a password, and upstream_key is set: use one of them")


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
        upstreams: base URLs of more servers with the same models: requests that share a context go to the same one.
        upstream_key: bearer token for all of them. Never logged.
        upstream_vision: whether images are shown to the upstream's models. ``auto`` passes them on, and what the
            upstream says of them comes back; ``false`` handles them as ``unsupported_images`` says.
        tool_help: how calls of weak models are helped. ``read``: those written as plain text are recognised;
            ``repair``: those that do not fit are mended, or asked for again, before anybody sees them. ``auto`` reads
            on upstreams, and repairs on the embedded model.
        upstream_options: what is known about its models, as fields of ``antiphon.models.chat.config.ChatConfig``, such
            as ``reasoning_format``, ``forced_calls`` or ``extra``.
        aliases: model names of ours for names of the upstream's.
        model_fallback: the upstream's model that answers to names which it does not list; empty refuses them.
        profile: ``openresponses`` answers every request in the form of Open Responses; ``openai`` only those that
            carry the header ``OpenResponses-Version``.
        unsupported_images: what becomes of an image for a model that cannot see: ``refuse`` the request, or put a
            ``note`` in its place that says so.
        sealing_keys: secrets of 32 characters or more, with which reasoning and compacted conversations are sealed that
            clients carry: the first one seals, all of them open. Empty: one is made and kept in ``data``. Never logged.
        retention_days: how long a stored response is kept; 0 for ever.
        store_bytes_max: bytes that responses and conversations may take before the oldest go; 0 means unlimited, but
            for the bound that a store in memory has.
        log_format: the server's log as ``text`` for people or ``json``, a line each.
        body_bytes_max: largest request body, and largest frame on a WebSocket.
        keep_alive_s: how long an idle HTTP connection stays open.
        heartbeat_s: how long a stream may be silent before it repeats ``response.in_progress``: agents count events,
            and no comments; 0 for never.
        cors_origins: the origins whose pages a browser may let use this server, besides those of this machine; ``*``
            for all.
        connections_max: connections of clients at once; 0 for what the system's limit of open files leaves room for.
            One more takes the place of the one that has been idle longest, or is refused with 503.
        connections_per_address_max: how many of them from one address; 0 for half. This machine's own are not counted.
        bodies_bytes_max: what all requests' bodies may take at once; one more is refused with 503.
        websocket_lifetime_s: how long a WebSocket connection may last.
        websockets_max: how many WebSocket connections may be open; one more is refused with 429.
        upstream_connections_max: connections to the upstream at once.
        background_running_max: how many background responses are worked on at the same time.
        background_attempts_max: how often one is taken up that did not come to its end, because the server died.
        background_queued_max: how many may wait; one more is refused with 429.
        background_queued_per_project_max: how many of one project may wait.
        blobs: where the bytes of files are: a URL that fsspec reads, such as ``s3://bucket/folder``; empty for a folder
            in ``data``.
        blobs_options: what fsspec is given for it, such as ``endpoint_url``, ``key`` and ``secret``. Never logged.
        file_bytes_max: largest file; upload_bytes_max: largest file that comes in parts.
        input_file_bytes_max: largest file that a request shows its model (``input_file``).
        file_urls: whether a model is shown files from URLs: of ``public`` addresses alone, of ``private`` ones too,
            which lets callers read what only this server can reach, or not at all (``off``).
        ingestion_workers: how many files are taken into vector stores side by side.
        embedding: what new vector stores are searched by besides words: ``minilm`` in this process, which the extra
            ``embed`` brings, ``upstream`` by ``embedding_url``, or ``none``. ``auto``: the upstream where there is one,
            else ``minilm`` where it is installed.
        embedding_url: base URL of a server with ``/v1/embeddings``.
        embedding_model: its model.
        embedding_key: bearer token for it. Never logged.
        rerank_url: base URL of a server with ``/rerank`` (as vLLM, TEI, llama.cpp and Cohere have it), which scores
            the best hits of a search anew; empty for none.
        rerank_model: its model; rerank_key: bearer token for it, never logged.
        rewrite_model: the model that ``rewrite_query`` asks; empty for the first one that there is.
        default_vector_store: the id or name of the vector store that ``file_search`` looks in when a request names
            none.
        citations: how ``file_search`` finds what an answer cites: ``markers`` that the model was asked for, ``overlap``
            of words, ``auto`` for words until the model has written a marker, or ``off``.
        webhooks: who is told of background responses that ended. Their secrets are never logged.
        prices: of a million tokens, by model; ``*`` for all others. What responses cost is part of the usage.
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
    upstreams: Sequence[str] = ()
    upstream_key: str = field(default="", repr=False)
    upstream_vision: Literal["auto", "true", "false"] = "auto"
    tool_help: Literal["auto", "off", "read", "repair"] = "auto"
    upstream_options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    aliases: Mapping[str, str] = field(default_factory=dict[str, str])
    model_fallback: str = ""
    profile: Literal["openai", "openresponses"] = "openai"
    unsupported_images: Literal["refuse", "note"] = "refuse"
    sealing_keys: Sequence[str] = field(default=(), repr=False)
    retention_days: float = 30.0
    store_bytes_max: int = 0
    log_format: Literal["text", "json"] = "text"
    body_bytes_max: int = 64 * 1024 * 1024
    keep_alive_s: int = 75
    heartbeat_s: float = 25.0
    cors_origins: Sequence[str] = ()
    connections_max: int = 0
    connections_per_address_max: int = 0
    bodies_bytes_max: int = 256 * 1024 * 1024
    websocket_lifetime_s: float = 3600.0
    websockets_max: int = 256
    upstream_connections_max: int = 1000
    background_running_max: int = 8
    background_attempts_max: int = 3
    background_queued_max: int = 1000
    background_queued_per_project_max: int = 250
    blobs: str = ""
    blobs_options: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)
    file_bytes_max: int = 512 * 1024 * 1024
    upload_bytes_max: int = 8 * 1024 * 1024 * 1024
    input_file_bytes_max: int = 50 * 1024 * 1024
    file_urls: Literal["public", "private", "off"] = "public"
    ingestion_workers: int = 1
    embedding: Literal["auto", "minilm", "upstream", "none"] = "auto"
    embedding_url: str = ""
    embedding_model: str = ""
    embedding_key: str = field(default="", repr=False)
    rerank_url: str = ""
    rerank_model: str = ""
    rerank_key: str = field(default="", repr=False)
    rewrite_model: str = ""
    default_vector_store: str = ""
    citations: Literal["auto", "markers", "overlap", "off"] = "auto"
    webhooks: Sequence[Endpoint] = ()
    prices: Mapping[str, Price] = field(default_factory=dict[str, "Price"])
    drain_s: float = 10.0

    def __post_init__(self) -> None:
        for each in fields(self):
            if isinstance(number := getattr(self, each.name), int | float) and number < 0:
                raise ConfigError(f"{each.name} cannot be negative")
        self._refuse_origins()
        if self.upstreams and not self.upstream:
            raise ConfigError("upstreams needs upstream to be set too")
        for url in self.upstream_urls:
            _refuse_url(url, self.upstream_key)

    def _refuse_origins(self) -> None:
        for origin in self.cors_origins:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                text = (
                    f"cors_origins: {origin!r} is no origin; write it as browsers do, such as https://chat.example.org"
                )
                raise ConfigError(text)

    @property
    def upstream_urls(self) -> Sequence[str]:
        """All servers of models, each once; none where the model is embedded."""
        return list(dict.fromkeys(filter(None, (self.upstream, *self.upstreams))))

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

    def take(name: str, value: Any, source: str) -> None:
        current = RENAMED.get(name, name)
        if current != name:
            log.warning("%s: the setting %s is called %s now", source, name, current)
        settings[current] = _read_value(current, value, source)

    if file is not None:
        for name, value in _read(file).items():
            take(name, value, str(file))
    for name in (*RENAMED, *_TYPES):
        variable = f"ANTIPHON_{name.upper()}"
        if environ.get(variable):
            take(name, environ[variable], variable)
    for name, value in flags.items():
        if value is not None:
            take(name, value, f"--{name}")
    return Config(**settings)


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{file}: {error}") from error


def _read_value(name: str, value: Any, source: str) -> Any:
    if name not in _TYPES:
        raise ConfigError(f"{source}: unknown setting {name!r}; known settings: {', '.join(sorted(_TYPES))}")
    try:
        return _convert(name, value)
    except (ValueError, TypeError) as error:
        wrong = f"{name} cannot be used" if name in SECRET else f"{name} cannot be {value!r}"
        raise ConfigError(f"{source}: {wrong} ({error})") from error


def _convert(name: str, value: Any) -> Any:
    kind = _TYPES[name]
    if name == "webhooks":
        from antiphon.webhooks.outbox import endpoints  # a client without an engine does without

        return endpoints(value)
    if name == "prices":
        from antiphon.access.pricing import read_prices

        return read_prices(value)
    if kind is bool or get_origin(kind) is Literal:
        return _choose(kind, value)
    if kind is Path:
        return Path(value).expanduser()
    if get_origin(kind) is not None and isinstance(value, str):
        value = _read_text(name, value)
    import msgspec  # a client that is told nothing does without

    converted = msgspec.convert(value, kind, strict=False)
    return tuple(url.rstrip("/") for url in converted) if name in ("cors_origins", "upstreams") else converted


def _read_text(name: str, text: str) -> Any:
    """What is more than a text, written as one: JSON, or short forms with commas for what is set often."""
    if text.lstrip().startswith(("[", "{")):
        return json.loads(text)
    if name == "aliases":
        return {name: real for name, _, real in (pair.partition("=") for pair in text.split(",") if pair)}
    if name in ("cors_origins", "upstreams", "sealing_keys"):
        return [each.strip() for each in text.split(",") if each.strip()]
    return json.loads(text)


_WORDS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def _choose(kind: Any, value: Any) -> Any:
    """A bool, or one of a Literal's words; TOML's ``true`` and ``false`` are words too."""
    word = str(value).lower()
    if kind is bool and word in _WORDS:
        return _WORDS[word]
    if word in get_args(kind):
        return word
    raise ValueError("one of " + ", ".join(get_args(kind)) if get_args(kind) else "true or false")


_TYPES = get_type_hints(Config, localns={"Endpoint": Any, "Price": Any})
"""What each setting is."""
