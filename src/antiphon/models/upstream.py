"""The models of one chat-completions server, sharing its connections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import aiohttp
import msgspec

from antiphon.models.chat import ChatConfig, ChatModel
from antiphon.models.chat_errors import answered
from antiphon.models.roster import UpstreamModels
from antiphon.wire.errors import ApiError, Unavailable, UpstreamError

_ANSWER_S = 10.0
_ANSWER_BYTES_MAX = 4 * 1024 * 1024


class _Named(msgspec.Struct):
    id: str


class _List(msgspec.Struct):
    data: list[_Named]


def upstream_models(
    url: str, *, key: str, only: str, sees: bool, aliases: Mapping[str, str], connections_max: int
) -> UpstreamModels:
    """A roster of what ``GET {url}/models`` lists, or of the one model ``only``. Call it inside the event loop."""
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections_max, keepalive_timeout=60), auto_decompress=False
    )

    async def names() -> Sequence[str]:
        return [only] if only else await _listed(session, url.rstrip("/"), key)

    def make(name: str) -> ChatModel:
        config = ChatConfig(base_url=url, api_key=key, model=name, sees=sees)
        return ChatModel(config, session)

    return UpstreamModels(names, make, aliases, session.close)


async def _listed(session: aiohttp.ClientSession, url: str, key: str) -> Sequence[str]:
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
    if answer.status != 200:
        said = answered(answer.status, body, answer.headers, key)
        raise said if isinstance(said, ApiError) else UpstreamError("The model's server could not list its models.")
    try:
        return [model.id for model in msgspec.json.decode(body, type=_List).data]
    except msgspec.DecodeError as error:
        raise UpstreamError("The model's server did not list its models.", internal=repr(error)) from error
