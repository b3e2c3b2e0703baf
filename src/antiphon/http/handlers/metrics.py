"""The handler of ``/metrics``."""

from __future__ import annotations

from antiphon.http.exchange import Exchange
from antiphon.http.sse import ConnectionMonitor
from antiphon.telemetry.metrics import CONTENT_TYPE


async def metrics(exchange: Exchange, monitor: ConnectionMonitor) -> None:
    """``GET /metrics``: the server's metrics for Prometheus."""
    body = exchange.engine.meter.render(
        await exchange.engine.maintenance.stats(), streams=len(monitor.streams), requests=len(monitor.exchanges)
    )
    await exchange.start(200, CONTENT_TYPE, len(body))
    await exchange.write(body)
