"""The API's document against the server that it describes, with generated requests, for a bounded time."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from antiphon.models.scripted import ScriptedModel
from antiphon.testing.serving import serving

TIME_S = 20
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


async def test_the_server_does_what_its_document_says(tmp_path: Path) -> None:
    pytest.importorskip("schemathesis", reason="an environment from before `make env` had it")
    # An answer that is also what a request for JSON wants.
    async with serving(ScriptedModel("{}", again=True)) as url:
        checking = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli", "run", url.replace("/v1", "/openapi.json")),
            *("--checks", CHECKS, "--phases", "coverage,fuzzing", "--max-time", str(TIME_S), "--continue-on-failure"),
            *("--generation-deterministic", "--no-shrink", "--warnings", "off", "--no-color"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=tmp_path,
        )
        told, _ = await checking.communicate()
    assert checking.returncode == 0, told.decode()
    assert b" 0 generated" not in told
