"""Going on with a stream behind an event, without sending again what came before it.

The official helper keeps the state of the response while it reads: each text event has a ``snapshot``. So it must know
what there was when the reader left. It gets that by reading everything again; this server says it in a few events
(``x-antiphon-snapshot``), whose number the reader has already, so that the helper keeps them to itself. A server that
does not is asked for everything, as by the official helper.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

SNAPSHOT_HEADER: Final = "x-antiphon-snapshot"
"""Asks for the snapshot, and in the answer says that it is there."""


def resume(resource: Any, response_id: str, after: int, options: Mapping[str, Any]) -> Any:
    """The events behind number ``after``, with what the helper needs in front of them."""
    stream = resource.retrieve(response_id, stream=True, starting_after=after, **_ask_snapshot(options))
    if SNAPSHOT_HEADER in stream.response.headers:
        return stream
    stream.close()
    return resource.retrieve(response_id, stream=True, **options)


async def async_resume(resource: Any, response_id: str, after: int, options: Mapping[str, Any]) -> Any:
    """See ``resume``."""
    stream = await resource.retrieve(response_id, stream=True, starting_after=after, **_ask_snapshot(options))
    if SNAPSHOT_HEADER in stream.response.headers:
        return stream
    await stream.close()
    return await resource.retrieve(response_id, stream=True, **options)


def _ask_snapshot(options: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**options, "extra_headers": {**(options.get("extra_headers") or {}), SNAPSHOT_HEADER: "true"}}
