"""OpenTelemetry spans with the GenAI conventions, one per response, made after it ended. Imported only when they are
asked for (``OTEL_EXPORTER_OTLP_ENDPOINT``); needs the extra ``antiphon[otel]``.

A span says which model, how long and how many tokens; no prompt, no answer, no error message.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from antiphon import __version__
from antiphon.telemetry.meter import ResponseTimer
from antiphon.wire.errors import ApiError

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
MISSING = f"{ENDPOINT} is set, but the packages for traces are missing: pip install 'antiphon[otel]'"


class CannotTrace(Exception):
    """The packages for traces are not installed; the text says how to install them."""


class Traces:
    """Exports a span for every response that ended.

    Args:
        exporter: where spans go; OTLP over HTTP, as the environment says, when None.

    Raises:
        CannotTrace: the extra is not installed.
    """

    def __init__(self, exporter: Any = None) -> None:
        # The packages are optional and without types that hold in both cases: everything of theirs is Any here.
        self._otel = packages()
        provider = self._otel["TracerProvider"](resource=self._otel["Resource"].create({"service.name": "antiphon"}))
        provider.add_span_processor(
            self._otel["BatchSpanProcessor"](exporter if exporter is not None else self._otel["OTLPSpanExporter"]())
        )
        self._provider = provider
        self._tracer = provider.get_tracer("antiphon", __version__)
        self._propagator = self._otel["TraceContextTextMapPropagator"]()

    def record(self, timer: ResponseTimer) -> None:
        """Record a response that ended. Costs tens of microseconds; another thread sends the span."""
        parent = self._propagator.extract({"traceparent": timer.parent}) if timer.parent else self._otel["Context"]()
        began_ns = int(timer.started_at * 1e9)

        def at(moment: float) -> int:
            return began_ns + int((moment - timer.started) * 1e9)

        span = self._tracer.start_span(
            f"chat {timer.model}".strip(),
            context=parent,
            kind=self._otel["SpanKind"].SERVER,
            start_time=began_ns,
            attributes=attributes(timer),
        )
        for name, moment in (
            ("model.asked", timer.requested),
            ("model.first_delta", timer.first_delta),
            ("model.finished", timer.finished),
        ):
            if moment:
                span.add_event(name, timestamp=at(moment))
        if timer.error is not None:
            span.set_status(self._otel["StatusCode"].ERROR)
        span.end(end_time=at(timer.ended))

    def close(self) -> None:
        """Send the remaining spans. Blocks for at most the exporter's timeout."""
        self._provider.shutdown()


def attributes(timer: ResponseTimer) -> dict[str, str | int | float | bool | list[str]]:
    """A response as span attributes, by the GenAI semantic conventions; our own names begin with ``antiphon.``."""
    values: dict[str, str | int | float | bool | list[str]] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "antiphon",
        "gen_ai.response.model": timer.model,
        "antiphon.request_id": timer.request_id,
        "antiphon.overhead_s": timer.overhead_s,
    }
    if timer.helps:
        values["antiphon.tool_help"] = sorted(set(timer.helps))
    if timer.error is not None:
        values["error.type"] = _kind(timer.error)
    response = timer.response
    if response is None:
        return values
    values |= {
        "gen_ai.request.model": response.model,
        "gen_ai.request.temperature": response.temperature,
        "gen_ai.request.top_p": response.top_p,
        "gen_ai.response.id": response.id,
        "gen_ai.response.finish_reasons": [_finish(response.incomplete_details)],
    }
    if response.max_output_tokens is not None:
        values["gen_ai.request.max_tokens"] = response.max_output_tokens
    if response.usage is not None:
        values["gen_ai.usage.input_tokens"] = response.usage.input_tokens
        values["gen_ai.usage.output_tokens"] = response.usage.output_tokens
    return values


def _finish(incomplete: Mapping[str, Any] | None) -> str:
    reason = (incomplete or {}).get("reason")
    return {None: "stop", "max_output_tokens": "length"}.get(reason, str(reason))


def _kind(error: BaseException) -> str:
    """A code of the API where there is one, else the exception's type; never its message."""
    cause = error.__cause__ if isinstance(error.__cause__, ApiError) else getattr(error, "error", error)
    return (cause.code or cause.type) if isinstance(cause, ApiError) else type(error).__name__


def packages() -> dict[str, Any]:
    """The names that are used of OpenTelemetry.

    Raises:
        CannotTrace: it is not installed.
    """
    try:
        return {
            name: getattr(import_module(module), name)
            for module, name in (
                ("opentelemetry.context", "Context"),
                ("opentelemetry.exporter.otlp.proto.http.trace_exporter", "OTLPSpanExporter"),
                ("opentelemetry.sdk.resources", "Resource"),
                ("opentelemetry.sdk.trace", "TracerProvider"),
                ("opentelemetry.sdk.trace.export", "BatchSpanProcessor"),
                ("opentelemetry.trace", "SpanKind"),
                ("opentelemetry.trace", "StatusCode"),
                ("opentelemetry.trace.propagation.tracecontext", "TraceContextTextMapPropagator"),
            )
        }
    except ImportError as error:
        raise CannotTrace(MISSING) from error
