"""What a server measures of itself: one ``ResponseTimer`` per response, one ``Meter`` per engine.

A figure tells how much and how long, never what: no text of a prompt, an answer or an error comes here.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter, time
from types import TracebackType
from typing import Self

import msgspec

from antiphon.telemetry.metrics import (
    Counter,
    Family,
    Histogram,
    Reading,
    exposition,
)
from antiphon.wire.response import Response


class StoreStats(msgspec.Struct, frozen=True, kw_only=True):
    """How large and how busy a store is.

    Attributes:
        used_bytes: what its content takes, free space within files not counted.
        file_bytes: what it takes of the disk; 0 for a store in memory.
        writes: writes that wait or are under way; and ``reads``.
        deliveries: webhooks that wait to be delivered.
        groups: how many requests shared each transaction; None where there are no transactions.
    """

    used_bytes: int
    file_bytes: int = 0
    writes: int = 0
    reads: int = 0
    deliveries: int = 0
    groups: Histogram | None = None


class ResponseTimer:
    """The stopwatch of one response; a context that ends with it. Times are ``perf_counter`` seconds, 0.0 until then.

    Attributes:
        began_at: Unix seconds.
        began: the request was there, whole.
        asked: the model was asked for the first time.
        spoke: its first delta came.
        finished: its last word came.
        ended: the terminal event had been handed to the client's connection.
        response: the response as it ended; None when it failed or its client left.
        error: what it failed with; None when it did not.
        model: the model that really answers.
        request_id: ``req_…``, empty when no HTTP request is behind it.
        parent: the caller's ``traceparent``, as it was sent.
    """

    __slots__ = (
        "asked",
        "began",
        "began_at",
        "ended",
        "error",
        "finished",
        "meter",
        "model",
        "parent",
        "request_id",
        "response",
        "spoke",
    )

    def __init__(self, meter: Meter | None = None) -> None:
        self.meter = meter
        self.began_at = time()
        self.began = perf_counter()
        self.asked = self.spoke = self.finished = self.ended = 0.0
        self.response: Response | None = None
        self.error: BaseException | None = None
        self.model = self.request_id = self.parent = ""

    def ask(self) -> None:
        """The model is asked, perhaps once more."""
        self.asked = self.asked or perf_counter()

    def hear(self) -> None:
        """The model's first delta is there."""
        self.spoke = perf_counter()

    def finish(self) -> None:
        """The model said its last word."""
        self.finished = perf_counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.error = error
        self.ended = perf_counter()
        if self.meter is not None:
            self.meter.take(self)

    @property
    def overhead_s(self) -> float:
        """Seconds in which the client waited for this server and not for the model: before the model was asked, and
        after its last word. What is done to a delta while the model makes the next one is nobody's wait.
        """
        if not self.finished:
            return self.ended - self.began
        return self.asked - self.began + self.ended - self.finished


class Meter:
    """The figures of one engine; every method is called on its event loop.

    Attributes:
        listener: is given every watch that ended, after it was counted; for traces.
    """

    def __init__(self) -> None:
        self.listener: Callable[[ResponseTimer], None] | None = None
        self.requests = Counter(
            "antiphon_http_requests_total", "HTTP requests answered.", ("method", "route", "status")
        )
        self.errors = Counter("antiphon_errors_total", "Errors that were answered, by their code.", ("code",))
        self.responses = Counter("antiphon_responses_total", "Responses, by how they ended.", ("status",))
        self.tokens = Counter("antiphon_tokens_total", "Tokens the model counted.", ("direction",))
        self.first = Histogram("antiphon_time_to_first_token_seconds", "From the request to the model's first delta.")
        self.duration = Histogram("antiphon_response_duration_seconds", "From the request to the end of the response.")
        self.overhead = Histogram(
            "antiphon_overhead_seconds", "Of the duration: before the model was asked and after its last word."
        )
        self.webhook_attempts = Counter(
            "antiphon_webhook_attempts_total", "Attempts to deliver a webhook: delivered or failed.", ("result",)
        )
        self.webhooks_given_up = Counter("antiphon_webhooks_given_up_total", "Webhooks that will not be delivered.")

    def take(self, timer: ResponseTimer) -> None:
        """Count a response that ended, however it did."""
        self.duration.observe(timer.ended - timer.began)
        if timer.spoke:
            self.first.observe(timer.spoke - timer.began)
        response = timer.response
        if response is None:
            self.responses.add(1, "failed" if isinstance(timer.error, Exception) else "cancelled")
        else:
            self.overhead.observe(timer.overhead_s)
            self.responses.add(1, response.status)
            if response.usage is not None:
                self.tokens.add(response.usage.input_tokens, "input")
                self.tokens.add(response.usage.output_tokens, "output")
        if self.listener is not None:
            self.listener(timer)

    def text(self, store: StoreStats, *, streams: int, requests: int) -> bytes:
        """All figures for Prometheus.

        Args:
            streams: responses that are being streamed.
            requests: HTTP requests that are being served.
        """
        families: list[Family] = [
            self.requests, self.errors, self.responses, self.tokens, self.first, self.duration, self.overhead,
            self.webhook_attempts, self.webhooks_given_up,
            Reading("antiphon_open_requests", "HTTP requests being served.", requests),
            Reading("antiphon_open_streams", "Responses being streamed.", streams),
            *_of_store(store),
        ]  # fmt: skip
        return exposition(families)


def _of_store(store: StoreStats) -> list[Family]:
    families: list[Family] = [
        Reading("antiphon_store_writes_pending", "Writes that wait for the store or are under way.", store.writes),
        Reading("antiphon_store_reads_pending", "Reads that wait for the store or are under way.", store.reads),
        Reading("antiphon_store_used_bytes", "Bytes that the store's content takes.", store.used_bytes),
        Reading("antiphon_store_file_bytes", "Bytes that the store takes of the disk.", store.file_bytes),
        Reading("antiphon_webhooks_waiting", "Webhooks that wait to be delivered.", store.deliveries),
    ]
    if store.groups is not None:
        commits = store.groups.count
        families.append(Reading("antiphon_store_commits_total", "Transactions committed.", commits, "counter"))
        families.append(store.groups)
    return families
