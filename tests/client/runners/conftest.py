"""What the tests of runners share: calls as a response holds them."""

from collections.abc import Callable
from typing import Any

import pytest
from openai.types.responses import Response

from antiphon.client.sdk.tool_calls import ToolCall, tool_calls

Asked = Callable[..., ToolCall]


@pytest.fixture
def asked() -> Asked:
    """Makes the call that an output item is, read as the official SDK reads it."""

    def made(kind: str, **fields: Any) -> ToolCall:
        item = {"type": kind, "id": "item_1", "call_id": "call_1", "status": "completed", **fields}
        response = Response.construct(id="resp_1", output=[item])
        (call,) = tool_calls(response.output)
        return call

    return made
