"""The handler of ``/metrics``."""

from __future__ import annotations

from antiphon.http.exchange import Exchange
from antiphon.http.sse import Pulse
from antiphon.telemetry.metrics import CONTENT_TYPE


async def metrics(exchange: Exchange, pulse: Pulse) -> None:
    """``GET /metrics``: figures for Prometheus."""
    body = exchange.engine.meter.text(
        await exchange.engine.maintenance.stats(), streams=len(pulse.streams), requests=len(pulse.exchanges)
    )
    await exchange.start(200, CONTENT_TYPE, len(body))
    await exchange.write(body)
