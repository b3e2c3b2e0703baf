"""A machine with Codex on it: a home of its own, and a server whose model is played."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import aiohttp
import msgspec
from scripted_upstream import Answer, Asked, Upstream, delta, finish, plain, sse, text, usage

Provider: TypeAlias = Literal["ours", "with catalogue", "with sockets", "built in"]
"""How Codex is told of the server: as a provider of the user's, which may say where its models are described or that
it has WebSockets; or as the address of the one that is built in.
"""
_TASK_S = 90
_KEYS = {"OPENAI_API_KEY": "none", "CODEX_API_KEY": "none"}


@dataclass
class Machine:
    """A machine with a server and Codex on it.

    Attributes:
        url: the server's, with ``/v1``.
        upstream: what its model says is played here.
        work: the folder that Codex works in; ``home``: that of its own files.
    """

    codex: str
    url: str
    upstream: Upstream
    work: Path
    home: Path

    @property
    def environ(self) -> dict[str, str]:
        """What Codex is started with: nothing of the user's who runs the tests."""
        return {"PATH": os.environ["PATH"], "HOME": str(self.home), "CODEX_HOME": str(self.home)}

    @property
    def prompts(self) -> Sequence[Asked]:
        """What the model was asked."""
        return [asked for asked in self.upstream.asked if asked.path.endswith("/chat/completions")]

    async def exec(self, model: str, *args: str, provider: Provider = "ours", resume: bool = False) -> str:
        """Has Codex do the task, in its latest session with ``resume``; gives what it printed, after it went well."""
        sandbox = ("--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox")
        session = ("resume", "--last") if resume else ()
        return await self.codex_says("exec", *session, "-c", f'model="{model}"', *sandbox, *args, provider=provider)

    async def metrics(self) -> str:
        """The server's, which count the requests that it answered."""
        return await _read(self.url.removesuffix("/v1") + "/metrics")

    async def codex_says(self, *args: str, provider: Provider = "ours") -> str:
        """What Codex printed, which goes to the server by way of that provider."""
        settings = _settings(self.url, provider)
        return await run(self.codex, *settings, *args, environ=self.environ | _KEYS, cwd=self.work)


async def _read(url: str) -> str:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return await answer.text()


def _settings(url: str, provider: Provider) -> tuple[str, ...]:
    if provider == "built in":
        return ("-c", f'openai_base_url="{url}"')
    more = {
        "ours": "",
        "with catalogue": f',model_catalog_url="{url}/models",experimental_bearer_token="none"',
        "with sockets": ",supports_websockets=true",
    }[provider]
    whole = f'model_providers.antiphon={{name="Antiphon",base_url="{url}",wire_api="responses"{more}}}'
    return ("-c", 'model_provider="antiphon"', "-c", whole)


async def run(*command: str, environ: dict[str, str], cwd: Path | None = None) -> str:
    """What a command printed, after it went well."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env=environ,
        cwd=cwd,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        out, _ = await asyncio.wait_for(process.communicate(), _TASK_S)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
    printed = out.decode()
    assert process.returncode == 0, printed[-4000:]
    return printed


@asynccontextmanager
async def machine(
    codex: str, folder: Path, *, models: Sequence[str], window: int | None = None, **settings: str
) -> AsyncIterator[Machine]:
    """A server on models that are played, with their context ``window``; ``settings`` are variables of it."""
    work, home = folder / "work", folder / "home"
    work.mkdir()
    home.mkdir()
    async with Upstream() as upstream:
        upstream.fixed["/v1/models"] = plain({"data": [{"id": name, "max_model_len": window} for name in models]})
        flags = ("serve", "--port", "0", "--data", str(folder / "data"), "--upstream", upstream.url)
        server = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "antiphon", *flags, stderr=asyncio.subprocess.PIPE, env={**os.environ, **settings}
        )
        assert server.stderr is not None
        said = ""
        while "serves http" not in said:
            line = await asyncio.wait_for(server.stderr.readline(), 30)
            assert line, said
            said += line.decode()
        rest = asyncio.create_task(server.stderr.read())
        url = next(word for word in said.split() if word.startswith("http://"))
        try:
            yield Machine(codex, url, upstream, work, home)
        finally:
            server.terminate()
            await server.wait()
            await rest


def calls(name: str, call_id: str, arguments: Any, *, used: int = 100) -> Answer:
    """An answer of the model that is one call, after a prompt of ``used`` tokens."""
    function = {"name": name, "arguments": msgspec.json.encode(arguments).decode()}
    return sse(
        delta(tool_calls=[{"index": 0, "id": call_id, "type": "function", "function": function}]),
        finish("tool_calls"),
        usage(used, 10),
    )


def says(words: str) -> Answer:
    """An answer of the model that is a text."""
    return sse(text(words), finish())
