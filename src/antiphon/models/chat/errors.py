"""What a chat-completions server says when it does not answer, as errors of ours. Pure.

The public text is ours, with the server's own words behind it where the caller can do something about them.
Addresses and keys are never in it. The log gets none of the server's words: they may quote the prompt.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, cast

import msgspec

from antiphon.models import ContextTooLong, ImagesRefused
from antiphon.models.chat.chunk import parse
from antiphon.models.chat.overflow import KINDS, is_too_long, prompt_of, window_of
from antiphon.models.chat.unicode import clean
from antiphon.wire import Json
from antiphon.wire.errors import (
    ApiError,
    BodyTooLarge,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    RateLimited,
    Unavailable,
    UpstreamError,
    UpstreamTimeout,
)

WORDS_MAX: Final = 500
"""How many characters of the server's own words are passed on."""

_WORDS: Final = (
    "message",
    "detail",
    "msg",
    "error_message",
    "error_msg",
    "errormessage",
    "error_description",
    "faultstring",
    "status_msg",
    "messages",
    "error",
    "errors",
    "fault",
    "description",
    "reason",
    "title",
    "exception",
    "err",
)
"""Where servers put their words, first to last, in lower case."""
_PROPER: Final = ("error", "errors", "fault", "base_resp", "response")
"""Where the error proper stands in what they send."""
_IN_XML: Final = re.compile(r"<(message|faultstring)>([^<]+)</\1>", re.IGNORECASE)
_CODES: Final = ("code", "type", "status", "error_type", "error_code", "status_code", "http_code")
_STATUSES: Final = (
    ("rate_limit", 429),
    ("insufficient_quota", 429),
    ("resource_exhausted", 429),
    ("overloaded", 503),
    ("unavailable", 503),
    ("timeout", 504),
    ("authentication", 401),
    ("invalid_request", 400),
    ("invalid_argument", 400),
    ("badrequest", 400),
)
"""Statuses that a ``type`` or ``code`` in words stands for."""
_MARKS: Final = ("error_message", "error_msg", "errors", "error_code", "error_type", "fault", "exception")
"""What no chunk has that is not an error."""
_NO_ERRORS: Final = frozenset({"", "null", "none", "ok", "success", "false", "0"})
_DEPTH_MAX: Final = 4
_NESTED_MAX: Final = 8
"""How deep words may stand that have no usual name."""
_KEY_REFUSED: Final = re.compile(
    r"\b(?:api|access|auth\w*)[ _-]?(?:key|token)|credential|unauthori[sz]ed|authenticat", re.IGNORECASE
)
_NO_MODEL: Final = re.compile(
    r"model\b.*(?:not (?:found|exist|loaded|available|supported)|unknown|no such|n't exist|invalid)"
    r"|(?:not (?:found|exist)|unknown|no such|invalid)\b.*\bmodel",
    re.IGNORECASE | re.DOTALL,
)
_IMAGE: Final = r"(?:image|vision|visual|multi-?modal)"
_NO_IMAGES: Final = re.compile(
    "|".join(
        (
            rf"{_IMAGE}(?! urls?\b)\S*(?: \w+){{0,2}} (?:is|are)(?: currently)?"
            r" (?:not (?:support|accept|allow|enabl|avail)|unsupported)",
            r"(?:not|n't|cannot) (?:currently )?(?:support|accept|handle|take|allow|have)(?:s|ed)? (?:\S+ ){0,3}?"
            rf"['\"`]?{_IMAGE}(?!s?['\"`]? ?(?:formats?|urls?|types?|larger|bigger|of|sizes?|with|/)\b)",
            rf"not (?:an? )?{_IMAGE}\S*(?: model|$|[.,;])",
            rf"unsupported (?:content type|modality|input)\S*:? ?['\"`]?{_IMAGE}",
            rf"{_IMAGE}\S*['\"`]? (?:content |inputs? )?(?:is|are) only supported by",
            r"only supports? text|only text (?:is|inputs?|content|parts?)\b|content['\"`]? must be (?:a )?string",
            rf"(?:no endpoints?|no models?|none)\b.{{0,40}}\bsupport\w*\b.{{0,20}}{_IMAGE}",
            r"at most 0 image|missing data required for image|mmproj|unknown variant ['\"`]?image",
            r"unsupported content\[\]\.type",
        )
    ),
    re.IGNORECASE,
)
"""That a model takes no images at all: of llama.cpp, vLLM, SGLang, Ollama, LM Studio, OpenAI, OpenRouter, Anthropic,
Gemini, Groq, DeepSeek, xAI, Bedrock; not what servers say of a certain image that they cannot read."""
_SIGNATURE: Final = re.compile(r"thought.?signature", re.IGNORECASE)
_MEMBER: Final = re.compile(
    r"extra_content|reasoning_details|extra (?:inputs?|fields?)|additional propert", re.IGNORECASE
)
_THOUGHTS_MISSED: Final = re.compile(r"expected `?thinking\b.*\bfound\b", re.IGNORECASE)
_NEEDED: Final = re.compile(r"missing|must|requir|need", re.IGNORECASE)
_TRY_AGAIN: Final = ("Retry-After", "Retry-After-Ms")
_HEADER_CHARS_MAX: Final = 64


