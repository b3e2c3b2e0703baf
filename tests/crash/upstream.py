"""A model server for crashes: what it says follows from the prompt alone; it says it slowly, and goes on where told.

A user's last message is a story: ``story NAME words=N tool=write|read|none``. The first turn says N words, and calls
the tool; the turn after its output says N more. A begun answer (``continue_final_message``) that is no beginning of
what it would say is answered with an error, so that a wrong prefix cannot go unnoticed.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import logging
import re
from typing import Any

from aiohttp import web

STORY = re.compile(r"story (\S+) words=(\d+) tool=(\w+)")


def words(name: str, turn: int, count: int) -> list[str]:
    """What a turn says, in pieces; each names its place, so that a piece lost, doubled or moved is seen."""
    return [f"{name}.{turn}.{n} " for n in range(count)]


def turn_of(messages: list[dict[str, Any]]) -> tuple[re.Match[str], int]:
    """The story, and which of its turns is asked for."""
    told = [message["content"] for message in messages if message["role"] == "user"]
    story = STORY.search(told[-1])
    assert story is not None, told
    return story, sum(message["role"] == "tool" for message in messages)


def pieces(body: dict[str, Any]) -> tuple[list[str], str]:
    """What is still to be said, and the tool that is called then."""
    messages = body["messages"]
    begun = messages.pop()["content"] if body.get("continue_final_message") else ""
    story, turn = turn_of(messages)
    name, count, tool = story[1], int(story[2]), story[3]
    said = words(name, turn, count)
    while begun:
        assert said and begun.startswith(said[0]), f"{begun[:80]!r} is no beginning of {name}, turn {turn}"
        begun = begun.removeprefix(said.pop(0))
    return said, tool if turn == 0 and tool != "none" else ""


async def complete(request: web.Request) -> web.StreamResponse:
    body = await request.json()
    try:
        said, tool = pieces(body)
    except AssertionError as error:
        request.app["faults"].append(str(error))
        return web.json_response({"error": {"message": str(error)}}, status=400)
    answer = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await answer.prepare(request)

    async def send(delta: dict[str, Any], finish: str | None = None, **more: Any) -> None:
        chunk = {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}
        await answer.write(f"data: {json.dumps(chunk)}\n\n".encode())

    for piece in said:
        await send({"content": piece})
        await asyncio.sleep(request.app["pause_s"])
    if tool:
        call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": tool, "arguments": '{"a":1}'}}
        await send({"tool_calls": [call]})
    usage = {"prompt_tokens": 5, "completion_tokens": max(1, len(said)), "total_tokens": 5 + max(1, len(said))}
    await send({}, "tool_calls" if tool else "stop", usage=usage)
    await answer.write(b"data: [DONE]\n\n")
    return answer


async def embed(request: web.Request) -> web.Response:
    """A vector for each text, which follows from it alone."""
    texts = (await request.json())["input"]
    await asyncio.sleep(request.app["pause_s"])
    rows = [hashlib.sha256(text.encode()).digest()[:16] for text in texts]
    data = [{"index": index, "embedding": [byte - 127.5 for byte in row]} for index, row in enumerate(rows)]
    return web.json_response({"data": data})


async def models(request: web.Request) -> web.Response:
    return web.json_response({"data": [{"id": "teller"}]})


async def faults(request: web.Request) -> web.Response:
    return web.json_response(request.app["faults"])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--pause-s", type=float, default=0.02)
    options = parser.parse_args()
    # Its clients die all the time.
    logging.disable()
    app = web.Application()
    app["faults"], app["pause_s"] = [], options.pause_s
    app.router.add_post("/v1/chat/completions", complete)
    app.router.add_post("/v1/embeddings", embed)
    app.router.add_get("/v1/models", models)
    app.router.add_get("/faults", faults)
    web.run_app(app, host="127.0.0.1", port=options.port, print=None)


if __name__ == "__main__":
    main()
