"""The whole thing for real: the command, the socket, the SDK, the embedded model, the database, ``kill -9``."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import openai
import pydantic
import pytest
from openai import OpenAI

from antiphon.cli.check_stream import check_stream
from antiphon.models.embedded import SLOTS
from antiphon.models.embedded.catalogue import load
from antiphon.models.embedded.download import fetch
from antiphon.models.embedded.llamacpp import memory_bytes

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "Get the weather of a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]}},
        "required": ["city", "unit"],
        "additionalProperties": False,
    },
    "strict": True,
}


class Served:
    """A server process: its base URL, and what it printed."""

    def __init__(self, data: Path, model: str) -> None:
        self.log = data / "server.log"
        with self.log.open("wb") as sink:
            command = [sys.executable, "-m", "antiphon", "serve", "--port", "0", "--data", str(data), "--model", model]
            self.process = subprocess.Popen(command, stderr=sink, stdout=sink)
        self.url = self._url()

    def _url(self) -> str:
        while self.process.poll() is None:
            if found := re.search(r"serves (http://\S+)", self.log.read_text()):
                return found[1]
            time.sleep(0.05)
        raise AssertionError(self.log.read_text())

    @property
    def child(self) -> int:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0])

    def client(self) -> OpenAI:
        return OpenAI(base_url=self.url, api_key="none", max_retries=0)

    def end(self, sign: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(sign)
        self.process.wait(30)


@contextmanager
def served(data: Path, model: Path | str) -> Iterator[Served]:
    server = Served(data, str(model))
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.end()


@pytest.fixture(scope="module")
def server(small_model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("data"), "smollm2-135m-instruct") as running:
        yield running


@pytest.fixture
def client(server: Served) -> Iterator[OpenAI]:
    with server.client() as made:
        yield made


def test_an_answer(client: OpenAI) -> None:
    raw = client.responses.with_raw_response.create(
        model="gpt-4",
        input={"role": "user", "content": "Hello!"},
        max_output_tokens=24,  # type: ignore[arg-type]
    )
    response = raw.parse()
    assert raw.headers["x-antiphon-model"] == "smollm2-135m-instruct"
    assert response.output_text
    assert response.usage is not None
    assert 0 < response.usage.output_tokens <= 24


def test_a_stream_is_what_it_says(client: OpenAI) -> None:
    with client.responses.stream(model="m", input="Count to three.", max_output_tokens=32) as stream:
        said = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
    assert said
    body = {"model": "m", "input": "Count to three.", "stream": True, "max_output_tokens": 32}
    with client.responses.with_streaming_response.create(**body) as answer:  # type: ignore[call-overload]
        recorded = answer.read()
    assert check_stream(recorded).findings == []


def test_a_cut_answer_is_incomplete(client: OpenAI) -> None:
    response = client.responses.create(model="m", input="Tell me a long story.", max_output_tokens=16)
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"


@pytest.mark.parametrize("choice", ["required", {"type": "function", "name": "get_weather"}])
def test_an_enforced_call_is_valid_even_here(client: OpenAI, choice: object) -> None:
    response = client.responses.create(
        model="m",
        input="What is the weather in Paris?",
        tools=[WEATHER],
        tool_choice=choice,  # type: ignore[arg-type,list-item]
    )
    (call,) = response.output
    assert call.type == "function_call"
    assert call.name == "get_weather"
    arguments = json.loads(call.arguments)
    assert isinstance(arguments["city"], str)
    assert arguments["unit"] in ("celsius", "fahrenheit")


@pytest.mark.parametrize(
    ("syntax", "definition", "pattern"),
    [
        ("lark", 'start: "go " WAY "\\n" "\\"now\\""\nWAY: "left" | "right"', 'go (left|right)\n"now"'),
        ("regex", "[A-Z]{3}/[0-9]{4}", "[A-Z]{3}/[0-9]{4}"),
    ],
)
def test_a_grammar_is_kept_even_here(client: OpenAI, syntax: str, definition: str, pattern: str) -> None:
    format = {"type": "grammar", "syntax": syntax, "definition": definition}
    response = client.responses.create(
        model="m",
        input="Do it.",
        tools=[{"type": "custom", "name": "do", "format": format}],  # type: ignore[list-item]
        tool_choice={"type": "custom", "name": "do"},
    )
    (call,) = response.output
    assert call.type == "custom_tool_call"
    assert re.fullmatch(pattern, call.input), call.input


def test_structured_output_is_enforced(client: OpenAI) -> None:
    class Person(pydantic.BaseModel):
        name: str
        age: int

    parsed = client.responses.parse(model="m", input="Jane is 54 years old.", text_format=Person).output_parsed
    assert isinstance(parsed, Person)


def test_logprobs(client: OpenAI) -> None:
    response = client.responses.create(
        model="m", input="Hi", max_output_tokens=16, include=["message.output_text.logprobs"], top_logprobs=2
    )
    logprobs = response.output[0].content[0].logprobs  # type: ignore[union-attr]
    assert logprobs
    assert all(len(entry.top_logprobs) == 2 and entry.logprob <= 0 for entry in logprobs)


def test_a_prompt_that_is_too_long(client: OpenAI) -> None:
    long = "word " * 20_000
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="m", input=long)
    assert caught.value.code == "context_length_exceeded"
    # What is left of it is short: reading a full window takes this model half a minute.
    chat = [{"role": "user", "content": "word " * 9_000}]
    short = client.responses.create(
        model="m",
        input=[*chat, {"role": "user", "content": "Hi"}],
        truncation="auto",
        max_output_tokens=16,  # type: ignore[list-item]
    )
    assert short.status in ("completed", "incomplete")


def test_malformed_arguments_in_the_history(client: OpenAI) -> None:
    response = client.responses.create(
        model="m",
        max_output_tokens=16,
        tools=[WEATHER],  # type: ignore[list-item]
        input=[
            {"role": "user", "content": "Weather?"},
            {"type": "function_call", "call_id": "c", "name": "get_weather", "arguments": '{"city": '},
            {"type": "function_call_output", "call_id": "c", "output": "sunny"},
        ],
    )
    assert response.status in ("completed", "incomplete")


def test_a_dead_model_fails_one_response_and_comes_back(server: Served, client: OpenAI) -> None:
    with pytest.raises(openai.APIError):
        for event in client.responses.create(model="m", input="Tell me a long story.", stream=True):
            if event.type == "response.output_text.delta":
                os.kill(server.child, signal.SIGKILL)
    assert client.responses.create(model="m", input="Hi", max_output_tokens=16).output_text


def test_kill_9_loses_nothing_and_leaves_nothing(small_model_path: Path, tmp_path: Path) -> None:
    with served(tmp_path, small_model_path) as first:
        with first.client() as client:
            one = client.responses.create(model="m", input="My name is Ada.", max_output_tokens=16)
            two = client.responses.create(model="m", input="Hi", previous_response_id=one.id, max_output_tokens=16)
        child = first.child
        second = subprocess.run(
            [
                sys.executable,
                "-m",
                "antiphon",
                "serve",
                "--port",
                "0",
                "--data",
                str(tmp_path),
                "--upstream",
                "http://x/v1",
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert second.returncode == 1
        assert str(first.process.pid) in second.stderr
        assert first.url in second.stderr
        first.end(signal.SIGKILL)
        until = time.monotonic() + 10
        while Path(f"/proc/{child}").exists() and time.monotonic() < until:
            time.sleep(0.05)
        assert not Path(f"/proc/{child}").exists()
    with served(tmp_path, small_model_path) as again, again.client() as client:
        assert client.responses.retrieve(two.id) == two
        three = client.responses.create(model="m", input="Who am I?", previous_response_id=two.id, max_output_tokens=16)
        assert three.usage is not None
        assert two.usage is not None
        assert three.usage.input_tokens > two.usage.input_tokens


@pytest.mark.timeout(1800)
def test_the_best_model_calls_a_function_of_its_own_accord_and_answers(tmp_path: Path) -> None:
    """What ``make serve`` takes where there is room. The first run on a machine fetches it (1.1 GB)."""
    best = load()[0]
    if best.pool_within(memory_bytes(), SLOTS) is None:
        pytest.skip(f"{best.name} needs more memory than is free here")
    fetch(best)
    with served(tmp_path, best.name) as server, server.client() as client:
        raw = client.responses.with_raw_response.create(
            model="gpt-4",
            input="What is the weather in Paris, in celsius?",
            tools=[WEATHER],  # type: ignore[list-item]
            temperature=0,
        )
        called = raw.parse()
        assert raw.headers["x-antiphon-model"] == best.name
        (call,) = (item for item in called.output if item.type == "function_call")
        assert json.loads(call.arguments)["city"].startswith("Paris")
        answer = client.responses.create(
            model="gpt-4",
            previous_response_id=called.id,
            input=[{"type": "function_call_output", "call_id": call.call_id, "output": "31 degrees, thunderstorm"}],
            temperature=0,
            max_output_tokens=64,
        )
        assert "31" in answer.output_text
