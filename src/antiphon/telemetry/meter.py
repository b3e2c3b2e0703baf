"""What a server measures of itself: one ``ResponseTimer`` per response, one ``Meter`` per engine.

Metrics say how much and how long, never what: no text of a prompt, an answer or an error comes here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter, time
from types import TracebackType
from typing import Self

import msgspec

from antiphon.telemetry.metrics import (
    Counter,
    Family,
    Histogram,
    Reading,
    render_families,
)
from antiphon.wire.response import Response


class StoreStats(msgspec.Struct, frozen=True, kw_only=True):
    """How large and how busy a store is.

    Attributes:
        used_bytes: size of its content, without free space within files.
        file_bytes: size on disk; 0 for a store in memory.
        writes: writes waiting or under way; ``reads`` likewise.
        deliveries: webhooks waiting to be delivered.
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
        started_at: Unix seconds.
        started: the whole request had arrived.
        requested: the model was first asked.
        first_delta: the model's first delta arrived.
        finished: the model's last delta arrived.
        ended: the terminal event had been handed to the client's connection.
        response: the response as it ended; None when it failed or its client left.
        error: what it failed with; None when it did not.
        model: the model that really answers.
        request_id: ``req_…``, empty when no HTTP request is behind it.
        parent: the caller's ``traceparent``, as it was sent.
        helps: what was done so that the model's calls come right, once for each sample that it was done in.
    """

    __slots__ = (
        "ended",
        "error",
        "finished",
        "first_delta",
        "helps",
        "meter",
        "model",
        "parent",
        "request_id",
        "requested",
        "response",
        "started",
        "started_at",
    )

    def __init__(self, meter: Meter | None = None) -> None:
        self.meter = meter
        self.started_at = time()
        self.started = perf_counter()
        self.requested = self.first_delta = self.finished = self.ended = 0.0
        self.response: Response | None = None
        self.error: BaseException | None = None
        self.model = self.request_id = self.parent = ""
        self.helps: list[str] = []

    def note_request(self) -> None:
        """The model is about to be asked, perhaps again."""
        self.requested = self.requested or perf_counter()

    def note_first_delta(self) -> None:
        """The model's first delta has arrived."""
        self.first_delta = perf_counter()

    def note_helps(self, measures: Sequence[str]) -> None:
        """The model's calls were helped."""
        self.helps += measures

    def note_finish(self) -> None:
        """The model's last delta has arrived."""
        self.finished = perf_counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.error = error
        self.ended = perf_counter()
        if self.meter is not None:
            self.meter.record(self)

    @property
    def overhead_s(self) -> float:
        """Seconds in which the client waited for this server and not for the model: before the model was asked, and
        after its last delta. Work on a delta while the model makes the next one keeps nobody waiting.
        """
        if not self.finished:
            return self.ended - self.started
        return self.requested - self.started + self.ended - self.finished


class Meter:
    """The metrics of one engine; every method is called on its event loop.

    Attributes:
        listener: called with every timer that ended, after it was counted; for traces.
    """

    def __init__(self) -> None:
        self.listener: Callable[[ResponseTimer], None] | None = None
        self.requests = Counter(
            "antiphon_http_requests_total", "HTTP requests answered.", ("method", "route", "status")
        )
        self.errors = Counter("antiphon_errors_total", "Errors that were answered, by their code.", ("code",))
        self.responses = Counter("antiphon_responses_total", "Responses, by how they ended.", ("status",))
        self.tokens = Counter("antiphon_tokens_total", "Tokens the model counted.", ("direction",))
        self.time_to_first_token = Histogram(
            "antiphon_time_to_first_token_seconds", "From the request to the model's first delta."
        )
        self.duration = Histogram("antiphon_response_duration_seconds", "From the request to the end of the response.")
        self.overhead = Histogram(
            "antiphon_overhead_seconds", "Of the duration: before the model was asked and after its last word."
        )
        self.tool_helps = Counter(
            "antiphon_tool_help_total",
            "Samples in which a model's calls were repaired, by repair.",
            ("measure",),
        )
        self.webhook_attempts = Counter(
            "antiphon_webhook_attempts_total", "Attempts to deliver a webhook: delivered or failed.", ("result",)
        )
        self.webhooks_given_up = Counter("antiphon_webhooks_given_up_total", "Webhooks that will not be delivered.")

    def record(self, timer: ResponseTimer) -> None:
        """Count a response that ended, however it did."""
        self.duration.observe(timer.ended - timer.started)
        if timer.first_delta:
            self.time_to_first_token.observe(timer.first_delta - timer.started)
        for measure in timer.helps:
            self.tool_helps.add(1, measure)
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

    def render(self, store: StoreStats, *, streams: int, requests: int) -> bytes:
        """All metrics in Prometheus's render_families format.

        Args:
            streams: responses that are being streamed.
            requests: HTTP requests that are being served.
        """
        families: list[Family] = [
            self.requests, self.errors, self.responses, self.tokens,
            self.time_to_first_token, self.duration, self.overhead, self.tool_helps,
            self.webhook_attempts, self.webhooks_given_up,
            Reading("antiphon_open_requests", "HTTP requests being served.", requests),
            Reading("antiphon_open_streams", "Responses being streamed.", streams),
            *_store_families(store),
        ]  # fmt: skip
        return render_families(families)


def _store_families(store: StoreStats) -> list[Family]:
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