class _Report(msgspec.Struct):
    """What an error says.

    Attributes:
        kind: its ``code`` and ``type``, whichever are words.
        status: the HTTP status that it stands for, where it names one.
    """

    message: str = ""
    kind: str = ""
    status: int | None = None
    prompt_tokens: int | None = None
    context_tokens: int | None = None


def error_of_answer(
    status: int, body: bytes, headers: Mapping[str, str], api_key: str = ""
) -> ApiError | ContextTooLong:
    """The error for an answer with a status that is no success."""
    return _error(status, _report_of_error(_value_of(body)), headers, api_key)


def stream_error(error: Any) -> ApiError | ContextTooLong:
    """The error for what a server reports in the midst of a stream."""
    report = _report_of_error(error)
    return _error(report.status or 0, report, {}, "")


def truncated_error(words: str) -> ApiError | ContextTooLong:
    """The error for an answer that just ended, with the last words that were no part of it."""
    if not words:
        return UpstreamError("The model's server ended mid-stream.", code="upstream_ended")
    if is_too_long(words):
        return _context_too_long(_Report(message=words))
    return UpstreamError(_sentence("The model's server ended mid-stream", _excerpt(words, "")), code="upstream_ended")


def gave_up(words: str) -> ApiError:
    """The error for an answer that says it ends in an error."""
    return UpstreamError(_sentence("The model's server gave up in mid-stream", _excerpt(words, "")))


def is_error(value: Any) -> bool:
    """Whether the ``error`` of a chunk is one: some servers say in every chunk that there is none."""
    if not isinstance(value, dict):
        return bool(value) and not (isinstance(value, str) and value.strip().lower() in _NO_ERRORS)
    error = cast(Json, value)
    if error.get("code") in (0, 200, "0", "200"):
        return False
    return any(error.values())


def is_marked(value: Json) -> bool:
    """Whether an object that is no chunk says that it is an error."""
    if is_error(value.get("error")) or value.get("object") == "error" or value.get("type") == "error":
        return True
    if any(value.get(name) for name in _MARKS):
        return True
    report = _report(value)
    return report.status is not None and bool(report.message)


def words_of(value: Json) -> str:
    """The words in an object that is no chunk."""
    return _report(value).message


# What an error says.


def _value_of(body: bytes) -> Any:
    text = body.decode(errors="replace").removeprefix("\ufeff").strip()
    if text.startswith(("data:", "event:")):
        lines = (line[5:] for line in text.splitlines() if line.startswith("data:"))
        text = next((line.strip() for line in lines if line.strip()), "")
    try:
        return parse(text.encode("utf-8", "replace"))
    except ValueError:
        if not text.startswith("<"):
            return text
        # A page in HTML, of a proxy in between, says nothing to a caller.
        found = _IN_XML.search(text)
        return found[2].strip() if found else ""


def _report(body: Any) -> _Report:
    """Whatever shape it has: ``{error: {…}}``, ``{error: "…"}``, ``{message}``, ``{detail: [{msg}]}``, plain text."""
    if not isinstance(body, dict):
        return _Report(message=_plain(body) or (clean(str(body)) if body else ""))
    objects = _nested_objects(cast(Json, body))
    words = next((found for one in reversed(objects) if (found := _words_in(one))), "")
    codes = [one[key] for one in reversed(objects) for key in _CODES if key in one]
    kind = clean(" ".join(code for code in codes if isinstance(code, str)))
    return _Report(
        message=words,
        kind=kind,
        status=_status(codes, kind),
        prompt_tokens=_first(objects, "n_prompt_tokens"),
        context_tokens=_first(objects, "n_ctx"),
    )


