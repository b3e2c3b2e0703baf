"""The handler of ``/metrics``."""

from __future__ import annotations

from antiphon.http.exchange import Exchange
from antiphon.telemetry.metrics import CONTENT_TYPE


async def metrics(exchange: Exchange) -> None:
    """``GET /metrics``: the server's metrics for Prometheus."""
    stats, monitor = await exchange.engine.maintenance.stats(), exchange.monitor
    body = exchange.engine.meter.render(stats, streams=len(monitor.streams), requests=len(monitor.exchanges))
    await exchange.start(200, CONTENT_TYPE, len(body))
    await exchange.write(body)
