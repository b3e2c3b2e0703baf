"""``antiphon run codex`` with a program in Codex's place, which tells what it was started with."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import tomllib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from scripted_upstream import Upstream, failure, plain

_RUN_S = 60
_STATUS = 7
_CODEX = f"""#!{sys.executable}
import json, os, pathlib, sys, urllib.request
settings = dict(word.split("=", 1) for flag, word in zip(sys.argv[1:], sys.argv[2:]) if flag == "-c")
url = json.loads(settings["model_providers.antiphon"].split("base_url = ")[1].split(",")[0])
with urllib.request.urlopen(url + "/models") as answer:
    models = json.load(answer)["data"]
told = {{"args": sys.argv[1:], "key": os.environ["ANTIPHON_API_KEY"], "models": models, "url": url}}
pathlib.Path(os.environ["TOLD"]).write_text(json.dumps(told))
sys.exit({_STATUS})
"""


@dataclass
class Place:
    """Where the command is run: ``told`` is what the program in Codex's place wrote."""

    upstream: Upstream
    folder: Path

    @property
    def told(self) -> dict[str, Any]:
        return json.loads((self.folder / "told.json").read_text())

    async def start(self, *args: str, **environ: str) -> asyncio.subprocess.Process:
        bound = {"PATH": str(self.folder / "bin"), "TOLD": str(self.folder / "told.json"), **environ}
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "antiphon", *args),
            env=os.environ | bound,
            stdin=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run(self, *args: str, **environ: str) -> tuple[int | None, str]:
        """The exit status, and what was said."""
        process = await self.start("run", "--data", str(self.folder / "data"), *args, **environ)
        _, said = await asyncio.wait_for(process.communicate(), _RUN_S)
        return process.returncode, said.decode()


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    program = tmp_path / "bin" / "codex"
    program.parent.mkdir()
    program.write_text(_CODEX)
    program.chmod(0o755)
    async with Upstream() as upstream:
        upstream.fixed["/v1/models"] = plain({"data": [{"id": "first"}, {"id": "second"}]})
        yield Place(upstream, tmp_path)


def settings_of(args: Sequence[str]) -> dict[str, Any]:
    """The settings among the arguments, as Codex reads them."""
    pairs = [word for flag, word in pairwise(args) if flag == "-c"]
    return tomllib.loads("\n".join(pairs))


def listens(url: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", urlsplit(url).port or 0)) == 0


async def test_a_server_is_started_for_it_and_ends_with_it(place: Place) -> None:
    status, said = await place.run("--upstream", place.upstream.url, "codex", "exec", "--json", "Say hello.")
    assert status == _STATUS, said
    told = place.told
    assert (told["args"][-3:], told["key"]) == (["exec", "--json", "Say hello."], "none")
    settings = settings_of(told["args"])
    assert (settings["model"], settings["model_provider"]) == ("first", "antiphon")
    provider = settings["model_providers"]["antiphon"]
    assert (provider["base_url"], provider["wire_api"]) == (told["url"], "responses")
    assert provider["model_catalog_url"] == told["url"] + "/models"
    assert [model["id"] for model in told["models"]] == ["first", "second"]
    assert not listens(told["url"])


async def test_the_server_of_the_folder_is_found_and_left_running(place: Place) -> None:
    flags = ("--port", "0", "--data", str(place.folder / "data"), "--upstream", place.upstream.url)
    server = await place.start("serve", *flags)
    assert server.stderr is not None
    while b"serves" not in (line := await asyncio.wait_for(server.stderr.readline(), 30)):
        assert line
    rest = asyncio.create_task(server.stderr.read())
    status, said = await place.run("--model", "second", "codex", ANTIPHON_API_KEY="sk-x")
    assert status == _STATUS, said
    told = place.told
    assert (told["url"].encode() in line, told["key"]) == (True, "sk-x")
    assert settings_of(told["args"])["model"] == "second"
    assert listens(told["url"])
    server.terminate()
    await asyncio.gather(server.wait(), rest)


async def test_what_is_missing_is_said(place: Place) -> None:
    status, said = await place.run("codex", PATH="/nowhere")
    assert (status, "npm install -g @openai/codex" in said) == (2, True)
    place.upstream.fixed["/v1/models"] = failure(500, "broken")
    status, said = await place.run("--upstream", place.upstream.url, "codex")
    assert (status, "answers 502" in said) == (2, True), said
    status, said = await place.run("--url", "http://127.0.0.1:1/v1", "codex")
    assert (status, "does not say what models it has" in said) == (2, True), said
    (place.folder / "bad.toml").write_text("embedding = 'upstream'")
    status, said = await place.run(
        "--config", str(place.folder / "bad.toml"), "--upstream", place.upstream.url, "codex"
    )
    assert (status, "embedding_url" in said, "did not start" in said) == (2, True, True), said
