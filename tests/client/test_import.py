"""What importing brings in, seen in processes of its own."""

import subprocess
import sys

import pytest

HEAVY = ("openai", "httpx2", "pydantic", "antiphon.client", "antiphon.engine", "starlette", "aiohttp", "sqlalchemy")


def loaded(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_the_package_alone_brings_nothing_in() -> None:
    assert not loaded("import antiphon; antiphon.__version__; dir(antiphon)") & set(HEAVY)


def test_a_client_brings_no_engine_in() -> None:
    modules = loaded("from antiphon import OpenAI; OpenAI(base_url='http://127.0.0.1:1/v1', api_key='none')")
    assert "openai" in modules
    assert not modules & {"antiphon.engine", "antiphon.http.app", "starlette", "msgspec", "sqlalchemy", "uvicorn"}


@pytest.mark.parametrize("module", ["cli.serve", "cli", "http.app", "cli.doctor", "cli.maintenance", "testing.serving"])
def test_the_server_brings_no_client_in(module: str) -> None:
    assert not loaded(f"import antiphon.{module}") & {"openai", "httpx2", "pydantic", "antiphon.client"}
