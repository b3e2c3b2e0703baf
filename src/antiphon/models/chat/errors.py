"""What a chat-completions server answers when it does not answer, as errors of ours. Pure.

The public text is ours, with the server's own words behind it where the caller can do something about them.
Addresses and keys are never in it. The log gets none of the server's words: they may quote the prompt.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, cast

import msgspec

from antiphon.models import ContextTooLong
from antiphon.wire import Json
from antiphon.wire.errors import ApiError, InvalidRequest, RateLimited, UpstreamError, UpstreamTimeout

WORDS_MAX: Final = 500
"""How many characters of the server's own words are passed on."""

_TOO_LONG_KINDS: Final = frozenset({"exceed_context_size_error", "context_length_exceeded"})
_TOO_LONG: Final = re.compile(
    r"maximum context length|context length \(|exceeds? the (?:available )?context|context[ _]length[ _]exceeded"
    r"|longer than the (?:model's )?(?:maximum )?context|(?:prompt|input) is too long",
    re.IGNORECASE,
)
_WINDOW: Final = re.compile(
    r"(?:maximum context length (?:is|of)|context length \(|context size \()\s*(\d+)", re.IGNORECASE
)
_PROMPT: Final = (
    re.compile(r"\((\d+) in the messages", re.IGNORECASE),
    re.compile(
        r"(?:resulted in|request has|requested|input \(|prompt contains(?: at least)?|request \()\s*(\d+)",
        re.IGNORECASE,
    ),
)
"""First to last: vLLM adds the wanted answer to what was ``requested``, and says the messages' share behind it."""


class _Said(msgspec.Struct):
    message: str = ""
    kind: str = ""
    """``code`` and ``type``, whichever are words."""
    status: int | None = None
    prompt_tokens: int | None = None
    context_tokens: int | None = None


def answered(status: int, body: bytes, headers: Mapping[str, str], api_key: str = "") -> ApiError | ContextTooLong:
    """The error for an answer with a status other than 200."""
    said = _read(_json(body))
    return _error(status, said, _words(said.message, api_key), headers)


def reported(error: Any) -> ApiError | ContextTooLong:
    """The error for an ``error`` in the midst of a stream."""
    said = _read(error)
    if _too_long(said):
        return _context_too_long(said)
    if said.status == 429:
        return RateLimited(_sentence("The model's server is over its limit", _words(said.message, "")))
    return UpstreamError(_sentence("The model's server failed", _words(said.message, "")))


def _json(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        # A page in HTML, of a proxy in between, says nothing to a caller.
        text = body.decode(errors="replace").strip()
        return "" if text.startswith("<") else text


def _read(body: Any) -> _Said:
    """Whatever shape it has: ``{error: {…}}``, ``{error: "…"}``, ``{message}``, ``{detail}``, plain text."""
    if not isinstance(body, dict):
        return _Said(message=str(body or ""))
    whole = cast(Json, body)
    inner: Any = whole.get("error")
    if isinstance(inner, str) and inner:
        return _Said(message=inner)
    error = cast(Json, inner) if isinstance(inner, dict) else whole
    words = (error.get(key) for key in ("code", "type"))
    code = error.get("code")
    return _Said(
        message=str(error.get("message") or error.get("detail") or ""),
        kind=" ".join(word for word in words if isinstance(word, str)),
        status=code if isinstance(code, int) else None,
        prompt_tokens=_int(error.get("n_prompt_tokens")),
        context_tokens=_int(error.get("n_ctx")),
    )


def _int(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _words(message: str, api_key: str) -> str:
    """The server's own words, short, and without the key should it repeat that."""
    clean = message.replace(api_key, "***") if api_key else message
    return clean if len(clean) <= WORDS_MAX else clean[: WORDS_MAX - 1] + "…"


def _sentence(ours: str, theirs: str) -> str:
    return f"{ours}: {theirs}" if theirs else f"{ours}."


def _error(status: int, said: _Said, words: str, headers: Mapping[str, str]) -> ApiError | ContextTooLong:
    if status in (400, 413, 422, 500) and _too_long(said):
        return _context_too_long(said)
    match status:
        case 401 | 403:
            return UpstreamError(
                "The model's server refused this server's key.",
                code="upstream_refused_key",
                internal=f"status {status}",
            )
        case 404:
            return UpstreamError(
                "The model's server does not know the model.", code="upstream_model_not_found", internal="status 404"
            )
        case 408 | 504:
            return UpstreamTimeout("The model's server did not answer in time.", internal=f"status {status}")
        case 429:
            after = headers.get("Retry-After")
            ours = "The model's server is over its limit"
            return RateLimited(_sentence(ours, words), headers={"Retry-After": after} if after else None)
        case _ if 400 <= status < 500:
            return InvalidRequest(_sentence("The model's server refused the request", words), code="upstream_rejected")
        case _:
            return UpstreamError(_sentence(f"The model's server answered with status {status}", words))


def _too_long(said: _Said) -> bool:
    return any(kind in said.kind for kind in _TOO_LONG_KINDS) or _TOO_LONG.search(said.message) is not None


def _context_too_long(said: _Said) -> ContextTooLong:
    window = _WINDOW.search(said.message)
    prompt = next((found for one in _PROMPT if (found := one.search(said.message))), None)
    return ContextTooLong(
        said.prompt_tokens if said.prompt_tokens is not None else _number(prompt),
        said.context_tokens if said.context_tokens is not None else _number(window),
    )


def _number(found: re.Match[str] | None) -> int | None:
    return int(found[1]) if found else None