def _report_of_error(body: Any) -> _Report:
    """The report of what is an error for certain: any sentence in it will do, where its words have no usual name."""
    report = _report(body)
    return report if report.message else msgspec.structs.replace(report, message=next(_sentences(body), ""))


def _sentences(value: Any, depth: int = _NESTED_MAX) -> Iterator[str]:
    """The texts of several words in a value, within ``depth``; not every language sets blanks between them."""
    if isinstance(value, str) and (" " in value.strip() or not value.isascii()):
        yield clean(value)
    elif depth and isinstance(value, dict | list):
        inner = cast(Json, value).values() if isinstance(value, dict) else cast("list[Any]", value)
        for one in inner:
            yield from _sentences(one, depth - 1)


def _nested_objects(body: Json) -> list[Json]:
    """The object and those in it that are the error proper, outermost first."""
    found = [body]
    while len(found) < _DEPTH_MAX:
        inner: Any = next((found[-1][key] for key in _PROPER if found[-1].get(key)), None)
        if isinstance(inner, list) and inner:
            inner = cast("list[Any]", inner)[0]
        if not isinstance(inner, dict):
            break
        found.append(cast(Json, inner))
    return found


def _words_in(error: Json, depth: int = _DEPTH_MAX) -> str:
    members = {name.lower(): value for name, value in error.items()}
    words = next((text for key in _WORDS if (text := _plain(members.get(key), depth))), "")
    place: Any = members.get("loc")
    if words and isinstance(place, list) and (path := cast("list[Any]", place)[1:]):
        words = f"{clean('.'.join(map(str, path)))}: {words}"
    metadata: Any = error.get("metadata")
    raw: Any = cast(Json, metadata).get("raw") if isinstance(metadata, dict) else None
    # A gateway's own words say less than those of the server behind it.
    return f"{words}: {clean(raw)}" if isinstance(raw, str) and raw else words


def _plain(value: Any, depth: int = _DEPTH_MAX) -> str:
    """A text, whatever it is wrapped in, within ``depth``."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return _words_in(cast(Json, value), depth - 1) if depth else ""
    if isinstance(value, list):
        parts = cast("list[Any]", value)
        words = [_plain(part, depth) for part in parts if isinstance(part, str | dict)]
        return "; ".join(filter(None, words))
    return str(value) if value and value is not True else ""


def _status(codes: Sequence[Any], kind: str) -> int | None:
    for code in codes:
        number = int(code) if isinstance(code, str) and code.isascii() and code.isdigit() and len(code) < 4 else code
        if isinstance(number, int) and 400 <= number < 600:
            return number
    return next((status for word, status in _STATUSES if word in kind.lower().replace(" ", "_")), None)


def _first(objects: Sequence[Json], key: str) -> int | None:
    found = (one.get(key) for one in objects)
    return next((number for number in found if isinstance(number, int) and not isinstance(number, bool)), None)


# What becomes of it.


def _excerpt(words: str, api_key: str) -> str:
    """The server's own words, short, and without the key should it repeat that."""
    known = words.replace(api_key, "***") if api_key else words
    return known if len(known) <= WORDS_MAX else known[: WORDS_MAX - 1] + "…"


def _sentence(ours: str, theirs: str) -> str:
    return f"{ours}: {theirs}" if theirs else f"{ours}."


def _error(status: int, report: _Report, headers: Mapping[str, str], api_key: str) -> ApiError | ContextTooLong:
    if status in (0, 400, 413, 422, 500) and _is_too_long(report):
        return _context_too_long(report)
    words = _excerpt(report.message, api_key)
    make = _ERRORS.get(status) or _rejection if 400 <= status < 500 else _ERRORS.get(status, _failure)
    error = make(status, words)
    if error.status == 429 or error.status >= 500:
        error.headers = {name: value for name in _TRY_AGAIN if (value := _header(headers, name))}
    return error


def _header(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name, "").strip()
    return value if len(value) <= _HEADER_CHARS_MAX and value.isascii() and value.isprintable() else ""


