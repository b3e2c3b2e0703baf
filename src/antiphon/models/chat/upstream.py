"""The models of one chat-completions server, sharing its connections."""

from __future__ import annotations

import codecs
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias, cast

import aiohttp
import msgspec

from antiphon.models.chat.chunk import parse, parse_row
from antiphon.models.chat.connections import FAILURES, HEADERS, open_session, read_error, read_whole, url_of
from antiphon.models.chat.errors import error_of_answer
from antiphon.models.chat.model import ChatConfig, ChatModel
from antiphon.models.chat.template import NoTemplate, load_tokenizer
from antiphon.models.chat.unicode import clean
from antiphon.models.roster import UpstreamModels
from antiphon.wire import Json
from antiphon.wire.errors import ApiError, Unavailable, UpstreamError

RENAMED = {"sees": "supports_images", "thinks": "reasoning_format", "continues": "supports_prefill"}
"""Earlier names of fields of ``ChatConfig``, which still work, with a warning."""

log = logging.getLogger("antiphon.models")

_ANSWER_S = 10.0
_ANSWER_BYTES_MAX = 4 * 1024 * 1024
_NO_LIST = frozenset({404, 405, 501})
"""How a server says that it lists no models at all."""
_WINDOWS: Final = ("max_model_len", "context_length", "context_window", "max_context_length")
"""Members of a listed model that tell its context window: of vLLM and SGLang, of hosted routers, of others."""
_NAMES: Final = ("id", "name", "model", "model_name", "model_id", "modelId", "slug")
"""Members of a listed model that name it, first to last."""
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)

Listed: TypeAlias = Mapping[str, int | None]
"""The models of a list by their names, each with its context window where the list tells it."""


class WrongOptions(Exception):
    """The options are none of ``ChatConfig``; the text says which."""


def upstream_models(
    url: str,
    *,
    key: str,
    only: str,
    aliases: Mapping[str, str],
    connections_max: int,
    options: Json,
    fallback: str = "",
) -> UpstreamModels:
    """A roster of what ``GET {url}/models`` lists, or of the one model ``only``. Call it inside the event loop.

    Args:
        options: fields of ``ChatConfig`` that hold for every model there.
        fallback: the model that answers to names which are not listed; empty for none.

    Raises:
        WrongOptions: ``options`` does not fit.
    """
    known = {"effort": "field", **_apply_aliases(options), "base_url": url, "api_key": key}
    _check_tokenizer(_config(known | {"model": ""}))
    session = open_session(connections_max)

    windows: dict[str, int | None] = {}

    async def names() -> Sequence[str] | None:
        listed = await _fetch_list(session, url, key, needed=not only)
        if listed is not None:
            windows.clear()
            windows.update(listed)
        return [only] if only else None if listed is None else list(listed)

    def make(name: str) -> ChatModel:
        return ChatModel(_config({"context_tokens": windows.get(name), **known, "model": name}), session)

    return UpstreamModels(names, make, aliases, session.close, fallback)


def _apply_aliases(options: Json) -> Json:
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


def _check_tokenizer(config: ChatConfig) -> None:
    try:
        if config.tokenizer:
            load_tokenizer(config.tokenizer)
    except NoTemplate as error:
        raise WrongOptions(f"upstream_options: tokenizer: {error}") from error


async def _fetch_list(session: aiohttp.ClientSession, url: str, key: str, *, needed: bool) -> Listed | None:
    """What the server lists, None where it lists nothing; without ``needed`` it is enough that it answers."""
    headers = {**HEADERS, "Authorization": f"Bearer {key}"} if key else HEADERS
    timeout = aiohttp.ClientTimeout(_ANSWER_S)
    try:
        async with session.get(
            url_of(url, "models"), headers=headers, timeout=timeout, allow_redirects=False
        ) as answer:
            read = read_whole if answer.ok else read_error
            body = await read(answer, _ANSWER_BYTES_MAX)
    except FAILURES as error:
        raise Unavailable("The model's server cannot be reached.", internal=repr(error)) from error
    try:
        return _read_list(answer.status, body, answer.headers, key)
    except ApiError:
        if needed:
            raise
        return None


def _read_list(status: int, body: bytes, headers: Mapping[str, str], key: str) -> Listed | None:
    if status in _NO_LIST:
        return None
    if not 200 <= status < 300:
        error = error_of_answer(status, body, headers, key)
        raise error if isinstance(error, ApiError) else UpstreamError("The model's server could not list its models.")
    body = body.removeprefix(codecs.BOM_UTF8).strip()
    try:
        values = parse_row(body) if body[:1] in (b"{", b"[") else [parse(body)]
    except ValueError as error:
        raise UpstreamError("The model's server did not list its models.", internal=str(error)) from error
    return _models_in(values[0] if len(values) == 1 else values)


def _models_in(listed: Any) -> Listed | None:
    """The models in a list of any shape; None where there is no list."""
    if isinstance(listed, dict):
        found = cast(Json, listed)
        listed = _inner_list(found)
        if isinstance(listed, dict):
            inner = cast(Json, listed)
            # A list in a list, one model by itself, or models by their names.
            listed = _inner_list(inner) or ([inner] if isinstance(inner.get("id"), str) else list(inner))
    if not isinstance(listed, list):
        return None
    entries = [one for each in cast("list[Any]", listed) for one in _flat(each)]
    return {name: _window_of(entry) for entry in entries if (name := _name_of(entry))}


def _inner_list(found: Json) -> Any:
    """What an object has as its list: under a usual name, else any list of things that have names."""
    given = [found[key] for key in ("data", "models") if found.get(key) is not None]
    if given or _name_of(found):
        return next((one for one in given if one), given[0] if given else None)
    lists = (cast("list[Any]", value) for value in found.values() if isinstance(value, list))
    return next((each for each in lists if any(map(_is_named, each))), None)


def _flat(entry: Any) -> Sequence[Any]:
    return cast("list[Any]", entry) if isinstance(entry, list) else (entry,)


def _window_of(entry: Any) -> int | None:
    sizes = [cast(Json, entry).get(member) for member in _WINDOWS] if isinstance(entry, dict) else []
    return next((tokens for tokens in sizes if type(tokens) is int and tokens > 0), None)


def _is_named(entry: Any) -> bool:
    return isinstance(entry, dict) and bool(_name_of(entry))


def _name_of(entry: Any) -> str:
    if not isinstance(entry, dict):
        return _text_of(entry)
    model = cast(Json, entry)
    inner: Any = model.get("model")
    nested = cast(Json, inner) if isinstance(inner, dict) else {}
    found = [name for one in (model, nested) for key in _NAMES if (name := _text_of(one.get(key)))]
    # Some number their models, and name them beside that.
    return next((name for name in found if not _UUID.fullmatch(name)), next(iter(found), ""))


def _text_of(name: Any) -> str:
    return clean(str(name)) if isinstance(name, str | int) and not isinstance(name, bool) else ""
