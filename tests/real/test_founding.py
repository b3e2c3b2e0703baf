"""The founding document, from itself: its examples run, its signatures hold, the table in the docs is true.

Its code is taken out of it and run as it stands; all that is changed is where the clients are imported from.
"""

import ast
import asyncio
import gc
import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from antiphon import AsyncOpenAI, OpenAI
from antiphon.assembly import open_engine
from antiphon.client import ToolCall
from antiphon.config import Config
from antiphon.engine import Engine
from antiphon.models import Call, Finish, Usage
from antiphon.models.embedded.llamacpp import EmbeddedServer
from antiphon.models.scripted import ScriptedModel
from antiphon.store.sqlite import SqliteStore
from antiphon.testing.inprocess import scripted
from antiphon.testing.serving import OneModel, serving

pytestmark = [
    # The document's asynchronous example does not close its client, whose loop has gone when its sockets do.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "founding-document.txt").read_text()
LINES = TEXT.split("\n")
SMALL = "smollm2-135m-instruct"

DEFAULT = Config(default_vector_store="docs")
"""The document names no vector store: there is one that is meant then."""

PRINTS = {"Basic response", "Streaming response", "Compact a long conversation"}
"""Examples that print something in any case."""


@dataclass(frozen=True)
class Example:
    """A few lines of the document with a comment, or a heading, that says what they are."""

    title: str
    statements: tuple[ast.stmt, ...]

    @property
    def defines(self) -> set[str]:
        return {node.id for node in self._names() if isinstance(node.ctx, ast.Store)} | set(self._imports())

    @property
    def uses(self) -> set[str]:
        return {node.id for node in self._names() if isinstance(node.ctx, ast.Load)}

    def _names(self) -> Iterator[ast.Name]:
        nodes = (node for statement in self.statements for node in ast.walk(statement))
        return (node for node in nodes if isinstance(node, ast.Name))

    def _imports(self) -> Iterator[str]:
        for statement in self.statements:
            if isinstance(statement, ast.Import | ast.ImportFrom):
                yield from (alias.name for alias in statement.names)


def blocks() -> Iterator[tuple[int, str]]:
    """The document's code: whatever begins like Python or a dict, as far as it parses."""
    line = 0
    while line < len(LINES):
        end = next((end for end in range(len(LINES), line, -1) if begins(LINES[line]) and parses(line, end)), None)
        if end is not None:
            yield line, "\n".join(LINES[line:end])
        line = end or line + 1


def begins(text: str) -> bool:
    return text.startswith(("from ", "import ", "# ", "{"))


@cache
def parses(start: int, end: int) -> bool:
    try:
        ast.parse("\n".join(LINES[start:end]))
    except SyntaxError:
        return False
    return True


def examples() -> Iterator[Example]:
    """The code that asks for something, cut at its comments."""
    for start, code in blocks():
        if "client" in code:
            yield from cut(code, heading=next(text for text in reversed(LINES[:start]) if text))


def cut(code: str, heading: str) -> Iterator[Example]:
    comments = {n + 1: text[2:] for n, text in enumerate(code.split("\n")) if text.startswith("# ")}
    title, group = heading, list[ast.stmt]()
    for statement in ast.parse(code).body:
        above = [n for n in comments if n < statement.lineno]
        if above:
            if group:
                yield Example(title, tuple(group))
            title, group = comments.pop(max(above)), []
            comments = {n: text for n, text in comments.items() if n > max(above)}
        group.append(statement)
    yield Example(title, tuple(group))


EXAMPLES = list(examples())
ASKING = [example for example in EXAMPLES if example.title != "Usage examples:" and example.title != "Best Practices"]


def program(example: Example) -> str:
    """The example, behind those of the document that define what it uses."""
    before: list[Example] = []
    missing = example.uses - example.defines
    for earlier in reversed(EXAMPLES[: EXAMPLES.index(example)]):
        if earlier.defines & missing:
            before.insert(0, earlier)
            missing = (missing - earlier.defines) | (earlier.uses - earlier.defines)
    body = [statement for one in [*before, example] for statement in one.statements]
    code = ast.unparse(ast.Module(body, []))
    changed, count = re.subn(r"^from openai import ((?:Async)?OpenAI)$", r"from antiphon import \1", code, flags=re.M)
    assert count >= 1
    return changed


def run(example: Example) -> dict[str, Any]:
    """What the program leaves behind: among other things clients that nobody closed, which are collected here."""
    namespace: dict[str, Any] = {"__name__": "founding"}
    exec(compile(program(example), example.title, "exec"), namespace)
    gc.collect()
    return namespace


def test_the_examples_are_those_that_the_document_has() -> None:
    assert [example.title for example in EXAMPLES] == [
        "Usage examples:",
        "Basic response",
        "With file search",
        "With computer use (beta)",
        "With code patching",
        "Multi-turn conversation",
        "Streaming response",
        "Best Practices",
        "1. Use for complex multi-step tasks",
        "2. Handle tool calls",
        "3. Store important responses",
        "Retrieve later",
        "Compact a long conversation",
        "Async Usage",
    ]


# The embedded model, over HTTP and in this process


@asynccontextmanager
async def speaking_of(config: Config, url: str) -> AsyncGenerator[Engine]:
    """An engine whose responses have the id that the document names."""
    async with open_engine(config, None, url, roster=OneModel(ScriptedModel("We spoke of Ada's garden."))) as engine:
        made = engine.ids
        engine.ids = lambda prefix: "resp-abc123" if prefix == "resp" else made(prefix)
        yield engine


def discussed(folder: Path) -> Path:
    """A folder in which there is the "previous discussion" that an example goes on with."""
    with OpenAI(data=folder, engine=speaking_of) as client:
        assert client.responses.create(model="gpt-4", input="Let us talk about gardens.").id == "resp-abc123"
        docs = client.vector_stores.create(name="docs")
        text = b"Python is a programming language."
        client.vector_stores.files.upload_and_poll(vector_store_id=docs.id, file=("python.txt", text))
    return folder


@contextmanager
def served(settings: dict[str, str]) -> Iterator[dict[str, str]]:
    command = [sys.executable, "-m", "antiphon", "serve", "--port", "0"]
    environment = {**os.environ, **settings}
    with subprocess.Popen(
        command, env=environment, stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        said = ""
        while not (found := re.search(r"serves (http://\S+)", said)):
            line = process.stdout.readline()
            assert line, said
            said += line
        try:
            yield {"OPENAI_BASE_URL": found[1], "OPENAI_API_KEY": "none"}
        finally:
            process.terminate()
            process.communicate(timeout=30)


@contextmanager
def hosted(settings: dict[str, str]) -> Iterator[dict[str, str]]:
    """One client stays open, so that the engine does too."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in settings.items():
            environment.setenv(name, value)
        client = OpenAI()
    with client:
        client.models.list()
        yield settings


@pytest.fixture(scope="module", params=[served, hosted], ids=["http", "inprocess"])
def world(
    request: pytest.FixtureRequest, small_server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """Where the examples run: the environment that makes them run there.

    Nothing in them bounds an answer, and this model may ramble on till its context is full: the bound is set here.
    """
    settings = {
        "ANTIPHON_DATA": str(discussed(tmp_path_factory.mktemp("founding"))),
        "ANTIPHON_UPSTREAM": small_server.base_url,
        "ANTIPHON_UPSTREAM_KEY": small_server.api_key,
        "ANTIPHON_UPSTREAM_OPTIONS": json.dumps({"extra": {"max_tokens": 128}}),
        "ANTIPHON_ALIASES": f"gpt-4={SMALL}",
        "ANTIPHON_DEFAULT_VECTOR_STORE": "docs",
    }
    with request.param(settings) as environment:
        yield environment


@pytest.mark.real
@pytest.mark.timeout(600)
@pytest.mark.parametrize("example", ASKING, ids=lambda example: example.title)
def test_an_example_runs_on_the_embedded_model(
    example: Example, world: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in world.items():
        monkeypatch.setenv(name, value)
    left = run(example)
    if (client := left.get("client")) is not None:
        client.close()
    check(example, left, capsys.readouterr().out)


def check(example: Example, left: dict[str, Any], printed: str) -> None:
    """That it did what the document says it does."""
    if example.title in PRINTS:
        assert printed.strip()
        assert "ResponseOutputText" not in printed
    if example.title == "Async Usage":
        assert left["content"]
        assert left["content"] == str(left["content"])
    if example.title == "Compact a long conversation":
        compacted = left["compacted"]
        lines = ["Original tokens: ", "Compacted tokens: ", "Reduction: "]
        figures = [compacted.original_token_count, compacted.token_count, f"{compacted.reduction_percentage}%"]
        assert printed.splitlines()[-3:] == [f"{line}{figure}" for line, figure in zip(lines, figures, strict=True)]
        assert compacted.original_token_count > 0
    if example.title == "Retrieve later":
        assert left["stored"] == left["response"]


# The same on a model that says what it is told to, quickly


@pytest.fixture
async def scripted_world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncGenerator[None]:
    store = await SqliteStore.open(await asyncio.to_thread(discussed, tmp_path))
    async with serving(ScriptedModel(["Hel", "lo!"], again=True), store=store, config=DEFAULT) as url:
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        yield
    await store.close()


@pytest.mark.parametrize("example", ASKING, ids=lambda example: example.title)
async def test_an_example_gets_what_the_model_says(
    example: Example, scripted_world: None, capsys: pytest.CaptureFixture[str]
) -> None:
    left = await asyncio.to_thread(run, example)
    check(example, left, capsys.readouterr().out)
    assert str(left.get("content", "Hello!")) == "Hello!"
    if client := left.get("client"):
        client.close()


# Signatures, types and tools


@dataclass(frozen=True)
class Signature:
    """A method as the document has it."""

    name: str
    parameters: tuple[str, ...]


def signatures() -> Iterator[Signature]:
    for head in re.finditer(r'^def ([\w.]+)\(.*?^    """.*?"""$', TEXT, re.MULTILINE | re.DOTALL):
        parsed = ast.parse(head[0].replace(f"def {head[1]}", "def method", 1)).body[0]
        assert isinstance(parsed, ast.FunctionDef)
        named = [*parsed.args.args, *parsed.args.kwonlyargs]
        yield Signature(head[1], tuple(argument.arg for argument in named if argument.arg != "self"))


SIGNATURES = list(signatures())


def test_the_signatures_are_those_that_the_document_has() -> None:
    assert [signature.name for signature in SIGNATURES] == [
        "create", "retrieve", "delete", "cancel", "stream",
        "parse", "input_items.list", "input_tokens.count", "compact",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", [OpenAI, AsyncOpenAI])
@pytest.mark.parametrize("signature", SIGNATURES, ids=lambda signature: signature.name)
def test_a_method_takes_every_parameter_of_the_document(signature: Signature, kind: type[Any]) -> None:
    method: Any = kind(base_url="http://127.0.0.1:1/v1", api_key="none").responses
    for part in signature.name.split("."):
        method = getattr(method, part)
    taken = inspect.signature(method)
    assert set(signature.parameters) <= set(taken.parameters)
    taken.bind(**dict.fromkeys(signature.parameters))


def documented_types() -> dict[str, dict[str, str]]:
    """The document's classes, each with its fields and how it types them."""
    code = next(code for _, code in blocks() if "class ToolCall" in code)
    return {
        node.name: {
            field.target.id: ast.unparse(field.annotation)
            for field in node.body
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        }
        for node in ast.parse(code).body
        if isinstance(node, ast.ClassDef)
    }


async def test_results_have_every_field_of_the_document() -> None:
    tool: Any = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    async with (
        serving(
            ScriptedModel(["Hello!", Call(0, "f", "{}", "call_1"), Finish("stop", Usage(input=3, output=4))])
        ) as url,
        AsyncOpenAI(base_url=url, api_key="none") as client,
    ):
        response = await client.responses.create(model="gpt-4", input="hi", tools=[tool])
    assert response.tool_calls is not None
    real = {
        "Response": response,
        "ResponseContent": response.output[0],
        "ToolCall": response.tool_calls[0],
        "Usage": response.usage,
    }
    documented = documented_types()
    assert set(documented) == set(real)
    for name, fields in documented.items():
        for field, kind in fields.items():
            value = getattr(real[name], field)
            if kind in ("str", "int"):
                assert value == {"str": str, "int": int}[kind](value), f"{name}.{field}"
    assert isinstance(response.tool_calls[0], ToolCall)
    assert (response.object, response.status) == ("response", "completed")


def documented_tools() -> list[dict[str, Any]]:
    return [ast.literal_eval(code) for _, code in blocks() if code.startswith("{")]


@pytest.mark.parametrize("tool", documented_tools(), ids=lambda tool: tool["type"])
def test_a_tool_of_the_document_runs(tool: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTIPHON_DEFAULT_VECTOR_STORE", "docs")
    with OpenAI(data=tmp_path, engine=scripted(ScriptedModel("ok")), max_retries=0) as client:
        client.vector_stores.create(name="docs")
        assert client.responses.create(model="gpt-4", input="hi", tools=[tool]).output_text == "ok"


def test_the_docs_say_what_runs() -> None:
    page = (DOCS / "founding.md").read_text()
    rows = re.findall(r"^\| (.+?) \| (.+?) \|$", page, re.MULTILINE)
    examples = {example.title: "runs" for example in ASKING}
    tools = {f"`{tool['type']}`": "runs" for tool in documented_tools()}
    methods = {f"`{signature.name}`": "every parameter is taken" for signature in SIGNATURES}
    told = dict(rows)
    for what in (examples, tools, methods):
        assert {name: told.get(name) for name in what} == what
