"""Both dialects as the official JavaScript SDK reads them. Skipped where ``make javascript`` could not install it."""

import asyncio
import json
import os
import shutil
from pathlib import Path

import pytest

from antiphon.models import Call, Finish, Text, Usage
from antiphon.models.scripted import ScriptedModel
from antiphon.testing.serving import serving

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "antiphon" / "javascript"
SCRIPT = Path(__file__).with_name("official.cjs")
DONE = Finish("stop", Usage(input=7, output=3))
CALL = Call(0, "weather", '{"city":"Paris"}', "c1")


@pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is missing")
@pytest.mark.skipif(not (CACHE / "node_modules" / "openai").is_dir(), reason="run `make javascript`, which needs npm")
async def test_the_official_javascript_sdk() -> None:
    model = ScriptedModel(
        [Text("Hi "), Text("you."), DONE],
        [CALL, DONE],
        [Text("Sunny."), DONE],
        [Text('{"n": 1}'), DONE],
        [Text('{"n": "one"}'), DONE],
        [Text("Hello"), DONE],
        [CALL, DONE],
    )
    async with serving(model) as url:
        environment = {**os.environ, "NODE_PATH": str(CACHE / "node_modules")}
        process = await asyncio.create_subprocess_exec(
            "node", str(SCRIPT), url, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, wrong = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, wrong.decode()
    found = json.loads(out)
    assert found["streamed"] == {"text": "Hi you.", "finish": "stop", "usage": 10}
    city = {"city": "Paris"}
    assert found["called"] == {"finish_reason": "tool_calls", "name": "weather", "arguments": city, "text": "Sunny."}
    assert found["shaped"]["parsed"] == {"n": 1}
    assert found["shaped"]["broken"]["code"] == "invalid_output", "a schema is checked in this dialect too"
    bad = {"kind": "BadRequestError", "status": 400}
    assert found["wrong"] == {**bad, "code": "decimal_above_max_value", "param": "temperature"}
    assert found["two"] == {**bad, "code": "unsupported_value", "param": "n"}
    assert (found["responses"]["text"], found["responses"]["call"]) == ("Hello", "weather")
    assert {"response.created", "response.completed"} <= set(found["responses"]["types"])
