"""The models of one chat-completions server, sharing its connections."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import aiohttp
import msgspec

from antiphon.models.chat.errors import answered
from antiphon.models.chat.model import ChatConfig, ChatModel
from antiphon.models.roster import UpstreamModels
from antiphon.wire import Json
from antiphon.wire.errors import ApiError, Unavailable, UpstreamError

RENAMED = {"sees": "supports_images", "thinks": "reasoning_format", "continues": "supports_prefill"}
"""Earlier names of fields of ``ChatConfig``, which still work, with a warning."""

log = logging.getLogger("antiphon.models")

_ANSWER_S = 10.0
_ANSWER_BYTES_MAX = 4 * 1024 * 1024


class _Named(msgspec.Struct):
    id: str


class _List(msgspec.Struct):
    data: list[_Named]


class WrongOptions(Exception):
    """The options are none of ``ChatConfig``; the text says which."""


def upstream_models(
    url: str, *, key: str, only: str, aliases: Mapping[str, str], connections_max: int, options: Json
) -> UpstreamModels:
    """A roster of what ``GET {url}/models`` lists, or of the one model ``only``. Call it inside the event loop.

    Args:
        options: fields of ``ChatConfig`` that hold for every model there.

    Raises:
        WrongOptions: ``options`` does not fit.
    """
    known = {"effort": "field", **_renamed(options), "base_url": url, "api_key": key}
    _config(known | {"model": ""})
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections_max, keepalive_timeout=60),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
    )

    async def names() -> Sequence[str]:
        listed = await _listed(session, url.rstrip("/"), key, needed=not only)
        return [only] if only else listed

    def make(name: str) -> ChatModel:
        return ChatModel(_config(known | {"model": name}), session)

    return UpstreamModels(names, make, aliases, session.close)


def _renamed(options: Json) -> Json:
    for name in options.keys() & RENAMED.keys():
        log.warning("upstream_options: %s is called %s now", name, RENAMED[name])
    return {RENAMED.get(name, name): value for name, value in options.items()}


def _config(fields: Json) -> ChatConfig:
    unknown = fields.keys() - set(ChatConfig.__struct_fields__)
    if unknown:
        raise WrongOptions(f"upstream_options: there is no {', '.join(sorted(unknown))}")
    try:
        return msgspec.convert(fields, ChatConfig)
    except msgspec.ValidationError as error:
        raise WrongOptions(f"upstream_options: {error}") from error


async def _listed(session: aiohttp.ClientSession, url: str, key: str, *, needed: bool) -> Sequence[str]:
    """What the server lists; without ``needed`` it is enough that it answers."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        async with session.get(
            f"{url}/models", headers=headers, timeout=aiohttp.ClientTimeout(_ANSWER_S), allow_redirects=False
        ) as answer:
            body = await answer.content.read(_ANSWER_BYTES_MAX)
            while not answer.content.at_eof() and len(body) < _ANSWER_BYTES_MAX:
                body += await answer.content.read(_ANSWER_BYTES_MAX - len(body))
    except (aiohttp.ClientError, TimeoutError) as error:
        raise Unavailable("The model's server cannot be reached.", internal=repr(error)) from error
    if not needed:
        return []
    if answer.status != 200:
        said = answered(answer.status, body, answer.headers, key)
        raise said if isinstance(said, ApiError) else UpstreamError("The model's server could not list its models.")
    try:
        return [model.id for model in msgspec.json.decode(body, type=_List).data]
    except msgspec.DecodeError as error:
        raise UpstreamError("The model's server did not list its models.", internal=str(error)) from error