def _key_error(status: int, words: str) -> ApiError:
    text = "The model's server refused this server's key."
    return UpstreamError(text, code="upstream_refused_key", internal=f"status {status}")


def _forbidden(status: int, words: str) -> ApiError:
    if _KEY_REFUSED.search(words):
        return _key_error(status, words)
    if not words:
        return UpstreamError("The model's server forbade the request.", internal=f"status {status}")
    return PermissionDenied(_sentence("The model's server refused the request", words), code="upstream_rejected")


def _not_found(status: int, words: str) -> ApiError:
    if words and not _NO_MODEL.search(words):
        return NotFound(_sentence("The model's server refused the request", words), code="upstream_rejected")
    text = _sentence("The model's server does not know the model", words)
    return UpstreamError(text, code="upstream_model_not_found", internal=f"status {status}")


def _late(status: int, words: str) -> ApiError:
    text = _sentence("The model's server did not answer in time", words)
    return UpstreamTimeout(text, internal=f"status {status}")


def _limit_error(status: int, words: str) -> ApiError:
    return RateLimited(_sentence("The model's server is over its limit", words))


def _unavailable(status: int, words: str) -> ApiError:
    return Unavailable(_sentence("The model's server cannot answer now", words))


def _too_large(status: int, words: str) -> ApiError:
    return BodyTooLarge(_sentence("The model's server refused the request", words), code="upstream_rejected")


def _rejection(status: int, words: str) -> ApiError:
    return InvalidRequest(_sentence("The model's server refused the request", words), code="upstream_rejected")


def _failure(status: int, words: str) -> ApiError:
    ours = f"The model's server answered with status {status}" if status else "The model's server failed"
    return UpstreamError(_sentence(ours, words))


_ERRORS: Final[Mapping[int, Callable[[int, str], ApiError]]] = {
    401: _key_error,
    402: _limit_error,
    403: _forbidden,
    404: _not_found,
    408: _late,
    413: _too_large,
    423: _unavailable,
    424: _failure,
    425: _unavailable,
    429: _limit_error,
    498: _unavailable,
    499: _failure,
    503: _unavailable,
    504: _late,
    522: _late,
    524: _late,
    529: _unavailable,
}


def is_refusal_of_images(error: Exception) -> bool:
    """Whether a server's words say that its model takes no images at all."""
    return isinstance(error, ApiError) and _NO_IMAGES.search(error.message) is not None


def is_refusal_of_logprobs(error: ApiError) -> bool:
    """Whether a server says that it tells no probabilities beside tools, as llama.cpp does."""
    return "logprobs" in error.message and "tools" in error.message


def wanted_back(error: ApiError) -> Literal["replays_reasoning", "signs_calls"] | None:
    """The field of ``ChatConfig`` by which a server is sent what it says is missing in what its model said before:
    the reasoning (DeepSeek, Kimi), or its signature (Gemini).
    """
    if _NEEDED.search(error.message) is None:
        return None
    if "reasoning_content" in error.message:
        return "replays_reasoning"
    return "signs_calls" if "thought_signature" in error.message else None


def misses_thoughts(error: ApiError) -> bool:
    """Whether a model cannot think now, because its earlier thoughts are not there, as Claude behind gateways says."""
    return _THOUGHTS_MISSED.search(error.message) is not None


def refused_aside(error: ApiError) -> Literal["member", "signature"] | None:
    """Whether a server does not take what came with a call: the member that it is in, or the signature itself."""
    if _SIGNATURE.search(error.message) is not None:
        return "signature"
    return "member" if _MEMBER.search(error.message) is not None else None


def no_images() -> ImagesRefused:
    """The documented error for an image that a model cannot be shown."""
    text = "This model does not accept images. Remove the image, or choose a model that supports images."
    return ImagesRefused(text, code="unsupported_value", param="input")


def _is_too_long(report: _Report) -> bool:
    return any(kind in report.kind.lower() for kind in KINDS) or is_too_long(report.message)


def _context_too_long(report: _Report) -> ContextTooLong:
    return ContextTooLong(
        report.prompt_tokens if report.prompt_tokens is not None else prompt_of(report.message),
        report.context_tokens if report.context_tokens is not None else window_of(report.message),
    )
