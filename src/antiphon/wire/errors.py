"""The errors a client may see, each with its HTTP status and the envelope's ``type`` and ``code``.

``message`` is public. ``internal`` is for the log alone and never leaves the server.
Source of statuses and codes: the API's error reference and the official SDK's exception mapping.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from antiphon.wire import Json


class ErrorObject(msgspec.Struct):
    """What went wrong: ``param`` is the JSON path of the culprit."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorResponse(msgspec.Struct):
    """Every error's body."""

    error: ErrorObject


class ApiError(Exception):
    """A failure with a documented shape.

    Args:
        message: what the client reads.
        code: machine-readable code, such as ``unknown_parameter``; the class's own when not given.
        param: JSON path of the culprit, such as ``input[0].content``.
        internal: detail for the server's log only.
        headers: extra response headers, such as ``Retry-After``.
    """

    status: int = 500
    type: str = "server_error"
    code: str | None = "server_error"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        internal: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code if code is not None else type(self).code
        self.param = param
        self.internal = internal
        self.headers: Mapping[str, str] = headers or {}

    @property
    def reason(self) -> ErrorObject:
        """As the caller reads it."""
        return ErrorObject(self.message, self.type, self.param, self.code)

    def body(self) -> Json:
        """The same as a JSON object: ``{message, type, param, code}``."""
        return msgspec.to_builtins(self.reason)


class InvalidRequest(ApiError):
    """400: the caller's mistake."""

    status, type, code = 400, "invalid_request_error", None


class Unauthorized(ApiError):
    """401: no key, or a wrong one."""

    status, type, code = 401, "invalid_request_error", "invalid_api_key"


class PermissionDenied(ApiError):
    """403: somebody who may decide that does not allow it."""

    status, type, code = 403, "invalid_request_error", None


class NotFound(ApiError):
    """404: no such thing, or another project's."""

    status, type, code = 404, "invalid_request_error", None


class MethodNotAllowed(ApiError):
    """405: the path exists, the method does not."""

    status, type, code = 405, "invalid_request_error", "method_not_allowed"


class BodyTooLarge(ApiError):
    """413: over ``body_bytes_max``."""

    status, type, code = 413, "invalid_request_error", "request_too_large"


class RateLimited(ApiError):
    """429: over a limit of ours, or of the model's server."""

    status, type, code = 429, "rate_limit_error", "rate_limit_exceeded"


class InsufficientQuota(ApiError):
    """429: a budget is spent; another try will not help."""

    status, type, code = 429, "insufficient_quota", "insufficient_quota"


SORRY = "The server had an error while processing your request."
"""All that a caller reads of a fault of ours."""


class ServerError(ApiError):
    """500: our own fault."""


class UpstreamError(ApiError):
    """502: the model's server answered, but not as it should."""

    status, code = 502, "upstream_error"


class Unavailable(ApiError):
    """503: something we need is not there now; worth another try."""

    status, code = 503, "unavailable"


class UpstreamTimeout(ApiError):
    """504: the model's server did not answer in time."""

    status, code = 504, "upstream_timeout"
