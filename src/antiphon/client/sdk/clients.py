"""The four names of the two clients: the official ones, which need no server."""

from __future__ import annotations

import inspect
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict

import httpx2
import openai

from antiphon.client.inprocess.host import Opener
from antiphon.client.inprocess.resolver import BASE_URL, EngineResolver, Server
from antiphon.client.inprocess.transport import AsyncInProcessClient, InProcessClient
from antiphon.client.inprocess.websocket import is_engine_websocket, redirect_websocket
from antiphon.client.sdk.mixin import AsyncClientMixin, ClientMixin
from antiphon.config import Config, load

if TYPE_CHECKING:
    from typing import Unpack

ConfigLike: TypeAlias = "Config | Mapping[str, Any] | str | os.PathLike[str]"

_NO_KEY = "in-process"
"""What is sent in a key's place where none is asked for; the official client wants to send one."""


class ClientOptions(TypedDict, total=False):
    """What both official clients take; see their documentation."""

    admin_api_key: str | None
    workload_identity: Any
    organization: str | None
    project: str | None
    webhook_secret: str | None
    provider: Any
    data_residency: Any
    websocket_base_url: str | httpx2.URL | None
    timeout: float | httpx2.Timeout | openai.NotGiven | None
    max_retries: int
    default_headers: Mapping[str, str] | None
    default_query: Mapping[str, object] | None
    _strict_response_validation: bool
    _enforce_credentials: bool


class OpenAI(ClientMixin):
    """The official client, over HTTP or with the whole engine in this process.

    With ``base_url`` or ``OPENAI_BASE_URL`` it is the official client and what ``ClientMixin`` adds. Else the engine
    is opened at the first request, in a thread of this process, with the settings of ``antiphon serve``: no server, no
    port, no key. Clients of one folder share one engine; where a server owns that folder already, it is asked instead.

    Args:
        data: the folder of the database and the logs; the server's default folder when not given.
        embedded: the embedded model, as the name that ``antiphon models`` shows or the path of a ``.gguf`` file; one
            that fits this machine when not given.
        config: other settings: a ``Config`` as it is, a mapping of settings, or the path of a TOML file; the last two
            together with ``ANTIPHON_*`` variables.
        engine: opens the engine in place of ``antiphon.assembly.open_engine``; for tests, and engines of your own.
        options: everything that the official client takes.

    Raises:
        antiphon.config.ConfigError: a setting that does not exist or cannot be used.
        TypeError: ``data``, ``embedded``, ``config`` or ``engine`` beside ``base_url``, or ``http_client`` without it.
    """

    def __init__(
        self,
        *,
        api_key: str | Callable[[], str] | None = None,
        base_url: str | httpx2.URL | openai.NotGiven | None = None,
        data: str | os.PathLike[str] | None = None,
        embedded: str | os.PathLike[str] | None = None,
        config: ConfigLike | None = None,
        engine: Opener | None = None,
        http_client: httpx2.Client | None = None,
        **options: Unpack[ClientOptions],
    ) -> None:
        resolver = _resolver(base_url, http_client, options, data=data, embedded=embedded, config=config, engine=engine)
        if resolver is not None:
            base_url, api_key = BASE_URL, api_key or _default_key(options)
            http_client = InProcessClient(resolver)
        self._resolver = resolver or (http_client.resolver if isinstance(http_client, InProcessClient) else None)
        super().__init__(api_key=api_key, base_url=base_url, http_client=http_client, **options)

    def _prepare_options(self, options: Any) -> Any:
        options = super()._prepare_options(options)
        if self._resolver is not None and is_engine_websocket(options):
            where = self._resolver.resolve()
            return redirect_websocket(options, where) if isinstance(where, Server) else options
        return options


class AsyncOpenAI(AsyncClientMixin):
    """The asynchronous client; everything else as ``OpenAI``. It may be used in any event loop, and in several."""

    def __init__(
        self,
        *,
        api_key: str | Callable[[], Awaitable[str]] | None = None,
        base_url: str | httpx2.URL | openai.NotGiven | None = None,
        data: str | os.PathLike[str] | None = None,
        embedded: str | os.PathLike[str] | None = None,
        config: ConfigLike | None = None,
        engine: Opener | None = None,
        http_client: httpx2.AsyncClient | None = None,
        **options: Unpack[ClientOptions],
    ) -> None:
        resolver = _resolver(base_url, http_client, options, data=data, embedded=embedded, config=config, engine=engine)
        if resolver is not None:
            base_url, api_key = BASE_URL, api_key or _default_key(options)
            http_client = AsyncInProcessClient(resolver)
        self._resolver = resolver or (http_client.resolver if isinstance(http_client, AsyncInProcessClient) else None)
        super().__init__(api_key=api_key, base_url=base_url, http_client=http_client, **options)

    async def _prepare_options(self, options: Any) -> Any:
        options = await super()._prepare_options(options)
        if self._resolver is not None and is_engine_websocket(options):
            where = await self._resolver.resolve_async()
            return redirect_websocket(options, where) if isinstance(where, Server) else options
        return options


def _sign_like(ours: type, official: type) -> None:
    """Have ``help`` and ``inspect`` show what the official client takes in place of ``**options``."""
    init: Any = vars(ours)["__init__"]
    theirs = inspect.signature(official).parameters
    own = inspect.signature(init).parameters
    named = [parameter for parameter in own.values() if parameter.kind is not inspect.Parameter.VAR_KEYWORD]
    more = [theirs[name] for name in theirs if name not in own and not name.startswith("_")]
    init.__signature__ = inspect.Signature([*named, *more])


_sign_like(OpenAI, openai.OpenAI)
_sign_like(AsyncOpenAI, openai.AsyncOpenAI)

Antiphon = OpenAI
AsyncAntiphon = AsyncOpenAI

_REMOTE_OPTIONS = ("provider", "data_residency", "workload_identity")
"""Options of the official clients that name somebody else's service."""


def _resolver(
    base_url: str | httpx2.URL | openai.NotGiven | None,
    http_client: object,
    options: Mapping[str, Any],
    **local: Any,
) -> EngineResolver | None:
    """The way to the engine in this process; None for a client that speaks HTTP."""
    named = [name for name, value in local.items() if value is not None]
    remote = ["base_url"] if isinstance(base_url, str | httpx2.URL) else []
    remote += [name for name in _REMOTE_OPTIONS if options.get(name) is not None]
    if named and (remote or http_client is not None):
        other = remote[0] if remote else "http_client"
        raise TypeError(f"{named[0]}= is about the engine in this process, and {other}= about another one: give one")
    if remote or (not named and os.environ.get("OPENAI_BASE_URL")):
        return None
    if http_client is not None:
        raise TypeError("http_client= needs base_url=: without, the engine runs in this process, and no HTTP is spoken")
    return EngineResolver(_config(local["config"], local["data"], local["embedded"]), local["engine"])


def _config(
    config: ConfigLike | None, data: str | os.PathLike[str] | None, embedded: str | os.PathLike[str] | None
) -> Config:
    given: dict[str, Any] = {"data": data, "model": None if embedded is None else os.fspath(embedded)}
    match config:
        case None:
            loaded = load(given, os.environ)
        case Config():
            loaded = replace(config, **{name: value for name, value in given.items() if value is not None})
        case Mapping():
            loaded = load({**config, **{name: value for name, value in given.items() if value is not None}}, os.environ)
        case _:
            loaded = load(given, os.environ, Path(config))
    return replace(loaded, data=Path(loaded.data).expanduser().resolve())


def _default_key(options: Mapping[str, Any]) -> str | None:
    """A key to send: the environment's, as ever, else one that says that there is none."""
    if os.environ.get("OPENAI_API_KEY") or options.get("admin_api_key") or os.environ.get("OPENAI_ADMIN_KEY"):
        return None
    return _NO_KEY
